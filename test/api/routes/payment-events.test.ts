import { once, setMaxListeners } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { PrismaPg } from '@prisma/adapter-pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Changes } from '../../../src/api/changes.ts';
import { EventStream, STREAMS, type StreamLimits } from '../../../src/api/http/event-stream.ts';
import { OPENING_AT_ONCE } from '../../../src/api/http/stream-places.ts';
import { type Prisma, PrismaClient } from '../../../src/generated/prisma/client.ts';
import { createLedgerClient, type LedgerClient } from '../../../src/ledger/client.ts';
import { Connection } from '../../../src/ledger/connection.ts';
import { notifyWaiters } from '../../../src/ledger/notify.ts';
import { NET_MS, runningTime } from '../../support/progress.ts';
import { eventually, queryOnce, useDatabase } from '../../support/stack.ts';
import { type Reader, readEvents } from '../event-source.ts';
import { newKey, pay, settle as settlePaid, startTestApi, type TestApi } from '../support.ts';

// GET /v1/payments/{id}/events: the state, and every change, to everybody who watches, whatever happens meanwhile.

const { databaseUrl } = useDatabase();
let api: TestApi;
let key: string;
/** Another process, as far as PostgreSQL can tell. */
let elsewhere: LedgerClient;
const readers: Reader[] = [];

beforeEach(async () => {
  api = await startTestApi(databaseUrl);
  elsewhere = createLedgerClient(databaseUrl);
  ({ key } = await newKey(api.db));
  await eventually(() => api.changes.listening);
});
afterEach(async () => {
  for (const reader of readers.splice(0)) reader.leave();
  await api.close();
  await elsewhere.$disconnect();
});

async function watch(id: string, as = key, headers: Record<string, string> = {}, through = api) {
  const reader = await readEvents(`${through.url}/v1/payments/${id}/events`, as, headers);
  readers.push(reader);
  return reader;
}

const settle = (id: string) => settlePaid(elsewhere, id);

/** A client that tells of every SELECT of payments. */
function countingClient(url: string, onRead: (sql: string) => void): LedgerClient {
  const client = new PrismaClient({
    adapter: new PrismaPg({ connectionString: url, max: 20 }),
    log: [{ emit: 'event', level: 'query' }],
  });
  client.$on('query', ({ query }) => {
    if (/^\s*SELECT .*\bpayments\b/s.test(query)) onRead(query);
  });
  return client as unknown as LedgerClient;
}

/** The client, with something around the reads of one table: `findUnique`, and the statement that reads a payment for its payer. */
function intercept(
  db: LedgerClient,
  table: 'payment' | 'apiKey',
  around: (find: () => Promise<unknown>) => Promise<unknown>,
): LedgerClient {
  const model = new Proxy(db[table], {
    get: (target, property) =>
      property === 'findUnique'
        ? (args: never) => around(() => (target.findUnique as (args: never) => Promise<unknown>)(args))
        : Reflect.get(target, property),
  });
  const queryRaw = (sql: Prisma.Sql, ...values: unknown[]) => {
    const run = () => db.$queryRaw(sql, ...values);
    const isRead = table === 'payment' && /FROM payments WHERE id = ANY/.test(sql.sql ?? '');
    return isRead ? around(run) : run();
  };
  return new Proxy(db, {
    get: (target, property) => {
      if (property === table) return model;
      return property === '$queryRaw' ? queryRaw : Reflect.get(target, property);
    },
  });
}

/** What the gauge says. */
const readersOf = async ({ deps }: TestApi): Promise<number> => {
  const text = await deps.metrics.registry.getSingleMetricAsString('nodrop_event_stream_readers');
  return Number(/^nodrop_event_stream_readers (\d+)$/m.exec(text)?.[1]);
};

/** Writes the row as the ledger does it: waiters are notified after that. */
async function edit(id: string, data: Prisma.PaymentUpdateInput): Promise<void> {
  const { merchantId, orderId } = await elsewhere.payment.update({ where: { id }, data });
  await notifyWaiters(elsewhere, merchantId, orderId, false);
}

