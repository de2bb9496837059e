import { describe, expect, test } from 'vitest';
import { STREAMS } from '../../../src/api/http/event-stream.ts';
import { runningTime } from '../../support/progress.ts';
import { eventually, queryOnce } from '../../support/stack.ts';
import { newKey, pay, startTestApi } from '../support.ts';
import {
  api,
  change,
  databaseUrl,
  edit,
  elsewhere,
  intercept,
  key,
  QUIET,
  readers,
  settle,
  settledOf,
  watch,
} from './payment-stream-support.ts';

// Tests that GET /v1/payments/{id}/events sends the state and every change to every reader, even if connections or
// processes fail meanwhile.

test('a stream of a payment sends the present state first, then the final state, and ends', async () => {
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
  test('is sent once and in order to each reader who can see the changed fields', async () => {
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
    // The event id identifies the state. This state was sent twice, so two events have the same id.
    expect(merchant.events[4]?.id).toBe(merchant.events[0]?.id);
    expect(new Set(settledOf(merchant).map(({ id }) => id)).size).toBe(5);
  });

  test("has the content of a GET answer, and a payer therefore does not get the merchant's fields", async () => {
    const made = await pay(api, key, { metadata: { secret: 'of the shop' } });
    const [merchant, payer] = [await watch(made.id), await watch(made.id, made.clientToken)];
    await settle(made.id);
    await Promise.all([merchant.ended, payer.ended]);
    const shown = async (as: string) => (await api.call(`/v1/payments/${made.id}`, { key: as })).json;
    expect(merchant.events.at(-1)?.data).toEqual(await shown(key));
    expect(payer.events.at(-1)?.data).toEqual(await shown(made.clientToken));
    expect(JSON.stringify(payer.events)).not.toMatch(/of the shop|orderId|metadata|attention/);
  });

  test('is sent with a heartbeat if only the passage of time caused it', async () => {
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
  test('a state that the reader already has is not sent again by any process', async () => {
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

  test("a state that the reader missed is sent, even if the reader's last id is unknown", async () => {
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

  test('a reader that already has the final state is answered 204, so that it does not reconnect', async () => {
    const made = await pay(api, key);
    await settle(made.id);
    const first = await watch(made.id, made.clientToken);
    await first.ended;
    expect(first.events).toHaveLength(1);
    const again = await watch(made.id, made.clientToken, { 'last-event-id': first.events[0]?.id ?? '' });
    expect(again.status).toBe(204);
  });
});

test("if a change happens while a stream reaches its maximum lifetime, the reader's next stream sends the change", async () => {
  const made = await pay(api, key);
  let reads = 0;
  // The first read opens the stream. A stream this short makes only one more read, and the payment changes during this
  // read.
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

describe('the loss of the database connection during a stream', () => {
  const sever = (who: string) =>
    queryOnce(
      databaseUrl,
      `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and ${who}`,
    );

  test('a change that is made while no connection listens for notifications still reaches the reader of the stream', async () => {
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

  test('the stream stays open while the database is down, and continues when the database is back', async () => {
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
      // The stream reads the payment before this request does. If this request fails, the read of the stream has also
      // failed.
      expect((await api.call(`/v1/payments/${made.id}`, { key })).json.code).toBe('database_unavailable');
    } finally {
      await queryOnce(server, `alter database ${name} allow_connections true`);
    }
    await settle(made.id);
    await reader.ended;
    expect(settledOf(reader).map(({ data }) => data.status)).toEqual(['paying', 'succeeded']);
  });

  test('a failed read is repeated even if the payment does not change again', async () => {
    const made = await pay(api, key);
    let reads = 0;
    // The first read opens the stream. The second read fails.
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

describe("a payment's stream", () => {
  test.each<[string, (made: { clientToken: string }) => Promise<string>]>([
    ['another payment’s token', async () => (await pay(api, key)).clientToken],
    ['a token with a wrong end', async ({ clientToken }) => `${clientToken.slice(0, -1)}-`],
    ['an unknown key', async () => 'sk_nobody'],
  ])('is refused with 401 for %s', async (_name, credential) => {
    const made = await pay(api, key);
    const refused = await api.call(`/v1/payments/${made.id}/events`, { key: await credential(made) });
    expect([refused.status, refused.json.code]).toEqual([401, 'unauthorized']);
    expect(api.changes.waiting).toBe(0);
  });

  test('is refused with 404 if the key belongs to another merchant', async () => {
    const made = await pay(api, key);
    const other = await newKey(api.db);
    const refused = await api.call(`/v1/payments/${made.id}/events`, { key: other.key });
    expect([refused.status, refused.json.code]).toEqual([404, 'payment_not_found']);
  });

  test('ends when the client token expires, and the expired token opens no new stream', async () => {
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

  test('ends after its maximum lifetime, and a key that was revoked during the stream opens no new stream', async () => {
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

test('only GET opens a stream, a preflight allows the headers that a reader sends, and POST is refused', async () => {
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

test('a process that stops ends the streams of its readers cleanly', async () => {
  const made = await pay(api, key);
  const stopping = await startTestApi(databaseUrl);
  const reader = await watch(made.id, made.clientToken, {}, stopping);
  await eventually(() => reader.events.length === 1);
  const began = runningTime();
  await stopping.close(60_000);
  await reader.ended;
  expect(reader.events).toHaveLength(1);
  // The server ended the stream cleanly, and did not cut it after the grace period.
  expect(began()).toBeLessThan(30_000);
});

test('the log has one line per stream, and the line does not contain the token', async () => {
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
