import { describe, expect, test } from 'vitest';
import { leaseDelivery } from '../../src/ledger/deliveries.ts';
import {
  endRedelivery,
  findDueRedeliveries,
  isRedeliveryDue,
  makeDue,
  readOutcome,
  takeWaiting,
} from '../../src/ledger/redelivery.ts';
import {
  asAnotherMerchant,
  at,
  called,
  connect,
  DAY,
  db,
  dueAt,
  HOUR,
  idsOf,
  MINUTE,
  merchant,
  merchantId,
  newDelivery,
  newWaiting,
} from './redelivery-support.ts';

/**
 * Tests when nodrop attempts a pending delivery earlier than planned. The decision depends only on the database, so all
 * workers make the same decision.
 */

/** A database client that acts as another worker. */
const elsewhere = connect();
/** Records one failed delivery attempt, and then an answer of the order service at this time. */
async function answersAgain(seconds: number) {
  const [one, other] = [await newDelivery(), await newDelivery()];
  await called(one, 'unknown', seconds - 1);
  await db.delivery.update({ where: { id: one }, data: { status: 'delivered', settledAt: at(0) } });
  await called(other, 'agreed', seconds);
}

describe('the time of a redelivery', () => {
  test('if several workers see that the order service has recovered, only one redelivery is due', async () => {
    const ids = await Promise.all([...Array(6)].map(() => newWaiting()));
    await called(ids[0] ?? '', 'agreed', 0);
    // The order service had not failed before this answer.
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
    // A later answer of the order service does not start another redelivery.
    await called(ids[5] ?? '', 'agreed', 30);
    expect(await dueAt()).toBe(20);
    expect(await findDueRedeliveries(db, at(30))).toContain(merchantId);
    expect(await isRedeliveryDue(db, merchantId, at(30))).toBe(true);
  });

  test('after a failed delivery, any valid answer to a later delivery makes the redelivery of the failed one due, even a refusal', async () => {
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

  test('the next redelivery is due at the earliest ten minutes after the previous redelivery began', async () => {
    await newWaiting();
    await answersAgain(0);
    expect(await isRedeliveryDue(db, merchantId, at(1))).toBe(true);
    expect(await idsOf(9, 1)).toHaveLength(1);
    // The redelivery has already begun, so a further answer does not start it again.
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

  test('if the order service fails and recovers again during a redelivery, a further redelivery is due for the delivery without an answer', async () => {
    const [first = '', second = ''] = [await newWaiting(), await newWaiting()];
    await answersAgain(0);
    expect(await idsOf(1, 1)).toEqual([first]);
    await called(first, 'unknown', 2);
    expect(await idsOf(1, 3)).toEqual([second]);
    await called(second, 'agreed', 4);
    // The delivery has already had an attempt in this redelivery.
    expect(await idsOf(1, 5)).toEqual([]);
    await endRedelivery(db, merchantId, at(6));
    expect(await dueAt()).toBe(1 + 10 * MINUTE);
    expect(await idsOf(1, 1 + 10 * MINUTE)).toEqual([first]);
  });

  test('while the order service fails, one delivery is attempted as a probe an hour after the failure', async () => {
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

  test('if no delivery waits, no probe is due; a probe becomes due an hour after a delivery has begun to wait', async () => {
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

  test('a failed attempt that began before another delivery was answered does not mark the order service as failing', async () => {
    const [slow = '', other = ''] = [await newWaiting(), await newWaiting()];
    await answersAgain(0);
    await called(slow, 'unknown', 10, undefined, db, -5);
    expect(await merchant()).toMatchObject({ orderServiceFailingSince: null });
    await called(other, 'unknown', 11);
    expect(await merchant()).toMatchObject({ orderServiceFailingSince: at(11) });
  });
});

describe('the deliveries that a redelivery picks', () => {
  test('a redelivery picks each pending delivery once, and begins with the deliveries that payments wait for', async () => {
    const later = await newWaiting({ nextAttemptAt: at(2 * DAY) });
    const sooner = await newWaiting({ nextAttemptAt: at(DAY) });
    const paid = await newWaiting({ nextAttemptAt: at(3 * DAY) }, 'payment.succeeded');
    await newWaiting({ nextAttemptAt: null });
    await newWaiting({ leasedUntil: at(30) });
    await newWaiting({ status: 'delivered', settledAt: at(0) });
    await asAnotherMerchant(() => newWaiting());
    expect(await idsOf(9, 0)).toEqual([]);
    await answersAgain(1);
    expect(await idsOf(2, 2)).toEqual([paid, sooner]);
    // The worker that picked these deliveries died. So the deliveries are picked again.
    expect(await idsOf(2, 3)).toEqual([paid, sooner]);
    for (const id of [paid, sooner]) await called(id, 'unknown', 4);
    expect(await idsOf(9, 5)).toEqual([later]);
  });

  test('a redelivery does not pick a delivery until its Retry-After has passed', async () => {
    const asked = await newWaiting();
    await called(asked, 'unknown', 0, 2 * HOUR * 1000);
    await answersAgain(60);
    expect(await idsOf(9, 61)).toEqual([]);
    await endRedelivery(db, merchantId, at(62));
    expect(await dueAt()).toBe(2 * HOUR);
    expect(await idsOf(9, 2 * HOUR - 1)).toEqual([]);
    expect(await idsOf(9, 2 * HOUR)).toEqual([asked]);
  });

  test('a redelivery picks no delivery with an unknown status', async () => {
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

describe('a batch of redeliveries', () => {
  test('a batch ends when each of its deliveries has had an attempt, and returns the number of answers and the longest Retry-After', async () => {
    await Promise.all([...Array(3)].map(() => newWaiting()));
    await answersAgain(0);
    const batch = await takeWaiting(db, merchantId, 3, at(1));
    const [first, second, third] = batch.picked;
    if (first === undefined || second === undefined || third === undefined) throw new Error('too few');
    for (const one of batch.picked) await makeDue(db, one);
    expect(await leaseDelivery(db, first.id, at(1))).toMatchObject({ kind: 'now' });
    await called(first.id, 'agreed', 2);
    expect(await readOutcome(db, batch, at(2))).toBeNull();
    await called(second.id, 'unknown', 3, 30_000);
    // Meanwhile the third delivery is settled in another way.
    await db.delivery.update({ where: { id: third.id }, data: { status: 'conflict', settledAt: at(3) } });
    expect(await readOutcome(db, batch, at(4))).toEqual({ answered: 1, unanswered: 1, pauseMs: 29_000 });
    // A repeated activity makes the delivery due again. This has no effect, because the next attempt of the delivery is
    // already planned.
    await makeDue(db, second);
    expect(await leaseDelivery(db, second.id, at(5))).toMatchObject({ kind: 'later' });
  });

  test('a batch does not make a delivery due while the delivery is being attempted, and a redelivery request does not override the Retry-After', async () => {
    const id = await newWaiting({ nextAttemptAt: at(10) });
    await answersAgain(0);
    const batch = await takeWaiting(db, merchantId, 1, at(1));
    expect(await leaseDelivery(db, id, at(10))).toMatchObject({ kind: 'now' });
    for (const one of batch.picked) await makeDue(db, one);
    const { nextAttemptAt } = await db.delivery.findUniqueOrThrow({ where: { id } });
    expect.soft(nextAttemptAt).not.toBeNull();
    // Makes the delivery due immediately, as an operator's request for redelivery does.
    await db.delivery.update({ where: { id }, data: { nextAttemptAt: null } });
    await called(id, 'unknown', 11, 2 * DAY * 1000);
    expect(await leaseDelivery(db, id, at(HOUR))).toMatchObject({ kind: 'later' });
  });

  test('a batch ends after two minutes even if some of its deliveries have had no attempt', async () => {
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
