import { beforeAll, expect, test } from 'vitest';
import type { ChannelDispute, PaidAnswer } from '../../src/domain/channel.ts';
import { recordDisputeOfCallback } from '../../src/ledger/disputes.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { insertPayment } from '../../src/ledger/new-payment.ts';
import { resolvePayment } from '../../src/ledger/operator-decision.ts';
import {
  recordAnswer,
  recordCreated,
  recordMisconfigured,
  settlePayment,
} from '../../src/ledger/payments.ts';
import { recordRefundAnswer } from '../../src/ledger/refund-answers.ts';
import { requestRefund } from '../../src/ledger/refunds.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { useDatabase } from '../support/stack.ts';

// Tests the effects of disputes on money. Money that was lost in a dispute was already returned to the payer, so nodrop
// never refunds it again. A dispute hides other attentions only for a time.

const { db } = useDatabase();
let merchantId: string;
beforeAll(async () => {
  merchantId = (await ensureMerchant(db, 'shop', ['simulator'])).merchant.id;
});

let clock = Date.now();
const now = () => new Date(clock++);
let made = 0;

async function attempt(orderId?: string, beside?: Payment): Promise<Payment> {
  made += 1;
  const order = { amount: 1000, currency: 'CNY', subject: 'x', metadata: {}, expiresInSeconds: undefined };
  const { payment } = await insertPayment(
    db,
    merchantId,
    { ...order, id: orderId ?? `order-${made}` },
    {
      ...{ channel: 'simulator', payer: undefined, returnUrl: undefined, metadata: {} },
      method: beside === undefined ? 'wallet' : 'qr',
      expiresInMs: 600_000,
      askedAttempts: new Set(beside === undefined ? [] : [beside.id]),
    },
    () => `hash-${made}`,
    now(),
  );
  await recordCreated(db, payment.id, { type: 'redirect', url: 'https://wallet.example/' }, now());
  return payment;
}

const PAID: PaidAnswer = {
  ...{ state: 'paid', channelPaymentId: 'trx', amount: 1000, currency: 'CNY' },
  paidAt: new Date().toISOString(),
};
const DISPUTE: ChannelDispute = { id: 'dp_1', amount: 1000, currency: 'CNY', state: 'open' };

async function paid(answer: PaidAnswer = PAID, payment?: Payment): Promise<Payment> {
  const { id } = payment ?? (await attempt());
  await recordAnswer(db, id, answer, 'query', now());
  await settlePayment(db, id, now());
  return await row(id);
}

/**
 * Creates a payment whose order was paid by another payment. So a refund is due, but nodrop has not requested it at the
 * channel yet.
 */
async function owed(): Promise<Payment> {
  const orderId = `twice-${made}`;
  const first = await attempt(orderId);
  const second = await attempt(orderId, first);
  await paid(PAID, first);
  return await paid(PAID, second);
}

const row = (id: string) => db.payment.findUniqueOrThrow({ where: { id } });
const refunds = (paymentId: string) =>
  db.refund.findMany({ where: { paymentId }, orderBy: [{ createdAt: 'asc' }, { id: 'asc' }] });
const told = async (id: string, changes: Partial<ChannelDispute> = {}) =>
  await recordDisputeOfCallback(db, id, { ...DISPUTE, ...changes }, now());
const asked = async (id: string, changes: Partial<ChannelDispute>) =>
  await recordAnswer(db, id, { ...PAID, disputes: [{ ...DISPUTE, ...changes }] }, 'query', now());
const events = async (paymentId: string) =>
  (await db.event.findMany({ where: { paymentId }, orderBy: { version: 'asc' } })).map(({ type }) => type);

test('a dispute that a paid answer reports is recorded, even before the settlement', async () => {
  const { id } = await attempt();
  await asked(id, { respondBy: '2026-12-24T00:00:00Z' });
  expect(await row(id)).toMatchObject({ status: 'paying', attention: 'disputed' });
  await settlePayment(db, id, now());
  expect(await row(id)).toMatchObject({ orderUpdate: 'applied', attention: 'disputed', refundedAmount: 0n });
  await asked(id, { state: 'won' });
  expect(await row(id)).toMatchObject({
    attention: null,
    disputes: [{ state: 'won', decidedAt: expect.any(String) }],
  });
});

test('every dispute in an answer is recorded, and the amount of each lost dispute is added to the refunded amount', async () => {
  const { id } = await paid();
  const first = { ...DISPUTE, id: 'dp_a', amount: 300, state: 'lost' } as const;
  const disputes = [first, { ...DISPUTE, id: 'dp_b', amount: 700 }];
  await recordAnswer(db, id, { ...PAID, disputes }, 'query', now());
  expect(await row(id)).toMatchObject({
    disputes: [{ id: 'dp_a' }, { id: 'dp_b' }],
    ...{ refundedAmount: 300n, attention: 'disputed' },
  });
  const decided = disputes.map((one) => ({ ...one, state: 'lost' as const }));
  await recordAnswer(db, id, { ...PAID, disputes: decided }, 'query', now());
  expect(await row(id)).toMatchObject({ refundedAmount: 1000n });
});

