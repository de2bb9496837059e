import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { delivery, deliveryPage, event, eventPage } from '../../../src/api/schemas/event.ts';
import { newDeliveryId, newEventId } from '../../../src/domain/ids.ts';
import type { Prisma } from '../../../src/generated/prisma/client.ts';
import { removeOld } from '../../../src/ledger/cleanup.ts';
import { createLedgerClient, type LedgerClient } from '../../../src/ledger/client.ts';
import { givePlaces } from '../../../src/ledger/feed-places.ts';
import { createApiKey } from '../../../src/ledger/merchants.ts';
import { notifyWaiters } from '../../../src/ledger/notify.ts';
import { eventually, type FreshDatabase, freshDatabase } from '../../support/stack.ts';
import { newKey, pay, startTestApi, type TestApi } from '../support.ts';

// What merchants read of their events: the feed, and how each is on its way to the order service.

let database: FreshDatabase;
let api: TestApi;
let key: string;
let merchantId: string;
/** Another process, as far as PostgreSQL can tell. */
let elsewhere: LedgerClient;

beforeAll(async () => {
  database = await freshDatabase();
});
afterAll(async () => {
  await database.drop();
});
beforeEach(async () => {
  api = await startTestApi(database.url);
  elsewhere = createLedgerClient(database.url);
  ({ key, merchantId } = await newKey(api.db));
});
afterEach(async () => {
  await api.close();
  await elsewhere.$disconnect();
});

const NOT_IN_EVENTS = [
  ...['nextAction', 'payUrl', 'checkoutUrl', 'clientToken', 'temporalUrl'],
  // Refunds have events of their own.
  ...['refundReason', 'refundStatus'],
  // Of the request, for the merchant who made it.
  ...['payer', 'returnUrl', 'adopted'],
  // An event has the attention that shows them.
  'disputes',
];

/** What an event of this payment tells. */
async function contentOf(id: string, asKey = key): Promise<Prisma.JsonObject> {
  const payment = (await api.call(`/v1/payments/${id}`, { key: asKey })).json;
  const { payments: _, ...order } = (await api.call(`/v1/orders/${payment.orderId}`, { key: asKey })).json;
  const told = Object.entries(payment).filter(([name]) => !NOT_IN_EVENTS.includes(name));
  return { payment: Object.fromEntries(told) as Prisma.JsonObject, order };
}

/** An event of a payment, as the ledger writes it: without a place, and its waiters are notified after that. */
async function record(payment: { id: string }, version = 1, type = 'payment.succeeded', asKey = key) {
  const { merchantId: owner, orderId } = await api.db.payment.findUniqueOrThrow({
    where: { id: payment.id },
  });
  const row = await elsewhere.event.create({
    data: {
      id: newEventId(),
      merchantId: owner,
      paymentId: payment.id,
      type,
      version,
      data: { ...(await contentOf(payment.id, asKey)), version },
    },
  });
  await notifyWaiters(elsewhere, owner, orderId, true);
  return row;
}

/** The place of an event whose merchant's feed has been read since. */
async function placeOf(id: string): Promise<bigint> {
  const { seq } = await api.db.event.findUniqueOrThrow({ where: { id } });
  if (seq === null) throw new Error(`event ${id} has no place`);
  return seq;
}

const feed = (query = '', asKey = key) => api.call(`/v1/events${query}`, { key: asKey });
const idsOf = ({ data }: { data: { id: string }[] }) => data.map(({ id }) => id);

