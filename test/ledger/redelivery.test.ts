import { beforeEach, describe, expect, test } from 'vitest';
import type { DeliveryOutcome } from '../../src/domain/event.ts';
import { newDeliveryId, newEventId, newPaymentId } from '../../src/domain/ids.ts';
import { Prisma } from '../../src/generated/prisma/client.ts';
import { recordAttempt, takeTurn } from '../../src/ledger/deliveries.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import {
  endRedelivery,
  findDueRedeliveries,
  isRedeliveryDue,
  makeDue,
  readOutcome,
  requestRedeliveries,
  takeWaiting,
} from '../../src/ledger/redelivery.ts';
import { useDatabase } from '../support/stack.ts';

/** When what waits for an order service is told before its time: decided by rows alone, whichever worker looks. */

const { db, connect } = useDatabase();
/** Another worker. */
const elsewhere = connect();
let merchantId: string;
let channelAccountId: string;
let merchants = 0;
beforeEach(async () => {
  merchants += 1;
  merchantId = (await ensureMerchant(db, `shop-${merchants}`, ['simulator'])).merchant.id;
  channelAccountId = (await db.channelAccount.findFirstOrThrow({ where: { merchantId } })).id;
  orders = 0;
});

/** What it makes is another merchant's. */
async function asAnotherMerchant(make: () => Promise<unknown>): Promise<void> {
  const mine = merchantId;
  merchantId = (await ensureMerchant(db, `other-${merchants}`, ['simulator'])).merchant.id;
  await make();
  merchantId = mine;
}

const [MINUTE, HOUR, DAY] = [60, 3_600, 86_400];
const START = Date.now();
const at = (seconds: number) => new Date(START + seconds * 1000);

let orders = 0;
/** A delivery of a payment of its own. */
async function newDelivery(changes: object = {}, type = 'refund.succeeded'): Promise<string> {
  orders += 1;
  const [id, eventId, paymentId] = [newDeliveryId(), newEventId(), newPaymentId()];
  const money = { amount: 10n, currency: 'CNY' };
  const orderId = `o-${orders}`;
  await db.order.create({ data: { merchantId, id: orderId, subject: 'x', ...money } });
  await db.payment.create({
    data: {
      ...{ id: paymentId, merchantId, orderId, channel: 'simulator', channelAccountId, method: 'wallet' },
      ...{ ...money, status: 'closed', clientTokenHash: 'x', expiresAt: at(HOUR), endedAt: at(0) },
    },
  });
  await db.event.create({ data: { id: eventId, merchantId, paymentId, type, version: 1, data: {} } });
  const createdAt = at(-DAY + orders);
  await db.delivery.create({ data: { id, eventId, merchantId, paymentId, createdAt, ...changes } });
  return id;
}
/** One that is told next in a day. */
const newWaiting = (changes: object = {}, type?: string) =>
  newDelivery(
    {
      ...{
        attempts: 20,
        firstAttemptAt: at(-DAY),
        lastAttemptAt: at(-HOUR),
        nextAttemptAt: at(DAY + orders),
      },
      ...changes,
    },
    type,
  );

const called = (
  id: string,
  outcome: DeliveryOutcome,
  seconds: number,
  retryAfterMs?: number,
  client = db,
  began = seconds,
) => {
  const asked = retryAfterMs === undefined ? {} : { retryAfterMs };
  const attempt = {
    outcome,
    statusCode: 500,
    detail: 'It answered.',
    durationMs: 1,
    at: at(began),
    ...asked,
  };
  return recordAttempt(client, id, attempt, 0, at(seconds));
};
const merchant = () => db.merchant.findUniqueOrThrow({ where: { id: merchantId } });
const dueAt = async () => {
  const { redeliveryDueAt } = await merchant();
  return redeliveryDueAt && (redeliveryDueAt.getTime() - START) / 1000;
};
const idsOf = async (size: number, seconds: number) =>
  (await takeWaiting(db, merchantId, size, at(seconds))).picked.map(({ id }) => id);
/** An order service that failed and answers again at this time. */
async function answersAgain(seconds: number) {
  const [one, other] = [await newDelivery(), await newDelivery()];
  await called(one, 'unknown', seconds - 1);
  await db.delivery.update({ where: { id: one }, data: { status: 'delivered', settledAt: at(0) } });
  await called(other, 'agreed', seconds);
}