/** A change that a merchant sees and that ends nothing. */
const change = (id: string, detail: string) =>
  edit(id, { attention: 'channel_unreachable', attentionSince: new Date(0), attentionDetail: detail });

/** Without the state between the answer and its settling, which a reader may miss: nobody is to pay again, and why is not known yet. */
const settledOf = ({ events }: Reader) =>
  events.filter(({ data }) => data.status !== 'paying' || data.nextAction !== null);

/** The end of it. */
const QUIET = { attention: null, attentionSince: null, attentionDetail: null };

test('the current state comes first, then the end, and the stream ends', async () => {
  const made = await pay(api, key);
  const reader = await watch(made.id, made.clientToken);
  expect(reader.status).toBe(200);
  expect(reader.headers.get('content-type')).toBe('text/event-stream');
  expect(reader.headers.get('cache-control')).toBe('no-store');
  expect(reader.headers.get('access-control-allow-origin')).toBe('*');
  expect(reader.headers.get('access-control-allow-credentials')).toBeNull();
  await eventually(() => reader.events.length === 1);
  const now = await api.call(`/v1/payments/${made.id}`, { key: made.clientToken });
  expect(reader.events[0]).toEqual({
    event: 'payment',
    id: expect.stringMatching(/^[\w-]{22}$/),
    data: now.json,
  });
  await settle(made.id);
  await reader.ended;
  expect(settledOf(reader).map(({ data }) => [data.status, data.orderUpdate])).toEqual([
    ['paying', null],
    ['succeeded', 'applied'],
  ]);
});

describe('each change', () => {
  test('arrives once, in order, and what changes nothing that is shown does not arrive', async () => {
    const made = await pay(api, key);
    const [merchant, payer] = [await watch(made.id), await watch(made.id, made.clientToken)];
    await eventually(() => merchant.events.length === 1 && payer.events.length === 1);
    for (const detail of ['one', 'two', 'three']) {
      await change(made.id, detail);
      await eventually(() => merchant.events.at(-1)?.data.attentionDetail === detail);
      await edit(made.id, { nextSweepAt: new Date() });
    }
    await edit(made.id, QUIET);
    await eventually(() => merchant.events.at(-1)?.data.attentionDetail === null);
    await settle(made.id);
    await Promise.all([merchant.ended, payer.ended]);
    expect(settledOf(merchant).map(({ data }) => data.attentionDetail ?? data.status)).toEqual([
      'paying',
      'one',
      'two',
      'three',
      'paying',
      'succeeded',
    ]);
    expect(settledOf(payer).map(({ data }) => data.status)).toEqual(['paying', 'succeeded']);
    // An id says which state it is: this one came twice.
    expect(merchant.events[4]?.id).toBe(merchant.events[0]?.id);
    expect(new Set(settledOf(merchant).map(({ id }) => id)).size).toBe(5);
  });

  test('is what GET answers, to a payer without a word of the merchant’s', async () => {
    const made = await pay(api, key, { metadata: { secret: 'of the shop' } });
    const [merchant, payer] = [await watch(made.id), await watch(made.id, made.clientToken)];
    await settle(made.id);
    await Promise.all([merchant.ended, payer.ended]);
    const shown = async (as: string) => (await api.call(`/v1/payments/${made.id}`, { key: as })).json;
    expect(merchant.events.at(-1)?.data).toEqual(await shown(key));
    expect(payer.events.at(-1)?.data).toEqual(await shown(made.clientToken));
    expect(JSON.stringify(payer.events)).not.toMatch(/of the shop|orderId|metadata|attention/);
  });

  test('that time alone makes is sent with a heartbeat', async () => {
    const made = await pay(api, key);
    let now = new Date();
    const soon = await startTestApi(databaseUrl, {
      now: () => now,
      streams: { ...STREAMS, heartbeatMs: 20 },
    });
    try {
      const reader = await watch(made.id, made.clientToken, {}, soon);
      await eventually(() => reader.comments() > 3);
      expect(reader.events.map(({ data }) => data.payUrl !== null)).toEqual([true]);
      now = new Date(Date.parse(made.expiresAt) + 1);
      await eventually(() => reader.events.length === 2);
      expect(reader.events[1]?.data).toMatchObject({ status: 'paying', nextAction: null, payUrl: null });
    } finally {
      await soon.close();
    }
  });
});