describe('the feed', () => {
  test('is empty at first, and its cursor is a place to go on from all the same', async () => {
    const empty = await feed();
    expect([empty.status, empty.json.data]).toEqual([200, []]);
    const { id } = await record(await pay(api, key));
    expect(idsOf((await feed(`?after=${empty.json.nextCursor}`)).json)).toEqual([id]);
    expect(idsOf((await feed()).json)).toEqual([id]);
  });

  test('shows what the schema says: the payment and its order without what is for whoever asks', async () => {
    const payment = await pay(api, key);
    const row = await record(payment);
    const { json } = await feed();
    eventPage.parse(json);
    expect(json.data).toEqual([
      {
        id: row.id,
        type: 'payment.succeeded',
        timestamp: row.createdAt.toISOString(),
        data: { ...(await contentOf(payment.id)), version: row.version },
      },
    ]);
    // Parsing drops what the schema does not have.
    expect(event.parse(json.data[0])).toEqual(json.data[0]);
    for (const name of NOT_IN_EVENTS) expect(json.data[0].data.payment).not.toHaveProperty(name);
    expect(json.data[0].data.order).not.toHaveProperty('payments');
    expect(JSON.stringify(json)).not.toContain(payment.clientToken);
  });

  test('pages from the oldest on, each once, and goes on from where a reader was', async () => {
    const payment = await pay(api, key);
    const ids: string[] = [];
    for (let version = 1; version <= 7; version++) ids.push((await record(payment, version)).id);
    const seen: string[] = [];
    let place = '';
    for (const expected of [3, 3, 1, 0]) {
      const { json } = await feed(`?limit=3${place === '' ? '' : `&after=${place}`}`);
      expect(json.data).toHaveLength(expected);
      seen.push(...idsOf(json));
      if (expected === 0) expect(json.nextCursor).toBe(place);
      place = json.nextCursor;
    }
    expect(seen).toEqual(ids);
    ids.push((await record(payment, 8)).id);
    expect(idsOf((await feed(`?after=${place}`)).json)).toEqual(ids.slice(-1));
    // Asked again, the same again.
    expect(idsOf((await feed(`?after=${place}`)).json)).toEqual(ids.slice(-1));
  });

  describe('after 30 days', () => {
    const DAY = 86_400_000;
    const daysAgo = (days: number) => new Date(Date.now() - days * DAY);

    /** A payment's events of so many days ago, oldest first, and the cursor after each; what has had its time is removed. */
    async function history(...ages: number[]) {
      const payment = await pay(api, key);
      const ids: string[] = [];
      for (const [i] of ages.entries()) ids.push((await record(payment, i + 1)).id);
      const cursors: string[] = [];
      for (const [i] of ids.entries()) cursors.push((await feed(`?limit=${i + 1}`)).json.nextCursor);
      for (const [i, age] of ages.entries())
        await api.db.event.update({ where: { id: ids[i] ?? '' }, data: { createdAt: daysAgo(age) } });
      return { payment, ids, cursors };
    }
    const remove = (days = 0) => removeOld(api.db, new Date(Date.now() + days * DAY));
    const refused = { status: 410, json: { code: 'cursor_expired', title: expect.any(String) } };

    test('a cursor that no event has come to, as after a restored backup, is refused', async () => {
      const { cursors } = await history(1);
      expect((await feed(`?after=${cursors[0]}`)).status).toBe(200);
      const beyond = Buffer.from('events/99999999999').toString('base64url');
      expect(await feed(`?after=${beyond}&wait=60`)).toMatchObject(refused);
      // Of a merchant of which nothing is kept nobody can tell.
      expect((await feed(`?after=${beyond}`, (await newKey(api.db)).key)).status).toBe(200);
    });

    test('a cursor after which events were removed is refused, and says what to do; others go on', async () => {
      const start = (await feed()).json.nextCursor;
      const { ids, cursors } = await history(40, 35, 5);
      const [first, second, third] = cursors;
      await remove();
      for (const place of [start, first]) {
        const answer = await feed(`?after=${place}&wait=60`);
        expect(answer).toMatchObject(refused);
        expect(answer.headers.get('content-type')).toContain('application/problem+json');
        expect(answer.json.detail).toMatch(/Read your orders or payments anew, and start without `after`/);
      }
      expect(idsOf((await feed(`?after=${second}`)).json)).toEqual(ids.slice(2));
      expect((await feed(`?after=${third}`)).json).toEqual({ data: [], nextCursor: third });
      const anew = (await feed()).json;
      expect(idsOf(anew)).toEqual(ids.slice(2));
      expect((await feed(`?after=${anew.nextCursor}`)).status).toBe(200);
    });

    test('a quiet merchant’s cursor is good for ever, and so is that of an empty feed', async () => {
      const { payment, cursors } = await history(60, 60);
      await remove();
      const last = cursors[1];
      expect((await feed(`?after=${last}`)).json).toEqual({ data: [], nextCursor: last });
      const empty = (await feed()).json;
      expect(empty.data).toEqual([]);
      const { id } = await record(payment, 3);
      for (const place of [last, empty.nextCursor])
        expect(idsOf((await feed(`?after=${place}`)).json)).toEqual([id]);
      // Whoever began then has missed that one when it goes as well.
      await remove(31);
      for (const place of [last, empty.nextCursor])
        expect(await feed(`?after=${place}`)).toMatchObject(refused);
    });

    test('what is kept longer, as its order service has not answered, is read page by page past what is gone', async () => {
      const { ids, cursors, payment } = await history(50, 49, 48, 47, 1);
      for (const i of [0, 2]) {
        const data = { id: newDeliveryId(), eventId: ids[i] ?? '', merchantId, paymentId: payment.id };
        await api.db.delivery.create({ data });
      }
      await remove();
      const seen: string[] = [];
      for (let query = '?limit=1'; seen.length < 3; ) {
        const { status, json } = await feed(query);
        expect([status, json.data.length]).toEqual([200, 1]);
        seen.push(...idsOf(json));
        query = `?limit=1&after=${json.nextCursor}`;
      }
      expect(seen).toEqual([ids[0], ids[2], ids[4]]);
      for (const place of cursors.slice(0, 3)) expect(await feed(`?after=${place}`)).toMatchObject(refused);
    });

    test('what was removed of others refuses nobody', async () => {
      const place = (await feed()).json.nextCursor;
      const mine = key;
      ({ key, merchantId } = await newKey(api.db));
      await history(40);
      await remove();
      expect((await feed(`?after=${place}`, mine)).status).toBe(200);
    });
  });

  describe('after a restore that lost the last events', () => {
    const refused = {
      status: 410,
      json: { code: 'cursor_expired', detail: expect.stringContaining('restored') },
    };

    /** Rows and sequence as they were when `kept` was the last event of all. */
    async function restoreTo(kept: string) {
      const seq = await placeOf(kept);
      await api.db.event.deleteMany({ where: { seq: { gt: seq } } });
      await api.db.$executeRaw`SELECT setval('events_seq_seq', ${seq})`;
    }

    /** A payment's events, and the cursor after each. */
    async function history(count: number) {
      const payment = await pay(api, key);
      const ids: string[] = [];
      for (let version = 1; version <= count; version++) ids.push((await record(payment, version)).id);
      const cursors: string[] = [];
      for (let limit = 1; limit <= count; limit++)
        cursors.push((await feed(`?limit=${limit}`)).json.nextCursor);
      return { payment, ids, cursors, kept: ids[1] ?? '' };
    }

    test('whoever had read the lost ones is refused, whether their places have been given out again or not', async () => {
      const { payment, ids, cursors, kept } = await history(5);
      await restoreTo(kept);
      for (const lost of cursors.slice(2))
        expect(await feed(`?after=${lost}&wait=60`)).toMatchObject(refused);
      const anew: string[] = [];
      for (let version = 3; version <= 8; version++) {
        anew.push((await record(payment, version)).id);
        for (const lost of cursors.slice(2)) expect(await feed(`?after=${lost}`)).toMatchObject(refused);
      }
      // Whoever had not goes on, and so does whoever starts anew.
      expect(idsOf((await feed(`?after=${cursors[0]}`)).json)).toEqual([kept, ...anew]);
      expect(idsOf((await feed(`?after=${cursors[1]}`)).json)).toEqual(anew);
      const all = (await feed()).json;
      expect(idsOf(all)).toEqual([ids[0], kept, ...anew]);
      expect((await feed(`?after=${all.nextCursor}`)).json).toEqual({ data: [], nextCursor: all.nextCursor });
    });

    test('also when the place is another merchant’s now', async () => {
      const { payment, cursors, kept } = await history(3);
      await restoreTo(kept);
      const stranger = await newKey(api.db);
      const theirs = await record(await pay(api, stranger.key), 1, 'payment.closed', stranger.key);
      await feed('', stranger.key);
      expect(Buffer.from(cursors[2] ?? '', 'base64url').toString()).toContain(
        `events/${await placeOf(theirs.id)}/`,
      );
      await record(payment, 3);
      expect(await feed(`?after=${cursors[2]}`)).toMatchObject(refused);
    });

    test('also when every event the merchant ever had is lost', async () => {
      const stranger = await newKey(api.db);
      const first = await record(await pay(api, stranger.key), 1, 'payment.closed', stranger.key);
      await feed('', stranger.key);
      const { cursors } = await history(1);
      await restoreTo(first.id);
      expect(await feed(`?after=${cursors[0]}`)).toMatchObject(refused);
    });

    test('a place that was given out again is refused below what was removed later too', async () => {
      const { payment, cursors, kept } = await history(3);
      await restoreTo(kept);
      const again = await record(payment, 3);
      await api.db.delivery.create({
        data: { id: newDeliveryId(), eventId: again.id, merchantId, paymentId: payment.id },
      });
      const newer = await record(payment, 4);
      await givePlaces(api.db, merchantId);
      const seq = await placeOf(newer.id);
      await api.db.merchant.update({ where: { id: merchantId }, data: { eventsRemovedTo: seq } });
      // A reader that began when all of these had been removed.
      const lost = Buffer.from(`${Buffer.from(cursors[2] ?? '', 'base64url')}/${seq}`).toString('base64url');
      expect(await feed(`?after=${lost}`)).toMatchObject(refused);
    });

    test('a reader that waits meanwhile is refused, and not told what came after its place', async () => {
      const { payment, cursors, kept } = await history(3);
      await eventually(() => api.changes.listening);
      const asked = feed(`?after=${cursors[2]}&wait=60`);
      await eventually(() => api.changes.waiting === 1);
      await restoreTo(kept);
      for (let version = 3; version <= 5; version++) await record(payment, version);
      expect(await asked).toMatchObject(refused);
    });

    test('a cursor without an event’s id, as older ones are, stays valid up to the newest event', async () => {
      const { payment, ids, kept } = await history(3);
      const seq = await placeOf(ids[2] ?? '');
      const older = (at: bigint) => Buffer.from(`events/${at}`).toString('base64url');
      expect((await feed(`?after=${older(seq)}`)).json.data).toEqual([]);
      await restoreTo(kept);
      expect(await feed(`?after=${older(seq)}`)).toMatchObject(refused);
      await record(payment, 3);
      const { id } = await record(payment, 4);
      const page = (await feed(`?after=${older(seq)}`)).json;
      expect(idsOf(page)).toEqual([id]);
      expect((await feed(`?after=${page.nextCursor}`)).status).toBe(200);
    });
  });

  test('is the merchant’s own: others’ events are neither shown nor counted', async () => {
    const stranger = await newKey(api.db);
    const theirs = await record(await pay(api, stranger.key), 1, 'payment.closed', stranger.key);
    const { id } = await record(await pay(api, key));
    expect(idsOf((await feed()).json)).toEqual([id]);
    expect(idsOf((await feed('', stranger.key)).json)).toEqual([theirs.id]);
    const place = (await feed()).json.nextCursor;
    expect((await feed(`?after=${place}`, stranger.key)).json.code).toBe('cursor_expired');
  });

  test.each([
    'after=zzz',
    'after=',
    `after=${Buffer.from('7').toString('base64url')}`,
    `after=${Buffer.from('events/-1').toString('base64url')}`,
    `after=${Buffer.from('events/1x').toString('base64url')}`,
    `after=${Buffer.from('events/1/').toString('base64url')}`,
    `after=${Buffer.from('events/1/2/3').toString('base64url')}`,
    `after=${Buffer.from('events/1/evt_').toString('base64url')}`,
    `after=${Buffer.from('events/1/2/evt_x').toString('base64url')}`,
    `after=${Buffer.from('events/1/evt_\0').toString('base64url')}`,
    `after=${Buffer.from('events/1/evt_x\n').toString('base64url')}`,
    `after=${Buffer.from('events/9999999999999999999').toString('base64url')}`,
    `after=${'x'.repeat(201)}`,
    'after=a&after=b',
    'limit=0',
    'limit=501',
    'wait=61',
    'cursor=x',
  ])('%s is refused', async (query) => {
    const answer = await feed(`?${query}`);
    expect([answer.status, answer.json.code]).toEqual([422, 'invalid_request']);
    expect(answer.json.errors[0].path).toBe(query.split('=')[0]);
  });
});