describe('a redelivery is due', () => {
  test('once for a change from failing to answering, however many workers hear of it at once', async () => {
    const ids = await Promise.all([...Array(6)].map(() => newWaiting()));
    await called(ids[0] ?? '', 'agreed', 0);
    // It had not failed.
    expect(await dueAt()).toBeNull();
    await Promise.all(
      ids.slice(1, 3).map((id, i) => called(id, 'unknown', 10, undefined, [db, elsewhere][i])),
    );
    expect(await merchant()).toMatchObject({ orderServiceFailingSince: at(10) });
    await Promise.all(
      ids.slice(3, 5).map((id, i) => called(id, 'agreed', 20, undefined, [db, elsewhere][i])),
    );
    expect(await merchant()).toMatchObject({
      orderServiceFailingSince: null,
      orderServiceAnswersSince: at(20),
      redeliveryDueAt: at(20),
    });
    // One more answer is no change.
    await called(ids[5] ?? '', 'agreed', 30);
    expect(await dueAt()).toBe(20);
    expect(await findDueRedeliveries(db, at(30))).toContain(merchantId);
    expect(await isRedeliveryDue(db, merchantId, at(30))).toBe(true);
  });

  test('of every answer that is one, also a refusal or one that applied nothing', async () => {
    for (const [i, outcome] of (['conflict', 'gone', 'not_applied'] as const).entries()) {
      const seconds = i * HOUR;
      await called(await newWaiting(), 'unknown', seconds);
      expect(await dueAt()).toBe(seconds + HOUR);
      await called(await newWaiting(), outcome, seconds + 1);
      expect(await dueAt()).toBe(seconds + 1);
      await db.delivery.deleteMany({ where: { merchantId } });
      await endRedelivery(db, merchantId, at(seconds + 2));
      expect(await dueAt()).toBeNull();
    }
  });

  test('ten minutes after the last one began at the earliest', async () => {
    await newWaiting();
    await answersAgain(0);
    expect(await isRedeliveryDue(db, merchantId, at(1))).toBe(true);
    expect(await idsOf(9, 1)).toHaveLength(1);
    // It has begun: no further answer starts it.
    expect(await isRedeliveryDue(db, merchantId, at(1))).toBe(false);
    expect(await findDueRedeliveries(db, at(1))).toContain(merchantId);
    await db.delivery.updateMany({ where: { merchantId }, data: { lastAttemptAt: at(2) } });
    await endRedelivery(db, merchantId, at(3));
    expect(await dueAt()).toBeNull();
    await answersAgain(60);
    expect(await dueAt()).toBe(1 + 10 * MINUTE);
    expect(await findDueRedeliveries(db, at(10 * MINUTE))).not.toContain(merchantId);
    expect(await idsOf(9, 10 * MINUTE)).toEqual([]);
    expect(await findDueRedeliveries(db, at(10 * MINUTE + 1))).toContain(merchantId);
    expect(await idsOf(9, 10 * MINUTE + 1)).toHaveLength(1);
  });

  test('again when it failed and answered while one was under way, and something has not been told since', async () => {
    const [first = '', second = ''] = [await newWaiting(), await newWaiting()];
    await answersAgain(0);
    expect(await idsOf(1, 1)).toEqual([first]);
    await called(first, 'unknown', 2);
    expect(await idsOf(1, 3)).toEqual([second]);
    await called(second, 'agreed', 4);
    // Told in this one already.
    expect(await idsOf(1, 5)).toEqual([]);
    await endRedelivery(db, merchantId, at(6));
    expect(await dueAt()).toBe(1 + 10 * MINUTE);
    expect(await idsOf(1, 1 + 10 * MINUTE)).toEqual([first]);
  });

  test('in an hour while it fails: whether it answers again is found out by a call', async () => {
    const [first = ''] = [await newWaiting(), await newWaiting({ nextAttemptAt: at(DAY - HOUR) })];
    await called(first, 'unknown', 0);
    expect(await dueAt()).toBe(HOUR);
    expect(await idsOf(1, HOUR - 1)).toEqual([]);
    const [picked = ''] = await idsOf(1, HOUR);
    expect(picked).not.toBe(first);
    await called(picked, 'unknown', HOUR + 1);
    await endRedelivery(db, merchantId, at(HOUR + 2));
    expect(await dueAt()).toBe(2 * HOUR + 2);
  });

  test('not while nothing waits, and in an hour again once something does', async () => {
    await called(await newWaiting(), 'unknown', 0);
    await db.delivery.updateMany({ where: { merchantId }, data: { status: 'gone', settledAt: at(1) } });
    await endRedelivery(db, merchantId, at(HOUR));
    expect(await dueAt()).toBeNull();
    expect(await findDueRedeliveries(db, at(HOUR))).not.toContain(merchantId);
    await newWaiting({ status: 'gone', settledAt: at(1), redeliveryAskedAt: at(HOUR) });
    expect(await findDueRedeliveries(db, at(HOUR))).toContain(merchantId);
    await called(await newWaiting(), 'unknown', 2 * HOUR);
    expect(await findDueRedeliveries(db, at(2 * HOUR))).not.toContain(merchantId);
    expect(await merchant()).toMatchObject({ orderServiceFailingSince: at(0) });
    expect(await dueAt()).toBe(3 * HOUR);
  });

  test('not by a call that began before it answered another one', async () => {
    const [slow = '', other = ''] = [await newWaiting(), await newWaiting()];
    await answersAgain(0);
    await called(slow, 'unknown', 10, undefined, db, -5);
    expect(await merchant()).toMatchObject({ orderServiceFailingSince: null });
    await called(other, 'unknown', 11);
    expect(await merchant()).toMatchObject({ orderServiceFailingSince: at(11) });
  });
});