describe('with Last-Event-ID', () => {
  test('what the reader has is not sent again, at any process', async () => {
    const made = await pay(api, key);
    const first = await watch(made.id, made.clientToken);
    await eventually(() => first.events.length === 1);
    const id = first.events[0]?.id ?? '';
    first.leave();
    const other = await startTestApi(databaseUrl);
    try {
      const again = await watch(made.id, made.clientToken, { 'last-event-id': id }, other);
      await eventually(() => again.comments() > 0);
      await settle(made.id);
      await again.ended;
      expect(settledOf(again).map(({ data }) => data.status)).toEqual(['succeeded']);
    } finally {
      await other.close();
    }
  });

  test('what was missed meanwhile is sent, also after an id nobody knows', async () => {
    const made = await pay(api, key);
    const first = await watch(made.id, made.clientToken);
    await eventually(() => first.events.length === 1);
    first.leave();
    await settle(made.id);
    for (const id of [first.events[0]?.id ?? '', 'x'.repeat(500)]) {
      const again = await watch(made.id, made.clientToken, { 'last-event-id': id });
      await again.ended;
      expect(again.events.map(({ data }) => data.status)).toEqual(['succeeded']);
    }
  });

  test('a reader that has the final state is told to stay away', async () => {
    const made = await pay(api, key);
    await settle(made.id);
    const first = await watch(made.id, made.clientToken);
    await first.ended;
    expect(first.events).toHaveLength(1);
    const again = await watch(made.id, made.clientToken, { 'last-event-id': first.events[0]?.id ?? '' });
    expect(again.status).toBe(204);
  });
});

test('a stream at the end of its life ends whole, and what changed during its last look comes with the next', async () => {
  const made = await pay(api, key);
  let reads = 0;
  // The first read lets it in. The second is the only look of a stream that lives no longer, and is overtaken.
  const overtaken = intercept(api.db, 'payment', async (find) => {
    reads += 1;
    const found = await find();
    if (reads === 2) await settle(made.id);
    return found;
  });
  const brief = await startTestApi(databaseUrl, { db: overtaken, streams: { ...STREAMS, lifetimeMs: 0 } });
  try {
    const first = await watch(made.id, key, {}, brief);
    await first.ended;
    expect(first.events.map(({ data }) => data.status)).toEqual(['paying']);
    const again = await watch(made.id, key, { 'last-event-id': first.events[0]?.id ?? '' }, brief);
    await again.ended;
    expect(again.events.map(({ data }) => [data.status, data.orderUpdate])).toEqual([
      ['succeeded', 'applied'],
    ]);
  } finally {
    await brief.close();
  }
});

