import { once, setMaxListeners } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { PrismaPg } from '@prisma/adapter-pg';
import { describe, expect, test } from 'vitest';
import { Changes } from '../../../src/api/changes.ts';
import { EventStream, STREAMS, type StreamLimits } from '../../../src/api/http/event-stream.ts';
import { OPENING_AT_ONCE } from '../../../src/api/http/stream-slots.ts';
import { PrismaClient } from '../../../src/generated/prisma/client.ts';
import type { LedgerClient } from '../../../src/ledger/client.ts';
import { Connection } from '../../../src/ledger/connection.ts';
import { NET_MS } from '../../support/progress.ts';
import { eventually, queryOnce } from '../../support/stack.ts';
import type { Reader } from '../event-source.ts';
import { newKey, pay, startTestApi, type TestApi } from '../support.ts';
import {
  api,
  change,
  databaseUrl,
  edit,
  intercept,
  key,
  QUIET,
  readers,
  settle,
  settledOf,
  watch,
} from './payment-stream-support.ts';

// Tests GET /v1/payments/{id}/events with many readers, slow readers, and readers that leave.

/** A database client that reports every SELECT of payments. */
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

/** Returns the value of the metric that counts the readers. */
const readersOf = async ({ deps }: TestApi): Promise<number> => {
  const text = await deps.metrics.registry.getSingleMetricAsString('nodrop_event_stream_readers');
  return Number(/^nodrop_event_stream_readers (\d+)$/m.exec(text)?.[1]);
};

