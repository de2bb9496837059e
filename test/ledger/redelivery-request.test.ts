import { describe, expect, test } from 'vitest';
import { newDeliveryId, newEventId } from '../../src/domain/ids.ts';
import { Prisma } from '../../src/generated/prisma/client.ts';
import {
  endRedelivery,
  findDueRedeliveries,
  readOutcome,
  requestRedeliveries,
  takeWaiting,
} from '../../src/ledger/redelivery.ts';
import {
  at,
  called,
  DAY,
  db,
  dueAt,
  HOUR,
  idsOf,
  MINUTE,
  merchantId,
  newWaiting,
} from './redelivery-support.ts';

/** Tests which deliveries a merchant's request for redelivery includes, and how many rows the request reads. */

describe('a redelivery request', () => {
  const ask = (status: 'pending' | 'delivered', since = new Date(0)) =>
    requestRedeliveries(db, merchantId, status, since, 'a test', at(0));

  test('a redelivery request includes the deliveries that have the given status and were created at or after the given time', async () => {
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
        detail: { contains: 'requested by a test' },
      },
    });
    expect(notes).toBe(2);
  });

  test('after each recovery of the order service, a requested redelivery is attempted once, until it has been answered', async () => {
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
    // If the merchant requests a redelivery again, the delivery does not have to wait.
    expect(await requestRedeliveries(db, merchantId, 'delivered', new Date(0), 'a test', at(209))).toEqual({
      count: 2,
      nextSince: null,
    });
    expect((await idsOf(9, 210)).sort()).toEqual([lost, told].sort());
    await called(lost, 'agreed', 211);
    await called(told, 'agreed', 211);
    expect(await idsOf(9, 203 + 10 * MINUTE)).toEqual([]);
  });

  test('a redelivery request makes no redelivery due while the delivery has a running attempt or waits for its Retry-After', async () => {
    await newWaiting({ redeliveryAskedAt: at(0), retryAfter: at(HOUR) });
    await newWaiting({ redeliveryAskedAt: at(0), leasedUntil: at(HOUR) });
    expect(await findDueRedeliveries(db, at(HOUR - 1))).not.toContain(merchantId);
    expect(await findDueRedeliveries(db, at(HOUR))).toContain(merchantId);
    expect(await idsOf(9, HOUR)).toHaveLength(2);
  });

  test('while the order service fails, a redelivery request stays open, but the sweep does not start a redelivery', async () => {
    const [first = '', second = ''] = [await newWaiting(), await newWaiting()];
    expect(await ask('pending')).toEqual({ count: 2, nextSince: null });
    await called(first, 'unknown', 1);
    expect(await findDueRedeliveries(db, at(2))).not.toContain(merchantId);
    expect(await idsOf(9, 2)).toEqual([second]);
  });

  test('a redelivery request includes the oldest thousand deliveries and returns the time from which the next request continues', async () => {
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

test('a page of a merchant’s deliveries is read through an index, so that no other rows are read', async () => {
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
