import { PrismaPg } from '@prisma/adapter-pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LOOK_EVERY_MS, Readiness, WRITES_REFUSED_MS } from '../../src/api/readiness.ts';
import { PrismaClient } from '../../src/generated/prisma/client.ts';
import type { LedgerClient } from '../../src/ledger/client.ts';
import { probeWrite } from '../../src/ledger/writable.ts';
import { eventually, queryOnce, useDatabase } from '../support/stack.ts';
import { newKey, newOrderId, startTestApi, type TestApi } from './support.ts';

// Tests that GET /readyz answers 503 while the database cannot be written to, and that frequent checks stay cheap.

const database = useDatabase({ perTest: true });
let api: TestApi;
let key: string;
let client: LedgerClient;
/** Every SQL statement that the API has sent. */
let statements: string[];
let isTemporalThere: boolean;
let looksAtTemporal: number;
let now: number;

/** Starts an API with new database connections and a clock that stands still. */
async function start() {
  const counting = new PrismaClient({
    adapter: new PrismaPg({ connectionString: database.databaseUrl, max: 20 }),
    log: [{ emit: 'event', level: 'query' }],
  });
  counting.$on('query', ({ query }) => void statements.push(query));
  client = counting as unknown as LedgerClient;
  api = await startTestApi(database.databaseUrl, {
    db: client,
    now: () => new Date(now),
    isTemporalReachable: async () => {
      looksAtTemporal += 1;
      return isTemporalThere;
    },
  });
}

beforeEach(async () => {
  statements = [];
  isTemporalThere = true;
  looksAtTemporal = 0;
  now = Date.now();
  await start();
  ({ key } = await newKey(api.db));
});
afterEach(async () => {
  await api.close();
  await client.$disconnect();
});

const ready = async () => {
  const { status, json } = await api.call('/readyz');
  return [status, json.status, json.database, json.temporal];
};
const READY = [200, 'ready', 'ok', 'ok'];
const not = (state: string) => [503, 'not_ready', state, 'ok'];
const order = () => api.call('/v1/orders', { key, body: { id: newOrderId(), amount: 1, currency: 'CNY' } });
/** Returns how often the API has written the probe. */
const probes = () => statements.filter((sql) => sql.includes('write_probe')).length;

/**
 * Makes writes to a table fail with this PostgreSQL error code.
 * @returns a function that lets writes succeed again
 */
async function refuseWrites(table: string, code: string): Promise<() => Promise<unknown>> {
  await queryOnce(
    database.databaseUrl,
    `create sequence tries_${table};
     create function refuse_${table}() returns trigger language plpgsql as
       $$ begin perform nextval('tries_${table}'); raise exception 'secret words' using errcode = '${code}'; end $$;
     create trigger refuse before insert or update on ${table} execute function refuse_${table}()`,
  );
  return () => queryOnce(database.databaseUrl, `drop function refuse_${table} cascade`);
}

/**
 * Returns the number of failed writes to the table. A sequence counts the writes, because a rollback does not reset a
 * sequence.
 */
async function triesOf(table: string): Promise<unknown> {
  const sql = `select case when is_called then last_value else 0 end::int as tries from tries_${table}`;
  return (await queryOnce(database.databaseUrl, sql))[0]?.tries;
}

test('the readiness check reports that Temporal is unreachable', async () => {
  isTemporalThere = false;
  expect(await ready()).toEqual([503, 'not_ready', 'ok', 'unreachable']);
  isTemporalThere = true;
  now += LOOK_EVERY_MS;
  expect(await ready()).toEqual(READY);
});

test('all readiness requests within a second share one check', async () => {
  expect(await Promise.all(Array.from({ length: 10 }, ready))).toEqual(Array(10).fill(READY));
  for (let n = 0; n < 50; n += 1) expect(await ready()).toEqual(READY);
  expect([looksAtTemporal, statements.filter((sql) => sql.includes('pg_is_in_recovery')).length]).toEqual([
    1, 1,
  ]);
  now += LOOK_EVERY_MS;
  await ready();
  expect(looksAtTemporal).toBe(2);
  // The API writes a probe only after a failed write, and no write has failed yet.
  expect(probes()).toBe(0);
});

