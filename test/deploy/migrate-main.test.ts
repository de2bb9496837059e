import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { tsxLoader } from '../../src/tsx.ts';
import { emptyDatabase, eventually, freePort } from '../support/stack.ts';

/** Tests the one-shot program that migrates an external database. */

const program = fileURLToPath(new URL('../../src/stack/migrate-main.ts', import.meta.url));
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

function migrate(databaseUrl: string | undefined, secret = 's'.repeat(32)) {
  const env = { ...process.env, DATABASE_URL: databaseUrl, NODROP_SECRET: secret };
  const child = spawn(process.execPath, ['--import', tsxLoader(), program], { env });
  undo.push(() => child.kill('SIGKILL'));
  const said = { out: '', err: '' };
  child.stdout.on('data', (data) => (said.out += data));
  child.stderr.on('data', (data) => (said.err += data));
  return { said, ended: once(child, 'close').then(([code]) => code) };
}

test('the migration program waits for the database and applies the migrations, and a second run applies nothing', async () => {
  const database = await emptyDatabase();
  undo.push(() => database.drop());
  const url = new URL(database.url);
  const { hostname, port: realPort } = url;
  const port = await freePort();
  url.port = String(port);

  const first = migrate(url.href);
  await eventually(() =>
    first.said.err.includes('Waiting for the database (0 s of 60): connect ECONNREFUSED'),
  );
  // From this point on the database can be reached.
  const proxy = createServer((socket) => {
    const target = connect(Number(realPort), hostname);
    socket.pipe(target).pipe(socket);
    socket.on('error', () => target.destroy());
    target.on('error', () => socket.destroy());
  }).listen(port, '127.0.0.1');
  undo.push(() => proxy.close());
  expect(await first.ended).toBe(0);
  expect(first.said.out).toMatch(/^Migrations applied: \d+_\w+(, \d+_\w+)*\.\n$/);

  const second = migrate(url.href);
  expect(await second.ended).toBe(0);
  expect(second.said).toEqual({ out: 'The database is up to date.\n', err: '' });
});

test.each([
  ['no DATABASE_URL', undefined, /^DATABASE_URL is missing: [^\n]+\n$/],
  ['an invalid DATABASE_URL', 'mysql://x', /^DATABASE_URL is wrong: [^\n]+\n$/],
])('the migration program reports %s in one sentence', async (_what, url, sentence) => {
  const { said, ended } = migrate(url);
  expect(await ended).toBe(1);
  expect(said).toEqual({ out: '', err: expect.stringMatching(sentence) });
});

test('the migration program ends without waiting if the password of the database is wrong', async () => {
  const database = await emptyDatabase();
  undo.push(() => database.drop());
  const url = new URL(database.url);
  url.password = 'wrong';
  const { said, ended } = migrate(url.href);
  expect(await ended).toBe(1);
  expect(said.err).toMatch(/^The database does not answer \(password authentication failed[^\n]+\n$/);
});

test('the migration program fails if NODROP_SECRET is not the secret of the database, which stops a deployment before it replaces processes', async () => {
  const database = await emptyDatabase();
  undo.push(() => database.drop());
  expect(await migrate(database.url).ended).toBe(0);
  const { said, ended } = migrate(database.url, 'o'.repeat(32));
  expect(await ended).toBe(1);
  expect(said).toEqual({
    out: 'The database is up to date.\n',
    err: expect.stringMatching(
      /^NODROP_SECRET is not the secret that this database was set up with: the right one was set as NODROP_SECRET [^\n]+\n$/,
    ),
  });
  expect(await migrate(database.url).ended).toBe(0);
});
