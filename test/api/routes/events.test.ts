import { beforeEach, describe, expect, test } from 'vitest';
import { event, eventPage } from '../../../src/api/schemas/event.ts';
import { newDeliveryId, newEventId } from '../../../src/domain/ids.ts';
import { givePositions } from '../../../src/ledger/feed-positions.ts';
import { notifyWaiters } from '../../../src/ledger/notify.ts';
import { removeOld } from '../../../src/ledger/retention.ts';
import { eventually } from '../../support/stack.ts';
import { newKey, pay } from '../support.ts';
import {
  api,
  becomeNewMerchant,
  contentOf,
  elsewhere,
  idsOf,
  key,
  merchantId,
  NOT_IN_EVENTS,
  record,
} from './events-support.ts';

// Tests the feed, from which merchants read their events.

/** The feed position of an event. An event gets its position when the feed of its merchant is read. */
async function feedPositionOf(id: string): Promise<bigint> {
  const { seq } = await api.db.event.findUniqueOrThrow({ where: { id } });
  if (seq === null) throw new Error(`event ${id} has no feed position`);
  return seq;
}

const feed = (query = '', asKey = key) => api.call(`/v1/events${query}`, { key: asKey });

describe('the feed', () => {
  test('the feed is empty at first, and the cursor of the empty feed is valid', async () => {
    const empty = await feed();
    expect([empty.status, empty.json.data]).toEqual([200, []]);
    const { id } = await record(await pay(api, key));
    expect(idsOf((await feed(`?after=${empty.json.nextCursor}`)).json)).toEqual([id]);
    expect(idsOf((await feed()).json)).toEqual([id]);
  });

  test('an event matches its schema, and has no field outside the schema, such as the client token', async () => {
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
    // Parsing removes the fields that are not in the schema. If this does not change the event, all its fields are
    // documented.
    expect(event.parse(json.data[0])).toEqual(json.data[0]);
    for (const name of NOT_IN_EVENTS) expect(json.data[0].data.payment).not.toHaveProperty(name);
    expect(json.data[0].data.order).not.toHaveProperty('payments');
    expect(JSON.stringify(json)).not.toContain(payment.clientToken);
  });

  test('returns every event once, oldest first, and continues after the cursor that a reader sends', async () => {
    const payment = await pay(api, key);
    const ids: string[] = [];
    for (let version = 1; version <= 7; version++) ids.push((await record(payment, version)).id);
    const seen: string[] = [];
    let cursor = '';
    for (const expected of [3, 3, 1, 0]) {
      const { json } = await feed(`?limit=3${cursor === '' ? '' : `&after=${cursor}`}`);
      expect(json.data).toHaveLength(expected);
      seen.push(...idsOf(json));
      if (expected === 0) expect(json.nextCursor).toBe(cursor);
      cursor = json.nextCursor;
    }
    expect(seen).toEqual(ids);
    ids.push((await record(payment, 8)).id);
    expect(idsOf((await feed(`?after=${cursor}`)).json)).toEqual(ids.slice(-1));
    // Reading the feed a second time with the same cursor gives the same events.
    expect(idsOf((await feed(`?after=${cursor}`)).json)).toEqual(ids.slice(-1));
  });

  describe('the removal of events after 30 days', () => {
    const DAY = 86_400_000;
    const daysAgo = (days: number) => new Date(Date.now() - days * DAY);

    /**
     * Creates one event of a payment for each of these ages in days. The ages begin with the oldest.
     * @returns for each event, the cursor that continues after it
     */
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

    test('a cursor beyond the newest event, which can exist after a restored backup, is refused', async () => {
      const { cursors } = await history(1);
      expect((await feed(`?after=${cursors[0]}`)).status).toBe(200);
      const beyond = Buffer.from('events/99999999999').toString('base64url');
      expect(await feed(`?after=${beyond}&wait=60`)).toMatchObject(refused);
      // If a merchant has no event, the API cannot detect that a cursor is beyond the end of the feed.
      expect((await feed(`?after=${beyond}`, (await newKey(api.db)).key)).status).toBe(200);
    });

    test('if events after a cursor were removed, the cursor is refused with an explanation, but later cursors are valid', async () => {
      const start = (await feed()).json.nextCursor;
      const { ids, cursors } = await history(40, 35, 5);
      const [first, second, third] = cursors;
      await remove();
      for (const cursor of [start, first]) {
        const answer = await feed(`?after=${cursor}&wait=60`);
        expect(answer).toMatchObject(refused);
        expect(answer.headers.get('content-type')).toContain('application/problem+json');
        expect(answer.json.detail).toMatch(/Read your orders or payments again, and start without `after`/);
      }
      expect(idsOf((await feed(`?after=${second}`)).json)).toEqual(ids.slice(2));
      expect((await feed(`?after=${third}`)).json).toEqual({ data: [], nextCursor: third });
      const restarted = (await feed()).json;
      expect(idsOf(restarted)).toEqual(ids.slice(2));
      expect((await feed(`?after=${restarted.nextCursor}`)).status).toBe(200);
    });

    test('the cursor of the newest event and the cursor of an empty feed stay valid until a later event is removed', async () => {
      const { payment, cursors } = await history(60, 60);
      await remove();
      const last = cursors[1];
      expect((await feed(`?after=${last}`)).json).toEqual({ data: [], nextCursor: last });
      const empty = (await feed()).json;
      expect(empty.data).toEqual([]);
      const { id } = await record(payment, 3);
      for (const cursor of [last, empty.nextCursor])
        expect(idsOf((await feed(`?after=${cursor}`)).json)).toEqual([id]);
      // This removal also deletes the event `id`. A reader with one of these cursors has not read that event.
      await remove(31);
      for (const cursor of [last, empty.nextCursor])
        expect(await feed(`?after=${cursor}`)).toMatchObject(refused);
    });

    test('undelivered events are kept longer, and a reader gets them page by page although the events between them were removed', async () => {
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
      for (const cursor of cursors.slice(0, 3)) expect(await feed(`?after=${cursor}`)).toMatchObject(refused);
    });

    test('removed events of other merchants do not make a cursor expire', async () => {
      const cursor = (await feed()).json.nextCursor;
      const mine = key;
      await becomeNewMerchant();
      await history(40);
      await remove();
      expect((await feed(`?after=${cursor}`, mine)).status).toBe(200);
    });
  });

  describe('a restore that lost the last events', () => {
    const refused = {
      status: 410,
      json: { code: 'cursor_expired', detail: expect.stringContaining('restored') },
    };

    /** Restores the rows and the sequence to their state when `kept` was the last event. */
    async function restoreTo(kept: string) {
      const seq = await feedPositionOf(kept);
      await api.db.event.deleteMany({ where: { seq: { gt: seq } } });
      await api.db.$executeRaw`SELECT setval('events_seq_seq', ${seq})`;
    }

    /**
     * Creates a payment's events.
     * @returns for each event, the cursor that continues after it
     */
    async function history(count: number) {
      const payment = await pay(api, key);
      const ids: string[] = [];
      for (let version = 1; version <= count; version++) ids.push((await record(payment, version)).id);
      const cursors: string[] = [];
      for (let limit = 1; limit <= count; limit++)
        cursors.push((await feed(`?limit=${limit}`)).json.nextCursor);
      return { payment, ids, cursors, kept: ids[1] ?? '' };
    }

    test('a reader that has read lost events is refused, even if later events have taken the feed positions of the lost events', async () => {
      const { payment, ids, cursors, kept } = await history(5);
      await restoreTo(kept);
      for (const lost of cursors.slice(2))
        expect(await feed(`?after=${lost}&wait=60`)).toMatchObject(refused);
      const later: string[] = [];
      for (let version = 3; version <= 8; version++) {
        later.push((await record(payment, version)).id);
        for (const lost of cursors.slice(2)) expect(await feed(`?after=${lost}`)).toMatchObject(refused);
      }
      // A reader that has not read the lost events can continue, and a new reader can start.
      expect(idsOf((await feed(`?after=${cursors[0]}`)).json)).toEqual([kept, ...later]);
      expect(idsOf((await feed(`?after=${cursors[1]}`)).json)).toEqual(later);
      const all = (await feed()).json;
      expect(idsOf(all)).toEqual([ids[0], kept, ...later]);
      expect((await feed(`?after=${all.nextCursor}`)).json).toEqual({ data: [], nextCursor: all.nextCursor });
    });

    test("a reader that has read lost events is refused even if another merchant's event now has the reader's last feed position", async () => {
      const { payment, cursors, kept } = await history(3);
      await restoreTo(kept);
      const stranger = await newKey(api.db);
      const theirs = await record(await pay(api, stranger.key), 1, 'payment.closed', stranger.key);
      await feed('', stranger.key);
      expect(Buffer.from(cursors[2] ?? '', 'base64url').toString()).toContain(
        `events/${await feedPositionOf(theirs.id)}/`,
      );
      await record(payment, 3);
      expect(await feed(`?after=${cursors[2]}`)).toMatchObject(refused);
    });

    test("a reader that has read lost events is refused even if the restored database has no event of the reader's merchant", async () => {
      const stranger = await newKey(api.db);
      const first = await record(await pay(api, stranger.key), 1, 'payment.closed', stranger.key);
      await feed('', stranger.key);
      const { cursors } = await history(1);
      await restoreTo(first.id);
      expect(await feed(`?after=${cursors[0]}`)).toMatchObject(refused);
    });

    test('a reader that has read lost events is refused even if later events with higher feed positions have been removed', async () => {
      const { payment, cursors, kept } = await history(3);
      await restoreTo(kept);
      const again = await record(payment, 3);
      await api.db.delivery.create({
        data: { id: newDeliveryId(), eventId: again.id, merchantId, paymentId: payment.id },
      });
      const newer = await record(payment, 4);
      await givePositions(api.db, merchantId);
      const seq = await feedPositionOf(newer.id);
      await api.db.merchant.update({ where: { id: merchantId }, data: { eventsRemovedTo: seq } });
      // The cursor of a reader that started after all of these events had been removed.
      const lost = Buffer.from(`${Buffer.from(cursors[2] ?? '', 'base64url')}/${seq}`).toString('base64url');
      expect(await feed(`?after=${lost}`)).toMatchObject(refused);
    });

    test('a reader of lost events that waits during the restore is refused, and gets no event that was written after the restore', async () => {
      const { payment, cursors, kept } = await history(3);
      await eventually(() => api.changes.listening);
      const asked = feed(`?after=${cursors[2]}&wait=60`);
      await eventually(() => api.changes.waiting === 1);
      await restoreTo(kept);
      for (let version = 3; version <= 5; version++) await record(payment, version);
      expect(await asked).toMatchObject(refused);
    });

    test('a cursor of an older version, which has no event id, is refused only if it is beyond the newest event', async () => {
      const { payment, ids, kept } = await history(3);
      const seq = await feedPositionOf(ids[2] ?? '');
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

  test("the feed shows only the merchant's own events", async () => {
    const stranger = await newKey(api.db);
    const theirs = await record(await pay(api, stranger.key), 1, 'payment.closed', stranger.key);
    const { id } = await record(await pay(api, key));
    expect(idsOf((await feed()).json)).toEqual([id]);
    expect(idsOf((await feed('', stranger.key)).json)).toEqual([theirs.id]);
    const cursor = (await feed()).json.nextCursor;
    expect((await feed(`?after=${cursor}`, stranger.key)).json.code).toBe('cursor_expired');
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
  ])('the query string %s is refused', async (query) => {
    const answer = await feed(`?${query}`);
    expect([answer.status, answer.json.code]).toEqual([422, 'invalid_request']);
    expect(answer.json.errors[0].path).toBe(query.split('=')[0]);
  });
});

describe('the feed with the parameter wait', () => {
  beforeEach(async () => {
    await eventually(() => api.changes.listening);
  });

  test('answers as soon as any process has written an event', async () => {
    const payment = await pay(api, key);
    const cursor = (await feed()).json.nextCursor;
    const asked = feed(`?after=${cursor}&wait=60`);
    await eventually(() => api.changes.waiting === 1);
    const { id } = await record(payment);
    expect(idsOf((await asked).json)).toEqual([id]);
    expect(api.changes.waiting).toBe(0);
  });

  test('continues to wait when an event of another merchant is written', async () => {
    const stranger = await newKey(api.db);
    const asked = feed('?wait=60');
    await eventually(() => api.changes.waiting === 1);
    await record(await pay(api, stranger.key), 1, 'payment.closed', stranger.key);
    const { id } = await record(await pay(api, key));
    expect(idsOf((await asked).json)).toEqual([id]);
  });

  test('answers immediately if there is already an event', async () => {
    const { id } = await record(await pay(api, key));
    expect(idsOf((await feed('?wait=60')).json)).toEqual([id]);
  });

  test('returns no event and the same cursor if no event is written before the wait ends', async () => {
    const { nextCursor } = (await feed()).json;
    expect((await feed(`?after=${nextCursor}&wait=1`)).json).toEqual({ data: [], nextCursor });
  });

  test('returns an event that is committed late, even after a newer event of another merchant was committed', async () => {
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
