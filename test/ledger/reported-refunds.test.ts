import { beforeAll, describe, expect, test } from 'vitest';
import type { CallbackRefund, PaidAnswer } from '../../src/domain/channel.ts';
import { automaticRefundId } from '../../src/domain/ids.ts';
import { storeCallback } from '../../src/ledger/callbacks.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { insertPayment } from '../../src/ledger/new-payment.ts';
import { type Resolution, resolvePayment } from '../../src/ledger/operator-decision.ts';
import { recordAnswer, settlePayment } from '../../src/ledger/payments.ts';
import { recordFirstAsk, recordRefundAnswer } from '../../src/ledger/refund-answers.ts';
import { requestRefund } from '../../src/ledger/refunds.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { useDatabase } from '../support/stack.ts';

/**
 * Tests a channel that reports a partial refund of a trade, but not its amount. WeChat Pay's `REFUND` state is an
 * example. An order never becomes paid by money that may have been refunded (P2). If no known refund explains the
 * report, an attention is raised once.
 */

const { db } = useDatabase();
let merchantId: string;
beforeAll(async () => {
  merchantId = (await ensureMerchant(db, 'shop', ['simulator', 'simulator2'])).merchant.id;
});

const now = () => new Date();
const PAID: PaidAnswer = {
  ...{ state: 'paid', channelPaymentId: 'trx', amount: 1000, currency: 'CNY' },
  paidAt: new Date().toISOString(),
};
const BACK: PaidAnswer = { ...PAID, someWentBack: true };

let count = 0;
async function attempt(channel = 'simulator', orderId = `order-${++count}`): Promise<Payment> {
  const order = {
    ...{ id: orderId, amount: 1000, currency: 'CNY', subject: 'x' },
    ...{ metadata: {}, expiresInSeconds: undefined },
  };
  const askedAttempts = new Set((await db.payment.findMany({ select: { id: true } })).map(({ id }) => id));
  const { payment } = await insertPayment(
    ...([db, merchantId, order] as const),
    {
      ...{ channel, method: 'wallet', payer: undefined, returnUrl: undefined, metadata: {} },
      ...{ expiresInMs: 60_000, askedAttempts },
    },
    ...([() => 'hash', now()] as const),
  );
  return payment;
}
const row = (id: string) => db.payment.findUniqueOrThrow({ where: { id } });
const orderOf = async ({ orderId: id }: Payment) =>
  (await db.order.findFirstOrThrow({ where: { merchantId, id } })).status;
const refundsOf = async ({ id: paymentId }: Payment) =>
  (await db.refund.findMany({ where: { paymentId }, orderBy: { createdAt: 'asc' } })).map(
    ({ amount, reason, status }) => [amount, reason, status],
  );
const says = ({ id }: Payment, answer: PaidAnswer) => recordAnswer(db, id, answer, 'query', now());
const resolve = ({ id }: Payment, action: Resolution) =>
  resolvePayment(db, merchantId, id, action, 'looked at the channel', now());

async function settle(payment: Payment, answer: PaidAnswer): Promise<Payment> {
  await says(payment, answer);
  await settlePayment(db, payment.id, now());
  return await row(payment.id);
}
const settled = async (answer: PaidAnswer) => await settle(await attempt(), answer);

/** Creates two attempts at one order. */
async function twoAttempts(): Promise<[Payment, Payment]> {
  const first = await attempt();
  return [first, await attempt('simulator2', first.orderId)];
}

/** Stores a callback about a refund that was made at the channel. */
async function told({ id, channelAccountId }: Payment, amount: number, nth = ++count): Promise<void> {
  const [outRefundNo, channelRefundId] = [`platform_${nth}`, `wx_${nth}`];
  const refund: CallbackRefund = {
    ...{ outRefundNo, channelRefundId },
    answer: { state: 'succeeded', channelRefundId, amount },
  };
  const about = { outTradeNo: id };
  const callback = { kind: 'refund', notificationId: `n-${count}`, about, refund } as const;
  await storeCallback(db, channelAccountId, callback, Buffer.from('{}'), now());
}

