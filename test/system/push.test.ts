import { readlinkSync, realpathSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readEvents } from '../api/event-source.ts';
import { API_BUDGET_MS, unlessOutOfTime } from '../support/progress.ts';
import { eventually, queryOnce } from '../support/stack.ts';
import { type System, startSystem } from '../support/system.ts';

/** Tests payers who watch event streams at two API processes. The two processes share no state. */

let system: System;
let second: string;
beforeAll(async () => {
  system = await startSystem({ withWorker: true, env: { NODROP_QUERY_SCHEDULE: '2s' } });
  second = await system.startSecondApi();
});
afterAll(async () => {
  await system?.stop();
});

const watch = async (id: string, token: string) =>
  await Promise.all(
    [system.apiUrl, second].map((url) => readEvents(`${url}/v1/payments/${id}/events`, token)),
  );
const statuses = (readers: Awaited<ReturnType<typeof watch>>) =>
  readers.map(({ events }) => events.map(({ data }) => data.status));

test.skipIf(process.platform !== 'linux')('every program runs on the same Node version as the tests', () => {
  for (const name of ['api', 'worker', 'simulator'] as const) {
    expect(readlinkSync(`/proc/${system.pidOf(name)}/exe`)).toBe(realpathSync(process.execPath));
  }
});

test('readers at two API processes see the same changes, whether the other process or the worker made the change', async () => {
  const { body } = await system.payable();
  const readers = await watch(body.id, body.clientToken);
  await eventually(() => readers.every(({ events }) => events.length === 1));
  await system.simulator.pay(body.id);
  await Promise.all(readers.map(({ ended }) => ended));
  expect(statuses(readers).map((seen) => [seen[0], seen.at(-1)])).toEqual([
    ['paying', 'succeeded'],
    ['paying', 'succeeded'],
  ]);
  // A state has the same event id at both API processes, so a reader can resume its stream at either of them.
  const ids = readers.map(({ events }) => events.at(-1)?.id);
  expect(ids[0]).toBe(ids[1]);
  for (const { events } of readers) expect(new Set(events.map(({ id }) => id)).size).toBe(events.length);
});

test('a cancellation at one API process ends the streams at this process and at the other process', async () => {
  const { body } = await system.payable();
  const readers = await watch(body.id, body.clientToken);
  const cancelled = await unlessOutOfTime(
    API_BUDGET_MS,
    () => system.api('POST', `${second}/v1/payments/${body.id}/cancel`),
    ({ status }) => status === 202,
  );
  expect(cancelled.status).toBe(200);
  await Promise.all(readers.map(({ ended }) => ended));
  expect(statuses(readers).map((seen) => seen.at(-1))).toEqual(['cancelled', 'cancelled']);
});

test('after database connections are cut and PostgreSQL is killed, the streams continue and lose no change', async () => {
  const { body } = await system.payable();
  const readers = await watch(body.id, body.clientToken);
  await eventually(() => readers.every(({ events }) => events.length === 1));
  await queryOnce(
    system.config.databaseUrl,
    'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()',
  );
  system.kill('postgres');
  await system.simulator.pay(body.id);
  await Promise.all(readers.map(({ ended }) => ended));
  expect(statuses(readers).map((seen) => seen.at(-1))).toEqual(['succeeded', 'succeeded']);
});

test('a switch of the channel closes the old attempt while readers watch it, and the new attempt is paid', async () => {
  const { body } = await system.payable();
  const readers = await watch(body.id, body.clientToken);
  const headers = { authorization: `Bearer ${body.clientToken}` };
  const switched = await system.api(
    'POST',
    `${second}/v1/payments/${body.id}/switch`,
    { channel: 'simulator2' },
    headers,
  );
  expect([switched.status, switched.body.channel]).toEqual([201, 'simulator2']);
  await Promise.all(readers.map(({ ended }) => ended));
  expect(statuses(readers).map((seen) => seen.at(-1))).toEqual(['cancelled', 'cancelled']);
  const onward = await watch(switched.body.id, switched.body.clientToken);
  await system.simulator.pay(switched.body.id);
  await Promise.all(onward.map(({ ended }) => ended));
  expect(await system.orderStatus(body.orderId)).toBe('succeeded');
  const after = await system.api('GET', `/v1/payments/${body.id}`, undefined, headers);
  expect(after.body.switchTo).toEqual([]);
  const late = await system.api('POST', `/v1/payments/${body.id}/switch`, { channel: 'simulator' }, headers);
  expect([late.status, late.body.code]).toEqual([409, 'order_already_paid']);
});

test('an API process that stops ends its streams without an error for the readers', async () => {
  const { body } = await system.payable();
  const readers = await watch(body.id, body.clientToken);
  await eventually(() => readers.every(({ events }) => events.length === 1));
  for (const name of ['api', 'api2'] as const) system.kill(name, 'SIGTERM');
  // If a reader's stream were cut, the reader's promise would reject.
  await Promise.all(readers.map(({ ended }) => ended));
  expect(statuses(readers)).toEqual([['paying'], ['paying']]);
});
