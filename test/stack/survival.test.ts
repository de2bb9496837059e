// Tests that the stack keeps its data and recovers automatically, whichever of its processes is killed.
import { Client, Connection } from '@temporalio/client';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { eventually, queryOnce } from '../support/stack.ts';
import { childPids, newPlace, postgresPid, removePlace, type StackPlace, StackProgram } from './program.ts';

let place: StackPlace;
let program: StackProgram;

beforeEach(async () => {
  place = await newPlace();
  program = await new StackProgram(place.env).ready();
});

afterEach(async () => {
  await program.stop();
  removePlace(place);
});

async function withTemporal<T>(use: (client: Client) => Promise<T>): Promise<T> {
  const connection = await Connection.connect({ address: place.temporalAddress });
  try {
    return await use(new Client({ connection }));
  } finally {
    await connection.close();
  }
}

async function writeData(): Promise<void> {
  await queryOnce(place.databaseUrl, 'create table kept (value int)');
  await queryOnce(place.databaseUrl, 'insert into kept values (42)');
  await withTemporal((client) => client.workflow.start('kept', { workflowId: 'kept', taskQueue: 'none' }));
}

async function expectData(): Promise<void> {
  expect(await queryOnce(place.databaseUrl, 'select value from kept')).toEqual([{ value: 42 }]);
  const { status } = await withTemporal((client) => client.workflow.getHandle('kept').describe());
  expect(status.name).toBe('RUNNING');
}

test('a clean stop keeps the data and ends with the exit code 0', async () => {
  await writeData();
  expect(await program.stop()).toBe(0);
  program = await new StackProgram(place.env).ready();
  await expectData();
});

test('the data is kept if every process is killed with kill -9', async () => {
  await writeData();
  const pids = childPids(place.home);
  expect(pids).toHaveLength(2);
  program.kill('SIGKILL');
  for (const pid of pids) process.kill(pid, 'SIGKILL');
  await program.exit;
  program = await new StackProgram(place.env).ready();
  await expectData();
});

test('kill -9 of the supervisor alone leaves its servers running, and the next start replaces these servers', async () => {
  await writeData();
  const left = childPids(place.home);
  program.kill('SIGKILL');
  await program.exit;
  program = await new StackProgram(place.env).ready();
  await expectData();
  expect(childPids(place.home)).not.toEqual(expect.arrayContaining([left[0]]));
});

test('a killed PostgreSQL is restarted with its data', async () => {
  await writeData();
  const killed = postgresPid(place.home);
  process.kill(killed, 'SIGKILL');
  await eventually(() => program.output.includes('postgres ended unexpectedly (SIGKILL)'));
  await eventually(() => queryOnce(place.databaseUrl, 'select 1').catch(() => false as const));
  expect(postgresPid(place.home)).not.toBe(killed);
  await expectData();
});

test('a killed Temporal server is restarted with its data', async () => {
  await writeData();
  const temporal = childPids(place.home).find((pid) => pid !== postgresPid(place.home));
  process.kill(temporal ?? 0, 'SIGKILL');
  await eventually(() => program.output.includes('temporal ended unexpectedly (SIGKILL)'));
  await eventually(() =>
    expectData()
      .then(() => true as const)
      .catch(() => false as const),
  );
});

test('a second stack with the same data folder refuses to start and says so in one sentence', async () => {
  const second = new StackProgram(place.env);
  expect(await second.exit).toBe(1);
  expect(second.output).toMatch(/^A stack is already running on .* \(process \d+\): .*\.\n$/);
});
