import { describe, expect, test } from 'vitest';
import { recordAttempt } from '../../src/ledger/deliveries.ts';
import { ensureMerchant, setMerchant } from '../../src/ledger/merchants.ts';
import { resolvePayment } from '../../src/ledger/operator-decision.ts';
import { requestRefund } from '../../src/ledger/refunds.ts';
import {
  attempt,
  change,
  code,
  db,
  ended,
  merchantId,
  merchants,
  newOrder,
  now,
  orderRow,
  pay,
  row,
  SECRET,
} from './change-order-support.ts';

/**
 * Tests attempts that were created before their order's amount was changed. The money of such an attempt pays the order
 * only if an operator accepts it.
 */

describe('money of an attempt that was made before a change of the order’s amount', () => {
  test.each(['apply', 'refund', 'review'] as const)(
    'money for the old amount waits for an operator, even if the policy for late payments is `%s`',
    async (latePayment) => {
      const merchant = merchants[latePayment];
      const { id, orderId } = await ended(newOrder(), merchant);
      await change(orderId, { amount: 1250 }, { merchant });
      const late = await pay(id, 1000);
      expect(late).toMatchObject({
        ...{ status: 'succeeded', orderUpdate: 'review', attention: 'amount_mismatch' },
        attentionDetail:
          'The channel received CNY 10.00, the payment was made for CNY 10.00, and the order now costs CNY 12.50.',
      });
      expect((await orderRow(orderId)).status).toBe('unpaid');
      expect(await db.refund.count({ where: { paymentId: id } })).toBe(0);
      const [event] = await db.event.findMany({ where: { paymentId: id }, orderBy: { version: 'desc' } });
      expect(event).toMatchObject({
        type: 'payment.review',
        data: { payment: { amount: 1000 }, order: { amount: 1250, status: 'unpaid' } },
      });
      // Until an operator has decided, the merchant cannot create a new attempt or change the amount.
      await expect(attempt({ id: orderId }, { merchant })).rejects.toMatchObject(code('attempt_unresolved'));
      await expect(change(orderId, { amount: 1000 }, { merchant })).rejects.toMatchObject(
        code('attempt_unresolved'),
      );
    },
  );

  test('late money of an old attempt waits for an operator, even if it equals the new amount', async () => {
    const { id, orderId } = await ended();
    await change(orderId, { amount: 1250 });
    expect(await pay(id, 1250)).toMatchObject({
      ...{ status: 'succeeded', orderUpdate: 'review', attention: 'amount_mismatch' },
      attentionDetail:
        'The channel received CNY 12.50, the payment was made for CNY 10.00, and the order now costs CNY 12.50.',
    });
  });

  test('late money pays the order if the order’s amount was changed back to the amount of the attempt', async () => {
    const { id, orderId } = await ended();
    await change(orderId, { amount: 1250 });
    await change(orderId, { amount: 1000 });
    expect(await pay(id, 1000)).toMatchObject({ orderUpdate: 'applied' });
  });

  test('if an operator accepts money for the old amount, the order is paid and the event contains the old and the new amount', async () => {
    const { id, orderId } = await ended();
    await change(orderId, { amount: 1250 });
    const live = await attempt({ id: orderId }, { channel: 'simulator2' });
    await pay(id, 1000);
    const { cancelled } = await resolvePayment(db, merchantId, id, 'accept', 'a rebate', now());
    expect(cancelled.map((one) => one.id)).toEqual([live.id]);
    expect(await row(id)).toMatchObject({ orderUpdate: 'applied', settledBy: 'operator', attention: null });
    expect(await orderRow(orderId)).toMatchObject({ status: 'succeeded', paidPaymentId: id, amount: 1250n });
    const [event] = await db.event.findMany({ where: { paymentId: id }, orderBy: { version: 'desc' } });
    expect(event).toMatchObject({
      type: 'payment.succeeded',
      data: {
        payment: { amount: 1000, receivedAmount: 1000, settledBy: 'operator' },
        order: { amount: 1250, status: 'succeeded' },
      },
    });
    // Money that arrives for the other attempt is a duplicate payment, as usual.
    expect(await pay(live.id, 1250)).toMatchObject({ orderUpdate: 'conflict' });
  });

  test('when an operator or the merchant has refunded the money for the old amount in full, the order can be paid again', async () => {
    for (const refund of [
      (id: string) => resolvePayment(db, merchantId, id, 'refund', 'sent back', now()),
      (id: string) =>
        requestRefund(db, id, { amount: undefined, note: undefined, idempotencyKey: `k-${id}` }, now()),
    ]) {
      const { id, orderId } = await ended();
      await change(orderId, { amount: 1250 });
      await pay(id, 1000);
      await refund(id);
      expect(await db.refund.findMany({ where: { paymentId: id } })).toMatchObject([{ amount: 1000n }]);
      expect((await orderRow(orderId)).status).toBe('unpaid');
    }
  });

  test('money for the old amount is refunded automatically when a new attempt for the new amount pays the order', async () => {
    const { id, orderId } = await ended();
    await change(orderId, { amount: 1250 });
    const second = await attempt({ id: orderId });
    await pay(id, 1000);
    expect(await pay(second.id, 1250)).toMatchObject({ orderUpdate: 'applied' });
    expect(await row(id)).toMatchObject({ orderUpdate: 'conflict', attention: 'order_conflict' });
    expect(await db.refund.findMany({ where: { paymentId: id } })).toMatchObject([
      { amount: 1000n, reason: 'duplicate_payment' },
    ]);
  });

  test('after an operator accepts another amount, the order service gets an event that contains the order’s new amount', async () => {
    const { merchant } = await ensureMerchant(db, newOrder().id, ['simulator']);
    await setMerchant(db, merchant.name, { orderServiceUrl: 'https://shop.example/nodrop' }, SECRET, now());
    const { id, orderId } = await ended(newOrder(), merchant.id);
    await change(orderId, { amount: 1250 }, { merchant: merchant.id });
    await pay(id, 1000);
    await resolvePayment(db, merchant.id, id, 'accept', 'a rebate', now());
    expect((await row(id)).orderUpdate).toBe('pending');
    const delivery = await db.delivery.findFirstOrThrow({
      where: { paymentId: id, event: { type: 'payment.succeeded' } },
      include: { event: true },
    });
    expect(delivery.event.data).toMatchObject({
      order: { amount: 1250 },
      payment: { settledBy: 'operator' },
    });
    await recordAttempt(
      db,
      delivery.id,
      { outcome: 'agreed', statusCode: 200, detail: 'ok', durationMs: 1, at: now() },
      0,
      now(),
    );
    expect((await row(id)).orderUpdate).toBe('applied');
  });
});