describe('many readers', () => {
  test('two hundred at once all get the end, and the database is hardly read for it', async () => {
    const reads: string[] = [];
    const counted = countingClient(databaseUrl, (sql) => reads.push(sql));
    const patient = { ...STREAMS, openWithinMs: NET_MS };
    const crowded = await startTestApi(databaseUrl, { db: counted, streams: patient });
    try {
      await eventually(() => crowded.changes.listening);
      const made = await pay(crowded, key);
      const all = await Promise.all(
        Array.from({ length: 200 }, (_, n) =>
          watch(made.id, n % 2 === 0 ? key : made.clientToken, {}, crowded),
        ),
      );
      await eventually(() => all.every(({ events }) => events.length === 1));
      expect(await readersOf(crowded)).toBe(200);
      // One connection of each of the two processes listens for all of them.
      const listening =
        "select count(*)::int from pg_stat_activity where application_name = 'nodrop-changes' and datname = current_database()";
      expect(await queryOnce(databaseUrl, listening)).toEqual([{ count: 2 }]);
      reads.length = 0;
      await settle(made.id);
      await Promise.all(all.map(({ ended }) => ended));
      expect(all.map((reader) => settledOf(reader).map(({ data }) => data.status))).toEqual(
        all.map(() => ['paying', 'succeeded']),
      );
      // Two transactions changed it, and who has a token is also shown what else there is to pay with.
      expect(reads.length).toBeLessThanOrEqual(20);
      await eventually(async () => (await readersOf(crowded)) === 0);
    } finally {
      await crowded.close();
      await counted.$disconnect();
    }
  });

  test('too many are refused with 503, and the next is let in when one has left', async () => {
    const made = await pay(api, key);
    const changes = new Changes(databaseUrl, api.deps.log, 2);
    const small = await startTestApi(databaseUrl, { changes });
    try {
      const [first] = [await watch(made.id, key, {}, small), await watch(made.id, key, {}, small)];
      const refused = await small.call(`/v1/payments/${made.id}/events`, { key: made.clientToken });
      expect([refused.status, refused.json.code]).toEqual([503, 'too_many_readers']);
      expect(refused.headers.get('retry-after')).toBe('10');
      expect(refused.headers.get('access-control-expose-headers')).toContain('Retry-After');
      first?.leave();
      await eventually(() => changes.waiting === 1);
      expect((await watch(made.id, made.clientToken, {}, small)).status).toBe(200);
    } finally {
      await changes.close();
      await small.close();
    }
  });

  test('one address gets half of the places, and one merchant too', async () => {
    const streams = { ...STREAMS, atMost: 4, openWithinMs: NET_MS };
    const small = await startTestApi(databaseUrl, { streams });
    /** Watches from another address of this machine. @returns the status */
    const from = async (localAddress: string, made: { id: string; clientToken: string }) => {
      const { port, hostname } = new URL(small.url);
      const socket = connect({ port: Number(port), host: hostname, localAddress });
      held.push(socket);
      const credential = `Authorization: Bearer ${made.clientToken}`;
      socket.write(`GET /v1/payments/${made.id}/events HTTP/1.1\r\nHost: x\r\n${credential}\r\n\r\n`);
      const [data] = (await once(socket, 'data')) as [Buffer];
      return data.toString();
    };
    const held: Socket[] = [];
    try {
      const made = await pay(small, key);
      const [first] = [await watch(made.id, key, {}, small), await watch(made.id, key, {}, small)];
      const refused = await small.call(`/v1/payments/${made.id}/events`, { key: made.clientToken });
      expect([refused.status, refused.json.code]).toEqual([503, 'too_many_readers']);
      expect(refused.headers.get('retry-after')).toBe('10');
      // Where a machine has one address alone, this part of it cannot be seen.
      if (process.platform === 'linux') {
        const ofMerchant = await from('127.0.0.2', made);
        expect(ofMerchant).toMatch(/^HTTP\/1.1 503 /);
        expect(ofMerchant).toContain('\r\nRetry-After: 10\r\n');
        expect(ofMerchant).toContain('of this merchant');
        const other = await newKey(small.db);
        expect(await from('127.0.0.3', await pay(small, other.key))).toMatch(/^HTTP\/1.1 200 /);
      }
      first?.leave();
      await eventually(async () => {
        const again = await watch(made.id, made.clientToken, {}, small);
        return again.status === 200;
      });
    } finally {
      for (const socket of held) socket.destroy();
      await small.close();
    }
  });

  test('hundreds that come at once leave the database to whoever creates', async () => {
    const CROWD = 300;
    const client = countingClient(databaseUrl, () => undefined);
    let reads = 0;
    // Each read of a stream takes a connection until the test lets it go.
    const slow = intercept(client, 'payment', async (find) => {
      reads += 1;
      await client.$queryRaw`SELECT 1 FROM (SELECT pg_advisory_xact_lock_shared(1)) AS held`;
      return await find();
    });
    const streams = { ...STREAMS, openWithinMs: NET_MS };
    const crowded = await startTestApi(databaseUrl, { db: slow, streams });
    const holder = new Connection({ connectionString: databaseUrl });
    await holder.connect();
    try {
      const made = await Promise.all([pay(api, key), pay(api, key)]);
      await holder.query('SELECT pg_advisory_lock(1)');
      let arrived = 0;
      crowded.server.on('request', () => {
        arrived += 1;
      });
      const opening = Promise.all(
        Array.from({ length: CROWD }, (_, n) => {
          const { id, clientToken } = made[n % 2] ?? made[0];
          return watch(id, clientToken, {}, crowded);
        }),
      );
      await eventually(() => arrived === CROWD && reads > 0);
      const created = await crowded.call('/v1/orders', {
        key,
        body: { id: 'in-between', amount: 1, currency: 'CNY' },
      });
      expect(created.status).toBe(201);
      expect(reads).toBeLessThanOrEqual(OPENING_AT_ONCE);
      await holder.query('SELECT pg_advisory_unlock(1)');
      const opened = await opening;
      expect(opened.map(({ status }) => status)).toEqual(Array(CROWD).fill(200));
      await eventually(() => opened.every(({ events }) => events.length === 1));
    } finally {
      await holder.end();
      for (const reader of readers.splice(0)) reader.leave();
      await crowded.close();
      await client.$disconnect();
    }
  });

  test('a key is looked up when its stream opens, and not before', async () => {
    let asked = 0;
    let letIn = () => {};
    const gate = new Promise<void>((resolve) => {
      letIn = resolve;
    });
    const gated = intercept(api.db, 'apiKey', async (find) => {
      asked += 1;
      await gate;
      return await find();
    });
    const streams = { ...STREAMS, openWithinMs: NET_MS };
    const crowded = await startTestApi(databaseUrl, { db: gated, streams });
    try {
      const made = await pay(api, key);
      let arrived = 0;
      crowded.server.on('request', () => {
        arrived += 1;
      });
      const opening = Promise.all(Array.from({ length: 50 }, () => watch(made.id, key, {}, crowded)));
      await eventually(() => arrived === 50 && asked > 0);
      expect(asked).toBeLessThanOrEqual(OPENING_AT_ONCE);
      letIn();
      expect((await opening).map(({ status }) => status)).toEqual(Array(50).fill(200));
    } finally {
      letIn();
      for (const reader of readers.splice(0)) reader.leave();
      await crowded.close();
    }
  });

  test('of one payment do not take the room of others', async () => {
    const crowd = new Changes(databaseUrl, api.deps.log);
    const leaving = new AbortController();
    setMaxListeners(500, leaving.signal);
    const never = { read: async () => 0, done: () => false, timeoutMs: 60_000, signal: leaving.signal };
    const waiting = Array.from({ length: 500 }, () => crowd.until('payment/one', never));
    expect([crowd.hasRoom('payment/one'), crowd.hasRoom('payment/other')]).toEqual([false, true]);
    leaving.abort();
    await Promise.all(waiting);
    expect(crowd.hasRoom('payment/one')).toBe(true);
  });
});