describe('the answer that settles a payment reports a refund without its amount', () => {
  test('the order stays unpaid and accepts no other attempt, and the payment waits for an operator', async () => {
    const payment = await settled(BACK);
    expect(payment).toMatchObject({
      ...{ status: 'succeeded', orderUpdate: 'review', receivedAmount: 1000n, refundedAmount: 0n },
      ...{ attention: 'amount_mismatch', attentionDetail: expect.stringContaining('not how much') },
    });
    expect(await orderOf(payment)).toBe('unpaid');
    await expect(attempt('simulator2', payment.orderId)).rejects.toMatchObject({
      code: 'attempt_unresolved',
    });
  });

  test('if an operator dismisses the attention, the payment is recorded as refunded in full and the order can be paid again', async () => {
    const payment = await settled(BACK);
    await resolve(payment, 'dismiss');
    expect(await row(payment.id)).toMatchObject({
      ...{ orderUpdate: 'conflict', refundedAmount: 1000n, attention: null },
    });
    expect(await refundsOf(payment)).toEqual([[1000n, 'external', 'succeeded']]);
    expect(await orderOf(payment)).toBe('unpaid');
    // The channel still reports the refund.
    await says(payment, BACK);
    expect(await row(payment.id)).toMatchObject({ attention: null, refundedAmount: 1000n });
  });

  test('if an operator accepts the payment, it pays the order and the same report raises no further attention', async () => {
    const payment = await settled(BACK);
    await says(payment, BACK);
    await resolve(payment, 'accept');
    await says(payment, BACK);
    expect(await row(payment.id)).toMatchObject({ orderUpdate: 'applied', attention: null });
    expect(await orderOf(payment)).toBe('succeeded');
  });

  test('before the settlement, the answer with this refund replaces a recorded paid answer without a refund', async () => {
    const payment = await attempt();
    await says(payment, PAID);
    await says(payment, BACK);
    await says(payment, PAID);
    await settlePayment(db, payment.id, now());
    expect(await row(payment.id)).toMatchObject({ orderUpdate: 'review' });
  });

  test('the second payment of an order is not refunded automatically while the refunded amount is unknown', async () => {
    const [first, second] = await twoAttempts();
    await settle(first, PAID);
    expect(await settle(second, BACK)).toMatchObject({ orderUpdate: 'review', attention: 'amount_mismatch' });
    expect(await refundsOf(second)).toEqual([]);
    await expect(resolve(second, 'accept')).rejects.toMatchObject({ code: 'not_resolvable' });
    await resolve(second, 'dismiss');
    expect(await row(second.id)).toMatchObject({ orderUpdate: 'conflict', attention: null });
  });

  test('the payment still waits for an operator after another payment pays the order', async () => {
    const [first, second] = await twoAttempts();
    await settle(first, BACK);
    await settle(second, PAID);
    expect(await orderOf(second)).toBe('succeeded');
    expect(await row(first.id)).toMatchObject({ orderUpdate: 'review' });
    expect(await refundsOf(first)).toEqual([]);
  });

  test('if a callback has reported a full refund, the payment pays no order and needs no operator', async () => {
    const payment = await attempt();
    await told(payment, 1000);
    await settle(payment, BACK);
    expect(await row(payment.id)).toMatchObject({
      ...{ orderUpdate: 'conflict', refundedAmount: 1000n, attention: null },
    });
    expect(await orderOf(payment)).toBe('unpaid');
  });

  test('if a callback has reported a partial refund, the payment pays its order', async () => {
    const payment = await attempt();
    await told(payment, 300);
    await settle(payment, BACK);
    expect(await row(payment.id)).toMatchObject({
      ...{ orderUpdate: 'applied', refundedAmount: 300n, attention: 'channel_reversed' },
    });
    expect(await refundsOf(payment)).toEqual([[300n, 'external', 'succeeded']]);
  });

  test('if callbacks report the refund later, a partial refund adds its amount to the attention and a full refund clears the attention', async () => {
    const payment = await settled(BACK);
    await told(payment, 300);
    await says(payment, BACK);
    const { attention, attentionDetail } = await row(payment.id);
    expect([attention, attentionDetail]).toEqual([
      'amount_mismatch',
      'CNY 10.00 was received. CNY 3.00 was refunded, as far as the channel reports.',
    ]);
    await told(payment, 700);
    await says(payment, BACK);
    await says(payment, BACK);
    expect(await row(payment.id)).toMatchObject({ orderUpdate: 'conflict', attention: null });
    expect(await orderOf(payment)).toBe('unpaid');
  });
});