describe('a redelivery takes', () => {
  test('what waits, what payments wait for first, each once, and nothing else', async () => {
    const later = await newWaiting({ nextAttemptAt: at(2 * DAY) });
    const sooner = await newWaiting({ nextAttemptAt: at(DAY) });
    const paid = await newWaiting({ nextAttemptAt: at(3 * DAY) }, 'payment.succeeded');
    await newWaiting({ nextAttemptAt: null });
    await newWaiting({ tellingUntil: at(30) });
    await newWaiting({ status: 'delivered', settledAt: at(0) });
    await asAnotherMerchant(() => newWaiting());
    expect(await idsOf(9, 0)).toEqual([]);
    await answersAgain(1);
    expect(await idsOf(2, 2)).toEqual([paid, sooner]);
    // Whoever picked them died: the same again.
    expect(await idsOf(2, 3)).toEqual([paid, sooner]);
    for (const id of [paid, sooner]) await called(id, 'unknown', 4);
    expect(await idsOf(9, 5)).toEqual([later]);
  });

  test('nothing before the time that the order service asked for, and that at its time, not a day later', async () => {
    const asked = await newWaiting();
    await called(asked, 'unknown', 0, 2 * HOUR * 1000);
    await answersAgain(60);
    expect(await idsOf(9, 61)).toEqual([]);
    await endRedelivery(db, merchantId, at(62));
    expect(await dueAt()).toBe(2 * HOUR);
    expect(await idsOf(9, 2 * HOUR - 1)).toEqual([]);
    expect(await idsOf(9, 2 * HOUR)).toEqual([asked]);
  });

  test('no status that it does not know', async () => {
    const ids = [await newWaiting(), await newWaiting({ redeliveryAskedAt: at(0) })];
    await db.$executeRaw`ALTER TABLE deliveries DROP CONSTRAINT deliveries_status_check`;
    await db.$executeRaw`UPDATE deliveries SET status = 'of another release', settled_at = now() WHERE id = ANY(${ids}::text[])`;
    await answersAgain(1);
    expect(await idsOf(9, 2)).toEqual([]);
    await endRedelivery(db, merchantId, at(3));
    expect(await dueAt()).toBeNull();
    expect(await findDueRedeliveries(db, at(4))).not.toContain(merchantId);
  });
});