describe('the feed with wait', () => {
  beforeEach(async () => {
    await eventually(() => api.changes.listening);
  });

  test('answers as soon as there is an event, whichever process wrote it', async () => {
    const payment = await pay(api, key);
    const place = (await feed()).json.nextCursor;
    const asked = feed(`?after=${place}&wait=60`);
    await eventually(() => api.changes.waiting === 1);
    const { id } = await record(payment);
    expect(idsOf((await asked).json)).toEqual([id]);
    expect(api.changes.waiting).toBe(0);
  });

  test('is not disturbed by what others are told', async () => {
    const stranger = await newKey(api.db);
    const asked = feed('?wait=60');
    await eventually(() => api.changes.waiting === 1);
    await record(await pay(api, stranger.key), 1, 'payment.closed', stranger.key);
    const { id } = await record(await pay(api, key));
    expect(idsOf((await asked).json)).toEqual([id]);
  });

  test('answers at once when there is something already', async () => {
    const { id } = await record(await pay(api, key));
    expect(idsOf((await feed('?wait=60')).json)).toEqual([id]);
  });

  test('without news it is empty after the time asked for, at the same place', async () => {
    const { nextCursor } = (await feed()).json;
    expect((await feed(`?after=${nextCursor}&wait=1`)).json).toEqual({ data: [], nextCursor });
  });

  test('hears of an event that is committed late, after a later one of another merchant', async () => {
    const stranger = await newKey(api.db);
    const [mine, theirs] = [await pay(api, key), await pay(api, stranger.key)];
    const asked = feed('?wait=60');
    await eventually(() => api.changes.waiting === 1);
    const id = newEventId();
    const data = await contentOf(mine.id);
    await elsewhere.$transaction(async (tx) => {
      await tx.event.create({
        data: { id, merchantId, paymentId: mine.id, type: 'payment.closed', version: 1, data },
      });
      await api.db.event.create({
        data: {
          id: newEventId(),
          merchantId: stranger.merchantId,
          paymentId: theirs.id,
          type: 'payment.closed',
          version: 1,
          data,
        },
      });
      await notifyWaiters(elsewhere, stranger.merchantId, theirs.orderId, true);
    });
    await notifyWaiters(elsewhere, merchantId, mine.orderId, true);
    expect(idsOf((await asked).json)).toEqual([id]);
  });
});