test('if an inquiry becomes a dispute, the dispute replaces the inquiry on the payment and in the attention', async () => {
  const { id } = await paid();
  await asked(id, { isInquiry: true });
  expect(await row(id)).toMatchObject({ attentionDetail: expect.stringMatching(/^Inquiry dp_1 /) });
  await asked(id, {});
  const disputed = await row(id);
  expect(disputed).toMatchObject({ attentionDetail: expect.stringMatching(/^Dispute dp_1 /) });
  expect(disputed.disputes).toEqual([expect.not.objectContaining({ isInquiry: true })]);
});

test('a won dispute adds nothing to the refunded amount, and the attention that the dispute had hidden is raised again', async () => {
  const { id } = await paid({ ...PAID, amount: 900 });
  expect(await row(id)).toMatchObject({ orderUpdate: 'review', attention: 'amount_mismatch' });
  const { attentionDetail, attentionSince } = await row(id);
  await told(id, { amount: 900 });
  expect(await row(id)).toMatchObject({ attention: 'disputed', hiddenAttention: 'amount_mismatch' });
  await told(id, { amount: 900, state: 'won' });
  expect(await row(id)).toMatchObject({
    ...{ attention: 'amount_mismatch', attentionDetail, attentionSince },
    ...{ hiddenAttention: null, refundedAmount: 0n },
  });
});

test('if an operator decides about the money during a dispute, the attention that the dispute hides is not raised again', async () => {
  const { id } = await paid({ ...PAID, amount: 900 });
  await told(id, { amount: 900 });
  await resolvePayment(db, merchantId, id, 'accept', 'fine', now());
  expect(await row(id)).toMatchObject({
    orderUpdate: 'applied',
    attention: 'disputed',
    hiddenAttention: null,
  });
  await told(id, { amount: 900, state: 'won' });
  expect((await row(id)).attention).toBeNull();
});

test('if the cause of an attention ends during a dispute that hides it, the attention is not raised again', async () => {
  const { id } = await attempt();
  const shown = { attention: 'channel_unreachable', attentionSince: now(), attentionDetail: 'Silent.' };
  await db.payment.update({ where: { id }, data: shown });
  await told(id);
  expect((await row(id)).hiddenAttention).toBe('channel_unreachable');
  await recordAnswer(db, id, { state: 'unpaid' }, 'query', now());
  expect(await row(id)).toMatchObject({ attention: 'disputed', hiddenAttention: null });
});

test('the attention of an order conflict that begins during a dispute is raised when the dispute is decided', async () => {
  const orderId = `conflict-${made}`;
  const first = await attempt(orderId);
  const second = await attempt(orderId, first);
  await told(second.id);
  await paid(PAID, first);
  await paid(PAID, second);
  expect(await row(second.id)).toMatchObject({ orderUpdate: 'conflict', attention: 'disputed' });
  await told(second.id, { state: 'won' });
  expect(await row(second.id)).toMatchObject({ attention: 'order_conflict' });
  expect(await refunds(second.id)).toMatchObject([{ status: 'created', reason: 'duplicate_payment' }]);
});

test('an order conflict that is hidden by channel_misconfigured and then by a dispute is raised again with its original time', async () => {
  const { id, attentionSince } = await owed();
  expect(attentionSince).not.toBeNull();
  await recordMisconfigured(db, id, 'The key is wrong.', now());
  await told(id);
  expect(await row(id)).toMatchObject({ attention: 'disputed' });
  await told(id, { state: 'won' });
  expect(await row(id)).toMatchObject({ attention: 'order_conflict', attentionSince });
});

test('a lost dispute is recorded as one refund of the order, and no further refund is possible', async () => {
  const { id, orderId } = await paid();
  await told(id);
  await told(id, { state: 'lost' });
  await told(id, { state: 'lost' });
  await asked(id, { state: 'lost' });
  expect(await row(id)).toMatchObject({ refundedAmount: 1000n, attention: 'channel_reversed' });
  expect((await row(id)).attentionDetail).toContain('Dispute dp_1 of CNY 10.00 is lost');
  expect(await refunds(id)).toMatchObject([
    { reason: 'dispute', status: 'succeeded', amount: 1000n, channelRefundId: 'dp_1' },
  ]);
  expect((await db.order.findFirst({ where: { id: orderId } }))?.status).toBe('refunded');
  expect(await events(id)).toEqual(['payment.succeeded', 'refund.succeeded']);
  const again = { amount: undefined, note: undefined, idempotencyKey: 'again' };
  await expect(requestRefund(db, id, again, now())).rejects.toMatchObject({ code: 'not_refundable' });
});