describe('a batch', () => {
  test('is told when each of it has been: so many were answered, and so long it asked to be left alone', async () => {
    await Promise.all([...Array(3)].map(() => newWaiting()));
    await answersAgain(0);
    const batch = await takeWaiting(db, merchantId, 3, at(1));
    const [first, second, third] = batch.picked;
    if (first === undefined || second === undefined || third === undefined) throw new Error('too few');
    for (const one of batch.picked) await makeDue(db, one);
    expect(await takeTurn(db, first.id, at(1))).toMatchObject({ kind: 'now' });
    await called(first.id, 'agreed', 2);
    expect(await readOutcome(db, batch, at(2))).toBeNull();
    await called(second.id, 'unknown', 3, 30_000);
    // The third is settled by somebody else meanwhile.
    await db.delivery.update({ where: { id: third.id }, data: { status: 'conflict', settledAt: at(3) } });
    expect(await readOutcome(db, batch, at(4))).toEqual({ answered: 1, unanswered: 1, pauseMs: 29_000 });
    // Made due by an activity that runs again: it has its own time by now.
    await makeDue(db, second);
    expect(await takeTurn(db, second.id, at(5))).toMatchObject({ kind: 'later' });
  });

  test('hurries no call that is under way, and nobody hurries what it asked to be left alone with', async () => {
    const id = await newWaiting({ nextAttemptAt: at(10) });
    await answersAgain(0);
    const batch = await takeWaiting(db, merchantId, 1, at(1));
    expect(await takeTurn(db, id, at(10))).toMatchObject({ kind: 'now' });
    for (const one of batch.picked) await makeDue(db, one);
    const { nextAttemptAt } = await db.delivery.findUniqueOrThrow({ where: { id } });
    expect.soft(nextAttemptAt).not.toBeNull();
    // As a person does.
    await db.delivery.update({ where: { id }, data: { nextAttemptAt: null } });
    await called(id, 'unknown', 11, 2 * DAY * 1000);
    expect(await takeTurn(db, id, at(HOUR))).toMatchObject({ kind: 'later' });
  });

  test('is over after two minutes, whoever did not come to tell it', async () => {
    await newWaiting();
    await newWaiting({ status: 'delivered', settledAt: at(0), redeliveryAskedAt: at(0) });
    await answersAgain(0);
    const batch = await takeWaiting(db, merchantId, 2, at(1));
    for (const one of batch.picked) await makeDue(db, one);
    expect(await readOutcome(db, batch, at(120))).toBeNull();
    expect(await readOutcome(db, batch, at(121))).toEqual({ answered: 0, unanswered: 0, pauseMs: 0 });
    expect(await idsOf(9, 122)).toEqual([]);
  });
});

describe('a request', () => {
  const ask = (status: 'pending' | 'delivered', since = new Date(0)) =>
    requestRedeliveries(db, merchantId, status, since, 'a test', at(0));

  test('wants what has the status told, from a time on; twice is once, and until it is told', async () => {
    const settled = { status: 'delivered', settledAt: at(-HOUR), nextAttemptAt: null };
    const [older, newer] = [await newWaiting(settled), await newWaiting(settled)];
    await newWaiting();
    const { createdAt } = await db.delivery.findUniqueOrThrow({ where: { id: newer } });
    expect(await ask('delivered', createdAt)).toEqual({ count: 1, nextSince: null });
    expect(await idsOf(9, 1)).toEqual([newer]);
    expect(await ask('delivered')).toEqual({ count: 2, nextSince: null });
    expect(await ask('delivered')).toEqual({ count: 2, nextSince: null });
    expect(await idsOf(9, 2)).toEqual([older, newer]);
    expect(await findDueRedeliveries(db, at(2))).toContain(merchantId);
    await called(older, 'agreed', 3);
    await called(newer, 'agreed', 3);
    expect(await idsOf(9, 4)).toEqual([]);
    expect(await findDueRedeliveries(db, at(4))).not.toContain(merchantId);
    const notes = await db.timelineEntry.count({
      where: {
        payment: { merchantId },
        kind: 'manual',
        detail: { startsWith: 'Told again, asked for by a test' },
      },
    });
    expect(notes).toBe(2);
  });

  test('holds until there is an answer, by one call for each time that the order service answers again', async () => {
    const settled = { status: 'delivered', settledAt: at(-HOUR), nextAttemptAt: null };
    const [lost = '', told = ''] = [await newWaiting(settled), await newWaiting(settled)];
    expect(await ask('delivered')).toEqual({ count: 2, nextSince: null });
    const batch = await takeWaiting(db, merchantId, 2, at(1));
    await called(lost, 'unknown', 2);
    expect(await readOutcome(db, batch, at(200))).toMatchObject({ answered: 0, unanswered: 1 });
    expect(await idsOf(9, 201)).toEqual([]);
    await called(told, 'agreed', 202);
    expect(await dueAt()).toBe(202);
    expect(await idsOf(9, 203)).toEqual([lost]);
    await called(lost, 'unknown', 204);
    expect(await idsOf(9, 205)).toEqual([]);
    await called(told, 'agreed', 206);
    await endRedelivery(db, merchantId, at(207));
    expect(await dueAt()).toBe(203 + 10 * MINUTE);
    expect(await findDueRedeliveries(db, at(208))).not.toContain(merchantId);
    // Asked for once more it need not wait.
    expect(await requestRedeliveries(db, merchantId, 'delivered', new Date(0), 'a test', at(209))).toEqual({
      count: 2,
      nextSince: null,
    });
    expect((await idsOf(9, 210)).sort()).toEqual([lost, told].sort());
    await called(lost, 'agreed', 211);
    await called(told, 'agreed', 211);
    expect(await idsOf(9, 203 + 10 * MINUTE)).toEqual([]);
  });

  test('starts nothing while what it wants told is being told, or is to be left alone', async () => {
    await newWaiting({ redeliveryAskedAt: at(0), retryAfter: at(HOUR) });
    await newWaiting({ redeliveryAskedAt: at(0), tellingUntil: at(HOUR) });
    expect(await findDueRedeliveries(db, at(HOUR - 1))).not.toContain(merchantId);
    expect(await findDueRedeliveries(db, at(HOUR))).toContain(merchantId);
    expect(await idsOf(9, HOUR)).toHaveLength(2);
  });

  test('while the order service fails: kept, and the sweep does not try it every minute', async () => {
    const [first = '', second = ''] = [await newWaiting(), await newWaiting()];
    expect(await ask('pending')).toEqual({ count: 2, nextSince: null });
    await called(first, 'unknown', 1);
    expect(await findDueRedeliveries(db, at(2))).not.toContain(merchantId);
    expect(await idsOf(9, 2)).toEqual([second]);
  });

  test('takes a thousand, the oldest first, and says where the rest begins', async () => {
    const first = await newWaiting();
    const { paymentId } = await db.delivery.findUniqueOrThrow({ where: { id: first } });
    const rows = [...Array(1_001)].map((_, i) => ({ id: newDeliveryId(), eventId: newEventId(), i }));
    await db.event.createMany({
      data: rows.map(({ eventId: id, i }) => ({
        ...{ id, merchantId, paymentId, type: 'refund.failed', version: i + 2, data: {} },
      })),
    });
    await db.delivery.createMany({
      data: rows.map(({ id, eventId, i }) => ({
        ...{ id, eventId, merchantId, paymentId, createdAt: at(i), nextAttemptAt: at(DAY) },
      })),
    });
    expect(await ask('pending')).toEqual({ count: 1_000, nextSince: at(999) });
    expect(await db.delivery.count({ where: { merchantId, redeliveryAskedAt: { not: null } } })).toBe(1_000);
    expect(await ask('pending', at(999))).toEqual({ count: 2, nextSince: null });
  });
});