describe('a payment’s deliveries', () => {
  const deliver = async (row: { id: string; paymentId: string; merchantId: string }, changes: object = {}) =>
    await api.db.delivery.create({
      data: {
        id: newDeliveryId(),
        eventId: row.id,
        merchantId: row.merchantId,
        paymentId: row.paymentId,
        ...changes,
      },
    });
  const list = (id: string, query = '', asKey = key) =>
    api.call(`/v1/payments/${id}/deliveries${query}`, { key: asKey });

  test('are none without an order service', async () => {
    const payment = await pay(api, key);
    await record(payment);
    expect((await list(payment.id)).json).toEqual({ data: [], nextCursor: null });
  });

  test('are shown newest first, with the last 20 calls of each', async () => {
    const payment = await pay(api, key);
    const at = (seconds: number) => new Date(Date.UTC(2026, 10, 21, 10, 0, seconds));
    const first = await deliver(await record(payment, 1), {
      status: 'delivered',
      attempts: 25,
      firstAttemptAt: at(0),
      settledAt: at(24),
      createdAt: at(0),
    });
    const second = await deliver(await record(payment, 2, 'refund.succeeded'), {
      nextAttemptAt: at(40),
      createdAt: at(30),
    });
    await api.db.deliveryAttempt.createMany({
      data: Array.from({ length: 25 }, (_, i) => ({
        deliveryId: first.id,
        at: at(i),
        outcome: i < 24 ? 'unknown' : 'agreed',
        statusCode: i === 0 ? null : i < 24 ? 500 : 200,
        detail: i < 24 ? `Call ${i} failed.` : 'It agreed.',
        durationMs: i,
      })),
    });
    const { json } = await list(payment.id);
    for (const one of json.data) delivery.parse(one);
    expect(json.nextCursor).toBeNull();
    expect(json.data[0]).toEqual({
      id: second.id,
      eventId: second.eventId,
      paymentId: payment.id,
      orderId: payment.orderId,
      type: 'refund.succeeded',
      version: 2,
      status: 'pending',
      attempts: 0,
      firstAttemptAt: null,
      nextAttemptAt: at(40).toISOString(),
      settledAt: null,
      log: [],
      temporalUrl: null,
    });
    expect(json.data[1]).toMatchObject({
      id: first.id,
      type: 'payment.succeeded',
      version: 1,
      status: 'delivered',
      attempts: 25,
      settledAt: at(24).toISOString(),
    });
    expect(json.data[1].log).toHaveLength(20);
    expect(json.data[1].log[0]).toEqual({
      at: at(24).toISOString(),
      outcome: 'agreed',
      statusCode: 200,
      detail: 'It agreed.',
      answer: null,
      durationMs: 24,
    });
    expect(json.data[1].log.at(-1).detail).toBe('Call 5 failed.');
    const page = (await list(payment.id, '?limit=1')).json;
    expect(idsOf(page)).toEqual([second.id]);
    expect(idsOf((await list(payment.id, `?limit=1&cursor=${page.nextCursor}`)).json)).toEqual([first.id]);
  });

  test('are of this payment alone, and for its merchant alone', async () => {
    const [payment, other] = [await pay(api, key), await pay(api, key)];
    await deliver(await record(payment));
    expect((await list(other.id)).json.data).toEqual([]);
    const stranger = await newKey(api.db);
    expect((await list(payment.id, '', stranger.key)).json.code).toBe('payment_not_found');
    expect((await list(`pay_${randomUUID().slice(0, 8)}`)).status).toBe(404);
  });
});

