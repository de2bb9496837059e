import { describe, expect, test } from 'vitest';
import type { DeliveryOutcome } from '../../src/domain/event.ts';
import { leaseDelivery, recordAttempt } from '../../src/ledger/deliveries.ts';
import { resolvePayment } from '../../src/ledger/operator-decision.ts';
import { underOrderLock } from '../../src/ledger/order-lock.ts';
import {
  answered,
  attentionOf,
  db,
  newPayment,
  newPending,
  now,
  withOrderService,
} from './events-support.ts';

/**
 * Tests events of an order that its order service does not know. nodrop retries the delivery as long as the order may
 * still reach the order service.
 */

describe('an order that its order service does not know', () => {
  const HOUR = 3_600_000;

  /** Records attempts with these times (in ms after `from`) and these outcomes. */
  async function tell(
    deliveryId: string,
    from: Date,
    ...calls: [number, DeliveryOutcome, (number | undefined)?][]
  ) {
    for (const [ms, outcome, statusCode] of calls) {
      const at = new Date(from.getTime() + ms);
      await recordAttempt(db, deliveryId, answered(outcome, at, statusCode), 0, at);
    }
  }

  const shownOf = async (id: string) => {
    const { attention, orderUpdate } = await db.payment.findUniqueOrThrow({ where: { id } });
    return [attention, orderUpdate, await db.refund.count({ where: { paymentId: id } })];
  };

  test('the 24 h for an unknown order start at the first answer order_unknown, and a different answer extends this time by at most an hour', async () => {
    const { payment, delivery } = await newPending();
    const from = now();
    await tell(
      delivery.id,
      from,
      [0, 'unknown'],
      [HOUR, 'order_unknown', 410],
      [24 * HOUR, 'order_unknown', 404],
    );
    expect(await shownOf(payment.id)).toEqual(['order_unknown', 'pending', 0]);
    await tell(delivery.id, from, [25 * HOUR, 'unknown', 503]);
    expect(await shownOf(payment.id)).toEqual(['order_update_failing', 'pending', 0]);
    await tell(delivery.id, from, [25 * HOUR + 1, 'order_unknown', 404]);
    expect(await shownOf(payment.id)).toEqual(['order_unknown', 'pending', 0]);
    const { attentionDetail } = await db.payment.findUniqueOrThrow({ where: { id: payment.id } });
    const end = new Date(from.getTime() + 26 * HOUR + 1).toISOString();
    expect(attentionDetail).toContain(`Unless the order service knows the order by ${end}, `);
    await tell(delivery.id, from, [26 * HOUR, 'order_unknown', 404]);
    expect(await shownOf(payment.id)).toEqual(['order_conflict', 'conflict', 1]);
    expect(await db.delivery.findUniqueOrThrow({ where: { id: delivery.id } })).toMatchObject({
      status: 'gone',
    });
  });

  test.each([503, undefined])(
    'if the order service gives other answers (status %s) for a day between two answers order_unknown, no money is refunded yet',
    async (statusCode) => {
      const { payment, delivery } = await newPending();
      const from = now();
      const others = [1, 12, 23].map((hour): [number, DeliveryOutcome, number | undefined] => [
        hour * HOUR,
        'unknown',
        statusCode,
      ]);
      await tell(delivery.id, from, [0, 'order_unknown', 404], ...others);
      await tell(delivery.id, from, [30 * HOUR, 'order_unknown', 404], [30.5 * HOUR, 'order_unknown', 404]);
      expect(await shownOf(payment.id)).toEqual(['order_unknown', 'pending', 0]);
      await tell(delivery.id, from, [31 * HOUR, 'order_unknown', 404]);
      expect(await shownOf(payment.id)).toEqual(['order_conflict', 'conflict', 1]);
    },
  );

  test('a setting changes the time for which an order may be unknown, which is 24 h by default', async () => {
    const { payment, delivery } = await newPending();
    const from = now();
    const unknown = async (ms: number) => {
      const at = new Date(from.getTime() + ms);
      await recordAttempt(db, delivery.id, answered('order_unknown', at, 404), 0, at, 2 * HOUR);
    };
    await unknown(0);
    const { attentionDetail } = await db.payment.findUniqueOrThrow({ where: { id: payment.id } });
    const end = new Date(from.getTime() + 2 * HOUR).toISOString();
    expect(attentionDetail).toContain(`Unless the order service knows the order by ${end}, `);
    await unknown(1.9 * HOUR);
    expect(await shownOf(payment.id)).toEqual(['order_unknown', 'pending', 0]);
    await unknown(2 * HOUR);
    expect(await shownOf(payment.id)).toEqual(['order_conflict', 'conflict', 1]);
  });

  test('the delivery for an unknown order is attempted at least every hour, even after an answer other than order_unknown', async () => {
    const { delivery } = await newPending();
    const from = now();
    await db.delivery.update({ where: { id: delivery.id }, data: { attempts: 30 } });
    const waits = async (ms: number, outcome: DeliveryOutcome, statusCode: number) => {
      await tell(delivery.id, from, [ms, outcome, statusCode]);
      const { nextAttemptAt } = await db.delivery.findUniqueOrThrow({ where: { id: delivery.id } });
      return (nextAttemptAt?.getTime() ?? 0) - from.getTime() - ms;
    };
    expect(await waits(0, 'order_unknown', 404)).toBe(HOUR);
    expect(await waits(HOUR, 'unknown', 422)).toBe(HOUR);
    expect(await waits(23.5 * HOUR, 'unknown', 404)).toBe(HOUR / 2);
    expect(await waits(30 * HOUR, 'unknown', 503)).toBe(HOUR);
  });

  test('the attention for an unknown order is raised immediately, is replaced after a different answer, and can be dismissed', async () => {
    const { payment, delivery } = await newPending();
    const from = now();
    await tell(delivery.id, from, [0, 'order_unknown', 404]);
    expect(await shownOf(payment.id)).toEqual(['order_unknown', 'pending', 0]);
    await tell(delivery.id, from, [1, 'unknown', 503]);
    expect(await shownOf(payment.id)).toEqual(['order_update_failing', 'pending', 0]);
    await tell(delivery.id, from, [2, 'unknown', 404]);
    expect(await shownOf(payment.id)).toEqual(['order_unknown', 'pending', 0]);
    await resolvePayment(db, payment.merchantId, payment.id, 'dismiss', 'seen', now());
    await tell(delivery.id, from, [3, 'unknown', 404]);
    expect(await shownOf(payment.id)).toEqual([null, 'pending', 0]);
    // The dismissed attention named no deadline. This answer sets a deadline.
    await tell(delivery.id, from, [4, 'order_unknown', 404]);
    expect(await shownOf(payment.id)).toEqual(['order_unknown', 'pending', 0]);
    await resolvePayment(db, payment.merchantId, payment.id, 'dismiss', 'seen', now());
    await tell(delivery.id, from, [5, 'order_unknown', 404], [6, 'unknown', 404], [HOUR, 'unknown', 503]);
    expect(await shownOf(payment.id)).toEqual([null, 'pending', 0]);
    await tell(delivery.id, from, [24 * HOUR, 'order_unknown', 404], [25 * HOUR, 'order_unknown', 404]);
    expect(await shownOf(payment.id)).toEqual(['order_conflict', 'conflict', 1]);
  });

  test('a dismissed order_update_failing does not prevent order_unknown, and a dismissed order_unknown does not prevent order_update_failing', async () => {
    for (const [first, second] of [
      [503, 404],
      [404, 503],
    ] as const) {
      const { payment, delivery } = await newPending();
      const from = now();
      const say = (statusCode: number): [DeliveryOutcome, number] => [
        statusCode === 404 ? 'order_unknown' : 'unknown',
        statusCode,
      ];
      const shows = (statusCode: number) => [
        statusCode === 404 ? 'order_unknown' : 'order_update_failing',
        'pending',
        0,
      ];
      await tell(delivery.id, from, [HOUR, ...say(first)]);
      expect(await shownOf(payment.id)).toEqual(shows(first));
      await resolvePayment(db, payment.merchantId, payment.id, 'dismiss', 'seen', now());
      await tell(delivery.id, from, [2 * HOUR, ...say(first)]);
      expect(await shownOf(payment.id)).toEqual([null, 'pending', 0]);
      await tell(delivery.id, from, [3 * HOUR, ...say(second)]);
      expect(await shownOf(payment.id)).toEqual(shows(second));
      await resolvePayment(db, payment.merchantId, payment.id, 'dismiss', 'seen', now());
      await tell(delivery.id, from, [4 * HOUR, ...say(first)], [5 * HOUR, ...say(second)]);
      expect(await shownOf(payment.id)).toEqual([null, 'pending', 0]);
    }
  });

  test('if order_update_failing replaces order_unknown and is dismissed, order_unknown can still be raised again', async () => {
    const { payment, delivery } = await newPending();
    const from = now();
    const unknown = (hour: number) => tell(delivery.id, from, [hour * HOUR, 'order_unknown', 404]);
    const fails = (hour: number) => tell(delivery.id, from, [hour * HOUR, 'unknown', 503]);
    const dismiss = () =>
      resolvePayment(db, payment.merchantId, payment.id, 'dismiss', 'They are slow today.', now());
    await unknown(0);
    await fails(1);
    expect(await shownOf(payment.id)).toEqual(['order_update_failing', 'pending', 0]);
    await dismiss();
    await fails(2);
    expect(await shownOf(payment.id)).toEqual([null, 'pending', 0]);
    // This answer can lead to a refund, so the attention is raised before any money moves.
    await unknown(3);
    expect(await shownOf(payment.id)).toEqual(['order_unknown', 'pending', 0]);
    // An attention that was raised and then dismissed is not raised a second time.
    await dismiss();
    await fails(4);
    await unknown(5);
    expect(await shownOf(payment.id)).toEqual([null, 'pending', 0]);
    await unknown(24);
    expect(await shownOf(payment.id)).toEqual(['order_conflict', 'conflict', 1]);
  });

  test('if an operator dismisses an order_unknown that has no deadline, a later answer that sets a deadline raises order_unknown again', async () => {
    const calls = {
      coded: ['order_unknown', 404],
      router: ['unknown', 404],
      fails: ['unknown', 503],
    } satisfies Record<string, [DeliveryOutcome, number]>;
    type Calls = readonly (keyof typeof calls)[];
    for (const [before, after, shown] of [
      [['router'], ['coded'], 'order_unknown'],
      [['router', 'coded', 'router'], ['coded'], 'order_unknown'],
      // The attention already named the deadline when it was dismissed.
      [['router', 'coded'], ['coded', 'router', 'fails', 'coded'], null],
      [['coded'], ['router', 'coded'], null],
    ] as const satisfies readonly [Calls, Calls, string | null][]) {
      const { payment, delivery } = await newPending();
      const from = now();
      let ms = 0;
      const tellAll = async (names: Calls) => {
        for (const name of names) await tell(delivery.id, from, [ms++, ...calls[name]]);
      };
      await tellAll(before);
      await resolvePayment(db, payment.merchantId, payment.id, 'dismiss', 'It was the address.', now());
      await tellAll(after);
      const { attention, attentionDetail } = await db.payment.findUniqueOrThrow({
        where: { id: payment.id },
      });
      expect(attention, `${before}, dismissed, ${after}`).toBe(shown);
      if (shown !== null) expect(attentionDetail).toContain('Unless the order service knows the order by ');
    }
  });

  test('if no money waits for the order service, an unknown order raises delivery_failing, and the delivery ends after a day', async () => {
    await withOrderService();
    const { id } = await newPayment();
    await underOrderLock(db, id, now(), async ({ newEvents }) => {
      newEvents.push({ type: 'payment.closed' });
    });
    const delivery = await db.delivery.findFirstOrThrow({ where: { paymentId: id } });
    const from = now();
    await leaseDelivery(db, delivery.id, from);
    await tell(delivery.id, from, [0, 'order_unknown', 404]);
    expect(await attentionOf(id)).toBeNull();
    await tell(delivery.id, from, [HOUR, 'order_unknown', 404]);
    expect(await attentionOf(id)).toBe('delivery_failing');
    await tell(delivery.id, from, [24 * HOUR, 'order_unknown', 404]);
    expect(await attentionOf(id)).toBeNull();
    expect(await db.delivery.findUniqueOrThrow({ where: { id: delivery.id } })).toMatchObject({
      status: 'gone',
    });
  });

  test('an answer 410 to one event does not shorten the 24 h of another event for which money waits', async () => {
    const { payment, delivery } = await newPending();
    await underOrderLock(db, payment.id, now(), async ({ newEvents }) => {
      newEvents.push({ type: 'refund.failed' });
    });
    const other = await db.delivery.findFirstOrThrow({
      where: { paymentId: payment.id, id: { not: delivery.id } },
    });
    const from = now();
    await tell(other.id, from, [0, 'gone', 410]);
    await tell(delivery.id, from, [1, 'order_unknown', 404], [23 * HOUR, 'order_unknown', 404]);
    expect(await shownOf(payment.id)).toEqual(['order_unknown', 'pending', 0]);
    await tell(delivery.id, from, [23 * HOUR + 1, 'agreed', 200]);
    expect(await shownOf(payment.id)).toEqual([null, 'applied', 0]);
  });

  test('the first characters of the order service’s answer are stored with the delivery attempt', async () => {
    const { delivery } = await newPending();
    await recordAttempt(db, delivery.id, { ...answered('order_unknown'), answer: 'no such order' }, 0, now());
    await recordAttempt(db, delivery.id, answered('agreed'), 0, now());
    const log = await db.deliveryAttempt.findMany({
      where: { deliveryId: delivery.id },
      orderBy: { id: 'asc' },
    });
    expect(log.map(({ answer }) => answer)).toEqual(['no such order', null]);
  });
});
