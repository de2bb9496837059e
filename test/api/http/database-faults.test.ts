import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { isDatabaseUnavailable } from '../../../src/ledger/database-errors.ts';
import { runningTime } from '../../support/progress.ts';
import { emptyDatabase, eventually, queryOnce } from '../../support/stack.ts';
import { setUp, startTestApi } from '../support.ts';

// Tests that the API answers 503 in time if the database is down, hangs or cannot be used, and that it never gives a
// wrong answer.

const { database, key } = await setUp();

/**
 * Every answer must arrive within this time. It is much shorter than the 60 s that some requests ask the API to wait.
 */
const IN_TIME_MS = 20_000;

describe('a database that', () => {
  const askAll = async (url: string) => {
    const dead = await startTestApi(url);
    try {
      const began = runningTime();
      const answers = await Promise.all([
        dead.call('/v1/orders', { key }),
        dead.call('/v1/orders', { key, body: { id: 'x', amount: 1, currency: 'CNY' } }),
        dead.call('/v1/payments/pay_1?wait=60', { key }),
        dead.call('/v1/payments/pay_1', { key: 'ct_token' }),
      ]);
      expect(began()).toBeLessThan(IN_TIME_MS);
      for (const answer of answers) {
        expect([answer.status, answer.json.code]).toEqual([503, 'database_unavailable']);
        expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
      }
      const ready = await dead.call('/readyz');
      expect([ready.status, ready.json]).toEqual([
        503,
        { status: 'not_ready', database: 'unreachable', temporal: 'ok' },
      ]);
      expect((await dead.call('/healthz')).status).toBe(200);
    } finally {
      await dead.close();
    }
  };

  test('refuses connections is reported as 503', async () => {
    await askAll('postgresql://nodrop@127.0.0.1:1/none');
  });

  test('accepts connections but never answers is reported as 503', async () => {
    const silent = createServer();
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const { port } = silent.address() as { port: number };
    try {
      await askAll(`postgresql://nodrop@127.0.0.1:${port}/none`);
    } finally {
      silent.close();
    }
  });

  test('stops answering on open connections is reported as 503', async () => {
    const { port, hostname } = new URL(database.url);
    const pipes: Socket[] = [];
    let silent = false;
    const proxy = createServer((client) => {
      pipes.push(client);
      client.on('error', () => undefined);
      if (silent) return;
      const upstream = connect(Number(port), hostname);
      pipes.push(upstream);
      upstream.on('error', () => undefined);
      client.pipe(upstream).pipe(client);
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const url = new URL(database.url);
    url.port = String((proxy.address() as { port: number }).port);
    const behind = await startTestApi(url.href);
    try {
      const ask = () => behind.call('/v1/orders', { key });
      expect((await ask()).status).toBe(200);
      silent = true;
      for (const socket of pipes) socket.unpipe();
      const began = runningTime();
      const answers = await Promise.all([
        ask(),
        behind.call('/v1/orders', { key, body: { id: 'silent', amount: 1, currency: 'CNY' } }),
      ]);
      expect(answers.map(({ json }) => json.code)).toEqual(['database_unavailable', 'database_unavailable']);
      expect(began()).toBeLessThan(IN_TIME_MS);
      // The proxy forwards the data of new connections again. The API must have replaced its dead connections.
      silent = false;
      await eventually(async () => (await ask()).status === 200);
      const orders = await Promise.all(
        Array.from({ length: 20 }, (_, i) =>
          behind.call('/v1/orders', { key, body: { id: `heal-${i}`, amount: 1, currency: 'CNY' } }),
        ),
      );
      expect(orders.map(({ status }) => status)).toEqual(Array(20).fill(201));
    } finally {
      for (const socket of pipes) socket.destroy();
      proxy.close();
      // Closes the API, but waits at most 10 s, because a database driver may still wait for a dead connection.
      await Promise.race([behind.close(), sleep(10_000, undefined, { ref: false })]);
    }
  });

  test('has no tables yet, or loses its connections, is reported as 503', async () => {
    const empty = await emptyDatabase();
    await askAll(empty.url);
    await empty.drop();

    const lost = await startTestApi(database.url);
    try {
      const asked = Array.from({ length: 40 }, (_, i) =>
        lost.call('/v1/orders', { key, body: { id: `lost-${i}`, amount: 1, currency: 'CNY' } }),
      );
      await queryOnce(
        database.url,
        'select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()',
      );
      for (const { status } of await Promise.all(asked)) expect([201, 503]).toContain(status);
      expect((await lost.call('/v1/orders', { key })).status).toBe(200);
    } finally {
      await lost.close();
    }
  });

  test.each([
    ['P2028', true],
    ['P2024', true],
    ['57P01', true],
    ['08006', true],
    ['53300', true],
    ['40P01', true],
    ['P2002', false],
    ['23505', false],
    ['22021', false],
  ])('fails with the code %s is treated as unavailable: %s', (code, expected) => {
    expect(isDatabaseUnavailable({ code })).toBe(expected);
    // The error of a raw query, as Prisma wraps it.
    const wrapped = { code: 'P2010', meta: { driverAdapterError: { cause: { kind: 'postgres', code } } } };
    expect(isDatabaseUnavailable(wrapped)).toBe(expected);
  });
});