describe('a merchant’s deliveries', () => {
  const BASE = Date.now() - 5 * 86_400_000;
  const since = (ms: number) => new Date(BASE + ms).toISOString();

  /** So many of a payment, newest first, each with the status at its place. */
  async function deliver(statuses: readonly string[], asKey = key): Promise<string[]> {
    const payment = await pay(api, asKey);
    const ids: string[] = [];
    for (const [i, status] of statuses.entries()) {
      const row = await record(payment, i + 1, 'refund.succeeded', asKey);
      const data = {
        id: newDeliveryId(),
        eventId: row.id,
        merchantId: row.merchantId,
        paymentId: payment.id,
      };
      // Some of the same time.
      const createdAt = new Date(BASE + 1_000 * Math.floor(i / 3));
      const settledAt = status === 'pending' ? null : createdAt;
      const nextAttemptAt = status === 'pending' ? new Date(Date.now() + 86_400_000) : null;
      ids.push(
        (await api.db.delivery.create({ data: { ...data, status, createdAt, settledAt, nextAttemptAt } })).id,
      );
    }
    return ids.reverse();
  }
  const list = (query = '', asKey = key) => api.call(`/v1/deliveries${query}`, { key: asKey });
  const redeliver = (body: unknown, asKey = key) =>
    api.call('/v1/deliveries/redeliver', { key: asKey, body });
  const asked = async () =>
    (await api.db.delivery.findMany({ where: { merchantId, redeliveryAskedAt: { not: null } } })).map(
      ({ id }) => id,
    );

  test('are listed newest first, in pages without gaps, while new ones come in; others’ are not', async () => {
    await deliver(['pending'], (await newKey(api.db)).key);
    const statuses = [...Array(8)].map((_, i) => (i % 2 === 0 ? 'pending' : 'delivered'));
    const rows = await api.db.delivery.findMany({
      where: { id: { in: await deliver(statuses) } },
      orderBy: [{ createdAt: 'desc' }, { id: 'desc' }],
    });
    for (const [status, expected] of [
      ['', rows],
      ['&status=pending', rows.filter((row) => row.status === 'pending')],
    ] as const) {
      const seen: string[] = [];
      for (let query = ''; ; ) {
        const { status: code, json } = await list(`?limit=3${status}${query}`);
        expect(code).toBe(200);
        deliveryPage.parse(json);
        seen.push(...idsOf(json));
        if (json.nextCursor === null) break;
        query = `&cursor=${json.nextCursor}`;
        await deliver(['pending']).then((ids) =>
          api.db.delivery.updateMany({ where: { id: { in: ids } }, data: { createdAt: new Date() } }),
        );
      }
      expect(seen).toEqual(expected.map(({ id }) => id));
      await api.db.delivery.deleteMany({
        where: { merchantId, createdAt: { gt: new Date(Date.now() - 3_600_000) } },
      });
    }
    expect((await list('?status=lost')).json.errors[0].path).toBe('status');
    expect((await list('?cursor=zzz')).json.errors[0].path).toBe('cursor');
  });

  test('show an operator the workflow that tells them, and nobody else', async () => {
    const [id = ''] = await deliver(['pending']);
    const { key: operator } = await createApiKey(api.db, merchantId, 'operator');
    const [shown] = (await list('', operator)).json.data;
    expect(shown.temporalUrl).toContain(encodeURIComponent(`delivery/${id}`));
    expect((await list()).json.data[0]).toMatchObject({ id, temporalUrl: null });
    const payment = (await api.call(`/v1/payments/${shown.paymentId}/deliveries`, { key: operator })).json;
    expect(payment.data[0].temporalUrl).toBe(shown.temporalUrl);
  });

  test('are told again by their status: repeated, the same, and no other status or merchant', async () => {
    const stranger = await newKey(api.db);
    await deliver(['pending', 'delivered'], stranger.key);
    const [, gone, , told, waits] = await deliver(['pending', 'delivered', 'pending', 'gone', 'pending']);
    for (let i = 0; i < 2; i++) {
      expect(await redeliver({ status: 'delivered' })).toMatchObject({
        status: 202,
        json: { count: 1, nextSince: null },
      });
      expect(await asked()).toEqual([told]);
    }
    expect(api.deliveryWorkflows.calls).toEqual([
      { name: 'redeliverWaiting', deliveryId: merchantId },
      { name: 'redeliverWaiting', deliveryId: merchantId },
    ]);
    expect((await redeliver({ status: 'pending', since: since(1_000) })).json.count).toBe(1);
    expect(
      (await redeliver({ status: 'gone', since: since(7_201_000).replace('Z', '+02:00') })).json.count,
    ).toBe(1);
    expect((await asked()).toSorted()).not.toContain(waits);
    expect(await asked()).toContain(gone);
    expect((await redeliver({ status: 'conflict' })).json).toEqual({ count: 0, nextSince: null });
    expect(
      await api.db.delivery.count({
        where: { redeliveryAskedAt: { not: null }, merchantId: stranger.merchantId },
      }),
    ).toBe(0);
  });

  test('are asked for though Temporal is away: it is in the ledger', async () => {
    const [id] = await deliver(['pending']);
    api.deliveryWorkflows.down = true;
    expect(await redeliver({ status: 'pending' })).toMatchObject({ status: 202, json: { count: 1 } });
    expect(await asked()).toEqual([id]);
  });

  test.each([
    [{}, 'status'],
    [{ status: 'superseded' }, 'status'],
    [{ status: 'pending', since: 'yesterday' }, 'since'],
    [{ status: 'pending', limit: 3 }, 'limit'],
  ])('are not told again by %j', async (body, path) => {
    expect(await redeliver(body)).toMatchObject({ status: 422, json: { errors: [{ path }] } });
  });

  test('of years before all events: all that are kept', async () => {
    await deliver(['pending']);
    expect((await redeliver({ status: 'pending', since: '0000-01-01T00:00:00Z' })).json.count).toBe(1);
  });
});