test('a page of a merchant’s list reads its own rows alone, however many there are', async () => {
  const first = await newWaiting();
  const { paymentId } = await db.delivery.findUniqueOrThrow({ where: { id: first } });
  await db.$executeRaw`
    INSERT INTO events (id, merchant_id, payment_id, type, version, data)
    SELECT 'evt_' || i, ${merchantId}, ${paymentId}, 'refund.failed', i + 1, '{}' FROM generate_series(1, 20000) i`;
  await db.$executeRaw`
    INSERT INTO deliveries (id, event_id, merchant_id, payment_id, status, settled_at, created_at)
    SELECT 'dlv_' || i, 'evt_' || i, ${merchantId}, ${paymentId},
      CASE WHEN i % 50 = 0 THEN 'gone' ELSE 'delivered' END, now(), ${at(0)}::timestamptz - i * interval '1 s'
    FROM generate_series(1, 20000) i`;
  await db.$executeRaw`ANALYZE deliveries, events`;
  const planOf = async (where: Prisma.Sql) => {
    const lines = await db.$queryRaw<{ 'QUERY PLAN': string }[]>`
      EXPLAIN SELECT * FROM deliveries WHERE merchant_id = ${merchantId} AND ${where}
      ORDER BY created_at DESC, id DESC LIMIT 20`;
    return lines.map((line) => line['QUERY PLAN']).join('\n');
  };
  for (const [where, index] of [
    [Prisma.sql`created_at <= ${at(-100)}`, 'deliveries_merchant_id_created_at_id_idx'],
    [
      Prisma.sql`status = 'gone' AND created_at <= ${at(-100)}`,
      'deliveries_merchant_id_status_created_at_id_idx',
    ],
  ] as const) {
    const plan = await planOf(where);
    expect(plan).toContain(index);
    expect(plan).not.toMatch(/Seq Scan|Sort/);
  }
});