test.each([
  [1000, [{ reason: 'duplicate_payment', status: 'failed' }], 1000],
  [400, [{ reason: 'duplicate_payment', status: 'created', amount: 600n }], 400],
])(
  'a lost dispute of %i reduces or ends the automatic refund, so that no money is given back twice',
  async (amount, first, lost) => {
    const { id } = await owed();
    await told(id, { amount });
    await told(id, { amount, state: 'lost' });
    expect(await refunds(id)).toMatchObject([
      ...first,
      { reason: 'dispute', status: 'succeeded', amount: BigInt(lost) },
    ]);
    expect(await row(id)).toMatchObject({
      refundedAmount: BigInt(lost),
      attention: lost === 1000 ? null : 'order_conflict',
    });
  },
);

test('while a refund is processing, only the part of a lost dispute that exceeds the refund is added to the refunded amount', async () => {
  const { id } = await paid();
  const given = { amount: 700, note: undefined, idempotencyKey: 'with the channel' };
  const { refund } = await requestRefund(db, id, given, now());
  await db.refund.update({ where: { id: refund.id }, data: { askedAt: now(), status: 'processing' } });
  await told(id, { state: 'lost' });
  expect(await row(id)).toMatchObject({ refundedAmount: 300n });
});

test.each(['processing', 'succeeded'] as const)(
  'if a refund that covers a part of a lost dispute is reversed while it is %s, the refunded amount contains the full dispute',
  async (status) => {
    const { id } = await paid();
    const given = { amount: 700, note: undefined, idempotencyKey: `reversed while ${status}` };
    const { refund } = await requestRefund(db, id, given, now());
    await db.refund.update({ where: { id: refund.id }, data: { askedAt: now(), status: 'processing' } });
    if (status === 'succeeded') {
      const answer = { state: 'succeeded', channelRefundId: 're_1', amount: 700 } as const;
      await recordRefundAnswer(db, refund.id, answer, now());
    }
    await told(id, { state: 'lost' });
    expect(await row(id)).toMatchObject({ refundedAmount: status === 'succeeded' ? 1000n : 300n });
    const reversed = { state: 'reversed', reason: 'The account is closed.' } as const;
    await recordRefundAnswer(db, refund.id, reversed, now());
    expect(await row(id)).toMatchObject({ refundedAmount: 1000n });
  },
);

test('if an external refund covers a part of a lost dispute and then fails, the refunded amount contains the full dispute', async () => {
  const { id } = await paid();
  const listed = async (state: 'processing' | 'failed') =>
    await recordAnswer(db, id, { ...PAID, refunds: [{ id: 're_1', amount: 700, state }] }, 'query', now());
  await listed('processing');
  await told(id, { state: 'lost' });
  expect(await row(id)).toMatchObject({ refundedAmount: 300n });
  await listed('failed');
  expect(await row(id)).toMatchObject({ refundedAmount: 1000n });
});

test('if a dispute of the full amount is lost before the settlement, the settlement records the dispute and the money pays no order', async () => {
  const { id, orderId } = await attempt();
  await told(id, { state: 'lost' });
  await paid(PAID, await row(id));
  expect(await row(id)).toMatchObject({
    status: 'succeeded',
    orderUpdate: 'conflict',
    refundedAmount: 1000n,
  });
  expect(await refunds(id)).toMatchObject([{ reason: 'dispute', status: 'succeeded', amount: 1000n }]);
  expect((await db.order.findFirst({ where: { id: orderId } }))?.status).toBe('unpaid');
  // In the end the merchant wins the dispute. The merchant has the money again, but the money pays no order.
  await asked(id, { state: 'won' });
  expect(await row(id)).toMatchObject({ refundedAmount: 0n, attention: 'order_conflict' });
});

test('if a dispute of a part of the money is lost before the settlement, the money still pays the order', async () => {
  const { id } = await attempt();
  await told(id, { amount: 400, state: 'lost' });
  await paid(PAID, await row(id));
  expect(await row(id)).toMatchObject({ orderUpdate: 'applied', refundedAmount: 400n });
});

test('a callback that contradicts a decided dispute only causes a query of the channel', async () => {
  const { id } = await paid();
  await told(id, { state: 'won' });
  expect((await told(id)).isToBeAsked).toBe(true);
  expect((await row(id)).attention).toBeNull();
  expect((await told(id, { state: 'lost' })).isToBeAsked).toBe(true);
  expect((await row(id)).refundedAmount).toBe(0n);
});

test('if the channel’s answer reopens a lost dispute, the amount of the dispute is removed from the refunded amount', async () => {
  const { id } = await paid();
  await told(id, { state: 'lost' });
  await asked(id, { state: 'open' });
  expect(await row(id)).toMatchObject({ refundedAmount: 0n, attention: 'disputed' });
  expect(await refunds(id)).toMatchObject([{ reason: 'dispute', status: 'failed' }]);
  await asked(id, { state: 'lost' });
  expect(await row(id)).toMatchObject({ refundedAmount: 1000n });
});

test('a lost dispute in another currency waits for an operator and records no refund', async () => {
  const { id } = await paid();
  await told(id, { amount: 140, currency: 'USD' });
  await told(id, { amount: 140, currency: 'USD', state: 'lost' });
  expect(await row(id)).toMatchObject({ refundedAmount: 0n, attention: 'disputed' });
  expect((await row(id)).attentionDetail).toContain('another currency');
});