test('a readiness check that began before a failed write is not reused after that write', async () => {
  const answers: ((isThere: boolean) => void)[] = [];
  const readiness = new Readiness(
    { db: client, isTemporalReachable: () => new Promise((resolve) => answers.push(resolve)) },
    () => new Date(now),
  );
  const before = readiness.look();
  await eventually(() => statements.some((sql) => sql.includes('pg_is_in_recovery')));
  readiness.writeFailed(Object.assign(new Error('disk full'), { code: '53100' }));
  const after = readiness.look();
  for (const answer of answers.reverse()) answer(true);
  expect(await after).toMatchObject({ database: 'not_writable' });
  await before;
  expect(await readiness.look()).toMatchObject({ database: 'not_writable' });
});

describe('the readiness of the API', () => {
  test('is 503 while the database is read-only', async () => {
    const name = new URL(database.databaseUrl).pathname.slice(1);
    await queryOnce(database.databaseUrl, `alter database ${name} set default_transaction_read_only = on`);
    await api.close();
    await client.$disconnect();
    await start();
    expect(await ready()).toEqual(not('read_only'));
    expect((await order()).json.code).toBe('database_unavailable');
    now += WRITES_REFUSED_MS;
    expect(await ready()).toEqual(not('read_only'));
    expect(probes()).toBe(0);
  });

  test('is 503 while the database is in recovery', async () => {
    const name = new URL(database.databaseUrl).pathname.slice(1);
    // PostgreSQL finds this function before its own function of the same name. So the database reports that it is a
    // standby.
    await queryOnce(
      database.databaseUrl,
      `create schema standby;
       create function standby.pg_is_in_recovery() returns boolean language sql as 'select true';
       alter database ${name} set search_path = standby, pg_catalog, public`,
    );
    await api.close();
    await client.$disconnect();
    await start();
    expect(await ready()).toEqual(not('in_recovery'));
  });

  test('is 503 for 10 s after a refused write, and then until a check can write to the table of probes', async () => {
    const undo = [await refuseWrites('orders', '53100'), await refuseWrites('write_probe', '53100')];
    expect(await ready()).toEqual(READY);
    const refused = await order();
    expect([refused.status, refused.json.code]).toEqual([503, 'database_unavailable']);
    // The failed write makes the API unready immediately, although the last check is recent.
    expect(await ready()).toEqual(not('not_writable'));
    now += WRITES_REFUSED_MS - 1;
    expect(await ready()).toEqual(not('not_writable'));
    expect(await triesOf('write_probe')).toBe(0);

    now += LOOK_EVERY_MS;
    expect(await Promise.all(Array.from({ length: 20 }, ready))).toEqual(Array(20).fill(not('not_writable')));
    expect(await triesOf('write_probe')).toBe(1);
    for (const end of undo) await end();
    now += WRITES_REFUSED_MS - 1;
    expect(await ready()).toEqual(not('not_writable'));
    const asked = statements.length;
    for (let n = 0; n < 50; n += 1) await ready();
    expect(statements.length).toBe(asked);

    now += LOOK_EVERY_MS;
    expect(await ready()).toEqual(READY);
    expect(await client.writeProbe.count()).toBe(1);
    now += LOOK_EVERY_MS;
    const written = probes();
    expect(await ready()).toEqual(READY);
    expect(probes()).toBe(written);
  });

  test('is not 503 after a single failed write if the next check can write to the table of probes', async () => {
    await refuseWrites('orders', '57014');
    expect(await ready()).toEqual(READY);
    expect((await order()).json.code).toBe('database_unavailable');
    expect(await ready()).toEqual(READY);
    expect(probes()).toBe(1);
    // The table always has one row, because each probe replaces the previous probe.
    for (let n = 1; n <= 3; n += 1) await probeWrite(client, new Date(now + n));
    expect(await client.writeProbe.findMany()).toEqual([{ id: 1, probedAt: new Date(now + 3) }]);
  });

  test('is 503 after the database refuses the write of a PATCH request', async () => {
    const { id } = (await order()).json;
    await refuseWrites('orders', '53100');
    expect(await ready()).toEqual(READY);
    const path = `/v1/orders/${id}`;
    const refused = await api.call(path, {
      key,
      method: 'PATCH',
      body: { subject: 'Tickets' },
    });
    expect(refused.json.code).toBe('database_unavailable');
    expect(await ready()).toEqual(not('not_writable'));
  });

  test('is 503 while the database denies permission to write', async () => {
    await refuseWrites('orders', '42501');
    await refuseWrites('write_probe', '42501');
    expect((await order()).status).toBe(500);
    const answer = await api.call('/readyz');
    expect([answer.status, answer.json.database]).toEqual([503, 'not_writable']);
    expect(answer.text).not.toContain('secret');
  });
});