describe('after the settlement, the channel reports a refund without its amount', () => {
  test('a reported refund that nodrop does not know raises an attention once', async () => {
    const payment = await settled(PAID);
    await says(payment, BACK);
    const shown = await row(payment.id);
    expect(shown).toMatchObject({
      ...{ orderUpdate: 'applied', refundedAmount: 0n, attention: 'channel_reversed' },
      attentionDetail: expect.stringContaining(
        'CNY 10.00 was received. The channel reports that some or all of the money',
      ),
    });
    await says(payment, BACK);
    expect(await row(payment.id)).toMatchObject({ attentionSince: shown.attentionSince });
    await resolve(payment, 'dismiss');
    await says(payment, BACK);
    expect(await row(payment.id)).toMatchObject({ attention: null });
  });

  test('if another attention is already raised, the report raises its own attention only after an operator dismisses the other attention', async () => {
    const payment = await settled(PAID);
    await db.payment.update({
      where: { id: payment.id },
      data: { attention: 'workflow_stuck', attentionSince: now(), attentionDetail: 'stuck' },
    });
    await says(payment, BACK);
    expect(await row(payment.id)).toMatchObject({ attention: 'workflow_stuck' });
    await resolve(payment, 'dismiss');
    await says(payment, BACK);
    expect(await row(payment.id)).toMatchObject({ attention: 'channel_reversed' });
  });

  test('if a callback reports the refund later, the refund is recorded and the attention contains its amount', async () => {
    const payment = await settled(PAID);
    await says(payment, BACK);
    await told(payment, 300);
    await says(payment, BACK);
    await says(payment, BACK);
    expect(await refundsOf(payment)).toEqual([[300n, 'external', 'succeeded']]);
    expect(await row(payment.id)).toMatchObject({
      ...{ refundedAmount: 300n, attention: 'channel_reversed' },
      attentionDetail: expect.stringContaining('CNY 3.00 was refunded'),
    });
  });

  test('a refund that only a callback has reported is recorded when an answer about the trade also reports a refund', async () => {
    const payment = await settled(PAID);
    await told(payment, 300);
    await says(payment, PAID);
    expect(await refundsOf(payment)).toEqual([]);
    await says(payment, BACK);
    expect(await refundsOf(payment)).toEqual([[300n, 'external', 'succeeded']]);
  });

  test('no attention is raised if a refund of nodrop is processing, has succeeded or has failed at the channel', async () => {
    const payment = await settled(PAID);
    const ask = async () => {
      const request = { amount: 300, note: undefined, idempotencyKey: `key-${++count}` };
      const { refund } = await requestRefund(db, payment.id, request, now());
      await recordFirstAsk(db, refund.id, (await refundsOf(payment)).length > 1 ? BACK : PAID, now());
      return refund;
    };
    const first = await ask();
    await says(payment, BACK);
    const channelRefundId = `wx_${++count}`;
    await recordRefundAnswer(db, first.id, { state: 'processing', channelRefundId }, now(), BACK);
    await recordRefundAnswer(db, first.id, { state: 'failed', reason: 'closed' }, now(), BACK);
    expect(await row(payment.id)).toMatchObject({ attention: null, refundedAmount: 0n });
    const second = await ask();
    const done = { state: 'succeeded', channelRefundId: `wx_${++count}`, amount: 300 } as const;
    await recordRefundAnswer(db, second.id, done, now(), BACK);
    await says(payment, BACK);
    expect(await row(payment.id)).toMatchObject({ attention: null, refundedAmount: 300n });
  });

  test('an attention is raised if the channel does not know the refund of nodrop yet', async () => {
    const payment = await settled(PAID);
    const request = { amount: 300, note: undefined, idempotencyKey: `key-${++count}` };
    const { refund } = await requestRefund(db, payment.id, request, now());
    await recordFirstAsk(db, refund.id, BACK, now());
    expect(await row(payment.id)).toMatchObject({ attention: 'channel_reversed' });
  });

  test('the attention of an order conflict does not change, because the refund that is due explains the channel’s report', async () => {
    const [first, second] = await twoAttempts();
    await settle(first, PAID);
    await settle(second, PAID);
    await says(second, BACK);
    expect(await row(second.id)).toMatchObject({ attention: 'order_conflict' });
    expect(await db.refund.findMany({ where: { paymentId: second.id } })).toMatchObject([
      { id: automaticRefundId(second.id), status: 'created' },
    ]);
  });

  test('if the payment waits for a decision, the report is added to its attention, which an operator can then dismiss', async () => {
    const payment = await settled({ ...PAID, amount: 900 });
    await expect(resolve(payment, 'dismiss')).rejects.toMatchObject({ code: 'not_resolvable' });
    await says(payment, { ...BACK, amount: 900 });
    const { attention, attentionDetail } = await row(payment.id);
    expect(attention).toBe('amount_mismatch');
    expect(attentionDetail).toMatch(/received CNY 9\.00.*not how much/);
    await resolve(payment, 'dismiss');
    expect(await row(payment.id)).toMatchObject({ orderUpdate: 'conflict', refundedAmount: 900n });
  });
});