describe('a reader that does not read', () => {
  /** States of half a megabyte, so that no socket holds many. */
  const SIZE = 512 * 1024;
  const bulky = (id: string, n: number) => change(id, `${n} ${'x'.repeat(SIZE)}`);
  const newest = ({ events }: Reader) => Number.parseInt(events.at(-1)?.data.attentionDetail, 10);

  /** An API whose sockets can be looked into, and a payment with a reader that reads and one that does not. */
  async function stalled(limits: Partial<StreamLimits>) {
    const patient = await startTestApi(databaseUrl, { streams: { ...STREAMS, ...limits } });
    await eventually(() => patient.changes.listening);
    const made = await pay(patient, key);
    const held: Socket[] = [];
    patient.server.on('connection', (socket) => held.push(socket));
    const { port, hostname } = new URL(patient.url);
    const slow = connect({ port: Number(port), host: hostname });
    slow.write(
      `GET /v1/payments/${made.id}/events HTTP/1.1\r\nHost: ${hostname}\r\nAuthorization: Bearer ${key}\r\n\r\n`,
    );
    await once(slow, 'data');
    slow.pause();
    const quick = await watch(made.id, key, {}, patient);
    const [ours] = held;
    if (ours === undefined) throw new Error('the slow reader is not there');
    return { patient, made, slow, ours, quick };
  }

  test('delays nobody, costs a bounded amount of memory, and is cut in the end', async () => {
    const { patient, made, slow, ours, quick } = await stalled({ drainWithinMs: 1_000 });
    try {
      const closed = once(slow, 'close');
      let most = 0;
      let n = 0;
      while ((await readersOf(patient)) === 2) {
        await bulky(made.id, n);
        await eventually(() => newest(quick) === n);
        most = Math.max(most, ours.writableLength);
        expect(++n).toBeLessThan(1_000);
      }
      expect(n).toBeGreaterThan(5);
      // One state that the kernel did not take; none is behind it.
      expect(most).toBeGreaterThan(SIZE / 8);
      expect(most).toBeLessThan(2 * SIZE);
      slow.resume();
      await closed;
      await edit(made.id, QUIET);
      await settle(made.id);
      await quick.ended;
      expect(quick.events.at(-1)?.data.status).toBe('succeeded');
    } finally {
      await patient.close();
    }
  });

  test('that reads again in time goes on with the newest state', async () => {
    const { patient, made, slow, ours, quick } = await stalled({});
    try {
      let n = 0;
      for (; ours.writableLength < SIZE / 8; n += 1) {
        await bulky(made.id, n);
        await eventually(() => newest(quick) === n);
      }
      const full = n;
      for (; n < full + 10; n += 1) {
        await bulky(made.id, n);
        await eventually(() => newest(quick) === n);
      }
      let text = '';
      slow.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      slow.resume();
      await eventually(() => text.includes(`"attentionDetail":"${n - 1} `));
      const seen = [...text.matchAll(/"attentionDetail":"(\d+) /g)].map(([, detail]) => Number(detail));
      // What was on its way, and then the last of the ten alone.
      expect(seen).toEqual([...Array.from({ length: full }, (_, each) => each), n - 1]);
      slow.destroy();
    } finally {
      await patient.close();
    }
  });
});

test('a reader that leaves unread what its connection could just hold is cut at the end', async () => {
  const limits = { ...STREAMS, drainWithinMs: 300 };
  const left = new Promise<{ unsent: number; destroyed: boolean }>((resolve, reject) => {
    const server = createServer((_request, response) => {
      const fill = async () => {
        const stream = new EventStream(response, undefined, limits, () => undefined);
        const { socket } = response;
        // Small states, one a turn: at some point the kernel takes no more, and Node still does.
        for (let n = 0; socket !== null && socket.writableLength === 0; n += 1) {
          stream.push('payment', { n, text: 'x'.repeat(4_000) });
          await new Promise((next) => setImmediate(next));
          await new Promise((next) => setImmediate(next));
        }
        const unsent = socket?.writableLength ?? 0;
        await stream.end();
        resolve({ unsent, destroyed: response.destroyed });
      };
      fill().catch(reject);
    });
    server.listen(0, '127.0.0.1', () => {
      const slow = connect((server.address() as AddressInfo).port, '127.0.0.1');
      slow.write('GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n');
      slow.pause();
      slow.once('close', () => server.close());
      left.finally(() => slow.destroy()).catch(() => undefined);
    });
  });
  const { unsent, destroyed } = await left;
  expect(unsent).toBeGreaterThan(0);
  expect(destroyed).toBe(true);
});

describe('when the database is lost in the middle', () => {
  const sever = (who: string) =>
    queryOnce(
      databaseUrl,
      `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and ${who}`,
    );

  test('changes made while nobody listened arrive on the same stream', async () => {
    const made = await pay(api, key);
    const reader = await watch(made.id);
    await eventually(() => reader.events.length === 1);
    const severed = sever("application_name = 'nodrop-changes'");
    await eventually(() => !api.changes.listening);
    await change(made.id, 'unheard');
    await severed;
    await eventually(() => reader.events.at(-1)?.data.attentionDetail === 'unheard');
    await settle(made.id);
    await reader.ended;
    expect(reader.events.at(-1)?.data.status).toBe('succeeded');
  });

  test('the stream stays while the whole database is away, and goes on when it is back', async () => {
    const made = await pay(api, key);
    const reader = await watch(made.id, made.clientToken);
    await eventually(() => reader.events.length === 1);
    const { server, name } = (([, server, name]) => ({ server: `${server}/postgres`, name }))(
      /^(.*)\/(\w+)$/.exec(databaseUrl) ?? [],
    );
    await queryOnce(server, `alter database ${name} allow_connections false`);
    try {
      await queryOnce(
        server,
        `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${name}'`,
      );
      await eventually(() => !api.changes.listening);
      // Its read has failed by now: one that is asked for later has.
      expect((await api.call(`/v1/payments/${made.id}`, { key })).json.code).toBe('database_unavailable');
    } finally {
      await queryOnce(server, `alter database ${name} allow_connections true`);
    }
    await settle(made.id);
    await reader.ended;
    expect(settledOf(reader).map(({ data }) => data.status)).toEqual(['paying', 'succeeded']);
  });

  test('a failed read is tried again though nothing else changes', async () => {
    const made = await pay(api, key);
    let reads = 0;
    // The first lets it in, the second fails.
    const failing = intercept(api.db, 'payment', async (find) => {
      reads += 1;
      if (reads === 2) throw Object.assign(new Error('gone'), { code: 'ECONNRESET' });
      return await find();
    });
    const shaky = await startTestApi(databaseUrl, { db: failing, changes: api.changes });
    try {
      const reader = await watch(made.id, key, {}, shaky);
      await eventually(() => reader.events.length === 1);
      expect(reads).toBe(3);
    } finally {
      readers.pop()?.leave();
      await eventually(() => api.changes.waiting === 0);
    }
  });
});

describe('a stream opens to nobody it should not', () => {
  test.each<[string, (made: { clientToken: string }) => Promise<string>]>([
    ['another payment’s token', async () => (await pay(api, key)).clientToken],
    ['a token with another end', async ({ clientToken }) => `${clientToken.slice(0, -1)}-`],
    ['no such key', async () => 'sk_nobody'],
  ])('%s: 401', async (_name, credential) => {
    const made = await pay(api, key);
    const refused = await api.call(`/v1/payments/${made.id}/events`, { key: await credential(made) });
    expect([refused.status, refused.json.code]).toEqual([401, 'unauthorized']);
    expect(api.changes.waiting).toBe(0);
  });

  test('another merchant’s key: 404', async () => {
    const made = await pay(api, key);
    const other = await newKey(api.db);
    const refused = await api.call(`/v1/payments/${made.id}/events`, { key: other.key });
    expect([refused.status, refused.json.code]).toEqual([404, 'payment_not_found']);
  });

  test('a token ends its stream with itself, and opens none later', async () => {
    const made = await pay(api, key);
    const end = Date.parse(made.expiresAt) + 24 * 3_600_000;
    let now = new Date(end - 500);
    const late = await startTestApi(databaseUrl, { now: () => now });
    try {
      const [payer, merchant] = [
        await watch(made.id, made.clientToken, {}, late),
        await watch(made.id, key, {}, late),
      ];
      await payer.ended;
      expect(payer.events).toHaveLength(1);
      now = new Date(end);
      expect((await late.call(`/v1/payments/${made.id}/events`, { key: made.clientToken })).status).toBe(401);
      expect(late.changes.waiting).toBe(1);
      await settle(made.id);
      await merchant.ended;
    } finally {
      await late.close();
    }
  });

  test('a stream ends now and then, and a key revoked meanwhile opens no other', async () => {
    const made = await pay(api, key);
    const brief = await startTestApi(databaseUrl, { streams: { ...STREAMS, lifetimeMs: 300 } });
    try {
      const reader = await watch(made.id, key, {}, brief);
      await eventually(() => reader.events.length === 1);
      await elsewhere.apiKey.updateMany({ data: { revokedAt: new Date() } });
      await reader.ended;
      expect((await brief.call(`/v1/payments/${made.id}/events`, { key })).status).toBe(401);
    } finally {
      await brief.close();
    }
  });
});

test('a reader that goes takes everything of its own with it', async () => {
  const made = await pay(api, key);
  const reader = await watch(made.id);
  expect([api.changes.waiting, await readersOf(api)]).toEqual([1, 1]);
  reader.leave();
  await eventually(async () => api.changes.waiting === 0 && (await readersOf(api)) === 0);
  // It had its answer all along.
  await eventually(async () =>
    (await api.deps.metrics.registry.metrics()).includes(
      'nodrop_http_request_duration_seconds_count{route="/v1/payments/{id}/events",method="GET",status="200"} 1',
    ),
  );
});

test('a reader that goes before it is let in leaves nothing behind', async () => {
  const made = await pay(api, key);
  let letIn = () => {};
  const gate = new Promise<void>((resolve) => {
    letIn = resolve;
  });
  let asked = 0;
  let reads = 0;
  const gated = intercept(api.db, 'apiKey', async (find) => {
    asked += 1;
    await gate;
    return await find();
  });
  const db = intercept(gated, 'payment', async (find) => {
    reads += 1;
    return await find();
  });
  const slow = await startTestApi(databaseUrl, { db, changes: api.changes });
  const closed = new Promise((resolve) => {
    slow.server.on('connection', (socket) => socket.once('close', resolve));
  });
  const leaving = new AbortController();
  const path = `/v1/payments/${made.id}/events`;
  const gone = slow.call(path, { key, signal: leaving.signal }).catch((error: Error) => error.name);
  await eventually(() => asked === 1);
  leaving.abort();
  expect(await gone).toBe('AbortError');
  await closed;
  letIn();
  // The second is the stream's own.
  await eventually(() => reads === 2);
  await eventually(async () => api.changes.waiting === 0 && (await readersOf(slow)) === 0);
});

test('a HEAD opens no stream, a preflight allows what a reader needs, other methods are refused', async () => {
  const made = await pay(api, key);
  const path = `/v1/payments/${made.id}/events`;
  const head = await api.call(path, { method: 'HEAD', key });
  expect([head.status, head.headers.get('content-type')]).toEqual([200, 'text/event-stream; charset=utf-8']);
  const preflight = await api.call(path, {
    method: 'OPTIONS',
    headers: { origin: 'https://shop.example', 'access-control-request-method': 'GET' },
  });
  expect(preflight.status).toBe(204);
  expect(preflight.headers.get('access-control-allow-origin')).toBe('*');
  expect(preflight.headers.get('access-control-allow-headers')).toMatch(/Authorization.*Last-Event-ID/);
  expect(preflight.headers.get('access-control-allow-credentials')).toBeNull();
  expect((await api.call(path, { method: 'POST', key })).status).toBe(405);
  expect(api.changes.waiting).toBe(0);
});

test('a stopping process sends its readers the current state and ends their streams', async () => {
  const made = await pay(api, key);
  const stopping = await startTestApi(databaseUrl);
  const reader = await watch(made.id, made.clientToken, {}, stopping);
  await eventually(() => reader.events.length === 1);
  const began = runningTime();
  await stopping.close(60_000);
  await reader.ended;
  expect(reader.events).toHaveLength(1);
  // Not cut after the patience, but ended.
  expect(began()).toBeLessThan(30_000);
});

test('the log has one line a stream, without its token', async () => {
  const made = await pay(api, key);
  const reader = await watch(made.id, made.clientToken);
  await eventually(() => reader.events.length === 1);
  await settle(made.id);
  await reader.ended;
  const gone = await watch(made.id, made.clientToken, { 'last-event-id': 'x' });
  gone.leave();
  const lines = () =>
    api
      .logged()
      .split('\n')
      .filter((line) => line.includes('/events'))
      .map((line) => JSON.parse(line));
  await eventually(() => lines().length === 2);
  expect(lines()[0]).toMatchObject({ level: 30, msg: 'answered', res: { statusCode: 200 } });
  expect(lines().every(({ level }) => level === 30)).toBe(true);
  expect(api.logged()).not.toContain(made.clientToken);
});