describe('many readers', () => {
  test('two hundred readers of one payment all get the final state with few database reads', async () => {
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
      // Each of the two processes listens on one connection for all of its readers.
      const listening =
        "select count(*)::int from pg_stat_activity where application_name = 'nodrop-changes' and datname = current_database()";
      expect(await queryOnce(databaseUrl, listening)).toEqual([{ count: 2 }]);
      reads.length = 0;
      await settle(made.id);
      await Promise.all(all.map(({ ended }) => ended));
      expect(all.map((reader) => settledOf(reader).map(({ data }) => data.status))).toEqual(
        all.map(() => ['paying', 'succeeded']),
      );
      // Two transactions changed the payment. The test allows more reads than two per process, because nodrop also
      // reads the other channels for readers with a client token.
      expect(reads.length).toBeLessThanOrEqual(20);
      await eventually(async () => (await readersOf(crowded)) === 0);
    } finally {
      await crowded.close();
      await counted.$disconnect();
    }
  });

  test('readers beyond the limit are refused with 503, and another reader is accepted when one has left', async () => {
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

  test('one address gets at most half of the slots, and one merchant gets at most half of the slots', async () => {
    const streams = { ...STREAMS, atMost: 4, openWithinMs: NET_MS };
    const small = await startTestApi(databaseUrl, { streams });
    /** Opens the event stream from another address of this machine. @returns the answer's first bytes */
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
      // A machine with a single loopback address cannot test this part.
      if (process.platform === 'linux') {
        const ofMerchant = await from('127.0.0.2', made);
        expect(ofMerchant).toMatch(/^HTTP\/1.1 503 /);
        expect(ofMerchant).toContain('\r\nRetry-After: 10\r\n');
        expect(ofMerchant).toContain('for this merchant');
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

  test('hundreds of streams that open at the same time leave database connections for other requests', async () => {
    const READERS = 300;
    const client = countingClient(databaseUrl, () => undefined);
    let reads = 0;
    // Each read of a stream holds a database connection until the test releases the read.
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
        Array.from({ length: READERS }, (_, n) => {
          const { id, clientToken } = made[n % 2] ?? made[0];
          return watch(id, clientToken, {}, crowded);
        }),
      );
      await eventually(() => arrived === READERS && reads > 0);
      const created = await crowded.call('/v1/orders', {
        key,
        body: { id: 'in-between', amount: 1, currency: 'CNY' },
      });
      expect(created.status).toBe(201);
      expect(reads).toBeLessThanOrEqual(OPENING_AT_ONCE);
      await holder.query('SELECT pg_advisory_unlock(1)');
      const opened = await opening;
      expect(opened.map(({ status }) => status)).toEqual(Array(READERS).fill(200));
      await eventually(() => opened.every(({ events }) => events.length === 1));
    } finally {
      await holder.end();
      for (const reader of readers.splice(0)) reader.leave();
      await crowded.close();
      await client.$disconnect();
    }
  });

  test("nodrop looks up the API key of a reader only when the reader's stream may open", async () => {
    let asked = 0;
    let openGate = () => {};
    const gate = new Promise<void>((resolve) => {
      openGate = resolve;
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
      openGate();
      expect((await opening).map(({ status }) => status)).toEqual(Array(50).fill(200));
    } finally {
      openGate();
      for (const reader of readers.splice(0)) reader.leave();
      await crowded.close();
    }
  });

  test('the readers of one payment cannot use the slots of readers of other payments', async () => {
    const ofOnePayment = new Changes(databaseUrl, api.deps.log);
    const leaving = new AbortController();
    setMaxListeners(500, leaving.signal);
    const never = { read: async () => 0, done: () => false, timeoutMs: 60_000, signal: leaving.signal };
    const waiting = Array.from({ length: 500 }, () => ofOnePayment.until('payment/one', never));
    expect([ofOnePayment.hasRoom('payment/one'), ofOnePayment.hasRoom('payment/other')]).toEqual([
      false,
      true,
    ]);
    leaving.abort();
    await Promise.all(waiting);
    expect(ofOnePayment.hasRoom('payment/one')).toBe(true);
  });
});

describe('a slow reader', () => {
  /** Each state has half a megabyte, so a socket cannot buffer many of them. */
  const SIZE = 512 * 1024;
  const bulky = (id: string, n: number) => change(id, `${n} ${'x'.repeat(SIZE)}`);
  const newest = ({ events }: Reader) => Number.parseInt(events.at(-1)?.data.attentionDetail, 10);

  /** Starts an API whose sockets the test can inspect. Its payment has one normal reader and one slow reader. */
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

  test('does not delay other readers, uses a limited amount of memory, and is finally disconnected', async () => {
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
      // The send buffer holds only one state, which the kernel has not accepted yet.
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

  test('gets the newest state if it starts to read again in time', async () => {
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
      // The slow reader gets the states that were already sent, and then only the last of the ten states.
      expect(seen).toEqual([...Array.from({ length: full }, (_, each) => each), n - 1]);
      slow.destroy();
    } finally {
      await patient.close();
    }
  });
});

test('a reader that does not read the last data of its stream is disconnected', async () => {
  const limits = { ...STREAMS, drainWithinMs: 300 };
  const left = new Promise<{ unsent: number; destroyed: boolean }>((resolve, reject) => {
    const server = createServer((_request, response) => {
      const fill = async () => {
        const stream = new EventStream(response, undefined, limits, () => undefined);
        const { socket } = response;
        // Sends one small state per turn of the event loop, until the kernel's buffer is full and Node starts to
        // buffer.
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

test('a reader that leaves releases its slot', async () => {
  const made = await pay(api, key);
  const reader = await watch(made.id);
  expect([api.changes.waiting, await readersOf(api)]).toEqual([1, 1]);
  reader.leave();
  await eventually(async () => api.changes.waiting === 0 && (await readersOf(api)) === 0);
  // The metrics count the stream with the status 200.
  await eventually(async () =>
    (await api.deps.metrics.registry.metrics()).includes(
      'nodrop_http_request_duration_seconds_count{route="/v1/payments/{id}/events",method="GET",status="200"} 1',
    ),
  );
});

test('a reader that leaves before its stream opens holds no slot afterwards', async () => {
  const made = await pay(api, key);
  let openGate = () => {};
  const gate = new Promise<void>((resolve) => {
    openGate = resolve;
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
  openGate();
  // The first read opens the stream. The stream itself makes the second read.
  await eventually(() => reads === 2);
  await eventually(async () => api.changes.waiting === 0 && (await readersOf(slow)) === 0);
});
