import { describe, expect, test } from 'vitest';
import type { ChannelAnswer, PaidAnswer } from '../../src/domain/channel.ts';
import { automaticRefundId, replacementRefundId } from '../../src/domain/ids.ts';
import { storeCallback } from '../../src/ledger/callbacks.ts';
import { recordAnswer, settlePayment } from '../../src/ledger/payments.ts';
import { recordFirstAsk, recordRefundAnswer, recordRefundCallback } from '../../src/ledger/refund-answers.ts';
import { requestRefund } from '../../src/ledger/refunds.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { ofTrade } from '../support/callback.ts';
import { attempt, db, now, orderOf, PAID, row } from './payments-support.ts';

/**
 * Tests that nodrop records a refund made at the channel only once, whichever sources report it, and in whichever
 * sequence. Refunds that the channel refuses meanwhile do not change this.
 */

describe('the channel refuses a refund that was requested while the money awaited a decision', () => {
  const refused = { state: 'failed', reason: 'The account is closed.' } as const;
  const short: PaidAnswer = { ...PAID, amount: 900 };
  const refundsOf = (paymentId: string) =>
    db.refund.findMany({ where: { paymentId }, orderBy: [{ createdAt: 'asc' }, { id: 'desc' }] });
  /**
   * Creates the payment `first`, which received 900, and requests a refund of `amount` from it. Then another payment
   * pays the order.
   */
  async function conflictWhileOpen(amount?: number) {
    const first = await attempt();
    const second = await attempt('simulator2', first.orderId);
    await recordAnswer(db, first.id, short, 'query', now());
    await settlePayment(db, first.id, now());
    const asked = { amount, note: undefined, idempotencyKey: `key-${first.id}` };
    const { refund } = await requestRefund(db, first.id, asked, now());
    await recordAnswer(db, second.id, PAID, 'query', now());
    await settlePayment(db, second.id, now());
    expect(await row(first.id)).toMatchObject({ orderUpdate: 'conflict', attention: 'order_conflict' });
    return { first, refund };
  }

  test('after another attempt has paid the order, an automatic refund replaces the refused full refund', async () => {
    const { first, refund } = await conflictWhileOpen();
    expect(await refundsOf(first.id)).toMatchObject([{ id: refund.id, amount: 900n }]);
    for (let i = 0; i < 2; i++) await recordRefundAnswer(db, refund.id, refused, now(), short);
    expect(await refundsOf(first.id)).toMatchObject([
      { id: refund.id, status: 'failed' },
      { id: automaticRefundId(first.id), status: 'created', amount: 900n, reason: 'duplicate_payment' },
    ]);
    // If the channel also refuses the automatic refund, an operator has to act.
    await recordRefundAnswer(db, automaticRefundId(first.id), refused, now(), short);
    expect(await refundsOf(first.id)).toHaveLength(2);
    expect(await row(first.id)).toMatchObject({ attention: 'refund_failing', refundedAmount: 0n });
  });

  test('after another attempt has paid the order, an automatic refund replaces the refused partial refund', async () => {
    const { first, refund } = await conflictWhileOpen(300);
    const rest = automaticRefundId(first.id);
    const gone = (amount: number) => ({ state: 'succeeded', channelRefundId: 'r', amount }) as const;
    await recordRefundAnswer(db, rest, gone(600), now(), { ...short, refundedAmount: 600 });
    expect(await row(first.id)).toMatchObject({ refundedAmount: 600n, attention: 'order_conflict' });
    await recordRefundAnswer(db, refund.id, refused, now(), { ...short, refundedAmount: 600 });
    const again = automaticRefundId(first.id, 2);
    expect(await db.refund.findUnique({ where: { id: again } })).toMatchObject({
      ...{ status: 'created', amount: 300n, reason: 'duplicate_payment' },
    });
    await recordRefundAnswer(db, again, gone(300), now(), { ...short, refundedAmount: 900 });
    expect(await row(first.id)).toMatchObject({ refundedAmount: 900n, attention: null });
  });

  test('if a part was refunded at the channel, only the remaining money is refunded automatically', async () => {
    const { first, refund } = await conflictWhileOpen();
    await recordRefundAnswer(db, refund.id, refused, now(), { ...short, refundedAmount: 200 });
    expect(await refundsOf(first.id)).toMatchObject([
      { id: refund.id, status: 'failed' },
      { reason: 'external', amount: 200n },
      { id: automaticRefundId(first.id), amount: 700n, reason: 'duplicate_payment' },
    ]);
  });

  test('a refusal that a callback reports has no effect until nodrop has queried the trade', async () => {
    const { first, refund } = await conflictWhileOpen();
    const said = { outRefundNo: refund.id, answer: refused };
    const callback = ofTrade({
      notificationId: `n-${refund.id}`,
      outTradeNo: first.id,
      answer: short,
      refund: said,
    });
    const { id } = await storeCallback(db, first.channelAccountId, callback, Buffer.from('{}'), now());
    expect(await recordRefundCallback(db, refund.id, id, now())).toMatchObject({ status: 'created' });
    expect(await refundsOf(first.id)).toHaveLength(1);
    await recordRefundAnswer(db, refund.id, refused, now(), { ...short, refundedAmount: 200 });
    expect(await db.refund.count({ where: { id: automaticRefundId(first.id), amount: 700n } })).toBe(1);
  });

  test('if no other attempt has paid the order, the payment still waits for a decision', async () => {
    const { id } = await attempt();
    await recordAnswer(db, id, short, 'query', now());
    await settlePayment(db, id, now());
    const asked = { amount: undefined, note: undefined, idempotencyKey: `key-${id}` };
    const { refund } = await requestRefund(db, id, asked, now());
    await recordRefundAnswer(db, refund.id, refused, now(), short);
    expect(await row(id)).toMatchObject({ orderUpdate: 'review', attention: 'amount_mismatch' });
    expect(await refundsOf(id)).toHaveLength(1);
  });
});

describe('the channel refuses a refund of all remaining money, because nodrop did not see an external refund', () => {
  const back = (refundedAmount: number): PaidAnswer => ({ ...PAID, refundedAmount });
  const REFUSED = { state: 'failed', reason: 'More than is left.' } as const;
  const request = async (paymentId: string, amount?: number) => {
    const asked = { amount, note: undefined, idempotencyKey: `${paymentId}-${amount ?? 'all'}` };
    const { refund } = await requestRefund(db, paymentId, asked, now());
    return refund.id;
  };
  const paid = async () => {
    const { id } = await attempt();
    await recordAnswer(db, id, PAID, 'query', now());
    await settlePayment(db, id, now());
    return id;
  };
  const refuse = async (refundId: string) => {
    await recordFirstAsk(db, refundId, back(150), now());
    await recordRefundAnswer(db, refundId, REFUSED, now(), back(150));
  };
  const refundOf = (id: string) => db.refund.findUnique({ where: { id } });
  /**
   * A refund of 250 is processing, and 150 was refunded at the channel. A refund of the remaining amount was refused.
   */
  const hidden = async () => {
    const id = await paid();
    const [open, all] = [await request(id, 250), await request(id)];
    await recordFirstAsk(db, open, PAID, now());
    await recordRefundAnswer(db, open, { state: 'processing' }, now());
    await refuse(all);
    expect(await refundOf(all)).toMatchObject({ status: 'failed', amount: 750n, replacedBy: null });
    return { id, open, all, rest: replacementRefundId(all) };
  };
  const GIVEN = { state: 'succeeded', channelRefundId: 'r', amount: 250 } as const;

  test('if another refund that was processing succeeds later, one refund of the remaining money becomes due', async () => {
    const { id, open, all, rest } = await hidden();
    for (let i = 0; i < 2; i++) await recordRefundAnswer(db, open, GIVEN, now(), back(400));
    expect(await refundOf(all)).toMatchObject({ replacedBy: rest });
    expect(await refundOf(rest)).toMatchObject({ status: 'created', amount: 600n });
    expect(await db.refund.count({ where: { paymentId: id } })).toBe(4);
  });

  test('if the channel later refuses another refund that was processing, a refund of at most the requested amount becomes due', async () => {
    const { open, all, rest } = await hidden();
    await recordRefundAnswer(db, open, REFUSED, now(), back(150));
    expect(await refundOf(all)).toMatchObject({ replacedBy: rest });
    expect(await refundOf(rest)).toMatchObject({ status: 'created', amount: 750n });
  });

  test('the refused refund is not replaced if another refund was requested after the refusal', async () => {
    const { id, open, all } = await hidden();
    await request(id, 100);
    await recordRefundAnswer(db, open, GIVEN, now(), back(400));
    expect(await refundOf(all)).toMatchObject({ replacedBy: null });
  });

  test('if the refused refund was automatic, a refund of the remaining money becomes due and refund_failing is cleared', async () => {
    const first = await attempt();
    const { id } = await attempt('simulator2', first.orderId);
    for (const paymentId of [first.id, id]) await recordAnswer(db, paymentId, PAID, 'query', now());
    for (const paymentId of [first.id, id]) await settlePayment(db, paymentId, now());
    const owed = automaticRefundId(id);
    await db.refund.update({ where: { id: owed }, data: { amount: 750n } });
    const open = await request(id, 250);
    await recordRefundAnswer(db, open, { state: 'processing' }, now());
    await refuse(owed);
    expect(await row(id)).toMatchObject({ attention: 'refund_failing' });
    await recordRefundAnswer(db, open, GIVEN, now(), back(400));
    expect(await refundOf(owed)).toMatchObject({ replacedBy: automaticRefundId(id, 2) });
    expect(await refundOf(automaticRefundId(id, 2))).toMatchObject({ status: 'created', amount: 600n });
    expect(await row(id)).toMatchObject({ attention: 'order_conflict' });
  });
});

test('the paid answer of a callback is recorded on the payment, but does not replace a recorded answer that reports a refund', async () => {
  const payment = await attempt();
  const exact = ofTrade({ notificationId: 'n2', outTradeNo: payment.id, answer: PAID });
  await storeCallback(db, payment.channelAccountId, exact, Buffer.from('{}'), now());
  expect((await row(payment.id)).channelAnswer).toMatchObject({ state: 'paid', by: 'callback' });

  const gone = await attempt();
  await recordAnswer(db, gone.id, { ...PAID, state: 'refunded' }, 'query', now());
  const old = ofTrade({ notificationId: 'n3', outTradeNo: gone.id, answer: PAID });
  await storeCallback(db, gone.channelAccountId, old, Buffer.from('{}'), now());
  expect((await settlePayment(db, gone.id, now())).snapshot.orderUpdate).toBe('conflict');
  expect((await db.order.findFirst({ where: { id: gone.orderId } }))?.status).not.toBe('succeeded');
  expect(await row(gone.id)).toMatchObject({ receivedAmount: 1000n, refundedAmount: 1000n });
});

test('of two answers before the settlement, nodrop uses the answer that reports the larger refund, whichever comes first', async () => {
  const back = { ...PAID, state: 'refunded' } as const;
  const part = (refundedAmount: number) => ({ ...PAID, refundedAmount });
  let stored = 0;
  const viaCallback = async ({ id, channelAccountId }: Payment, answer: ChannelAnswer) => {
    const callback = ofTrade({ notificationId: `back-${++stored}`, outTradeNo: id, answer });
    await storeCallback(db, channelAccountId, callback, Buffer.from('{}'), now());
  };
  const viaQuery = async ({ id }: Payment, answer: ChannelAnswer) =>
    void (await recordAnswer(db, id, answer, 'query', now()));
  for (const first of [viaCallback, viaQuery]) {
    for (const second of [viaCallback, viaQuery]) {
      for (const [one, other] of [
        [PAID, back],
        [back, PAID],
        [part(400), back],
        [back, part(400)],
      ] as const) {
        const payment = await attempt();
        await first(payment, one);
        await second(payment, other);
        await settlePayment(db, payment.id, now());
        expect(await row(payment.id)).toMatchObject({ orderUpdate: 'conflict', refundedAmount: 1000n });
        expect(await orderOf(payment)).toBe('unpaid');
      }
      const payment = await attempt();
      await first(payment, part(400));
      await second(payment, part(300));
      await settlePayment(db, payment.id, now());
      expect(await row(payment.id)).toMatchObject({ orderUpdate: 'applied', refundedAmount: 400n });
    }
  }
});

test('a callback with a different amount than the payment has an effect only if it reports a larger refund of the recorded money', async () => {
  const payment = await attempt();
  const { id, channelAccountId } = payment;
  await recordAnswer(db, id, { ...PAID, amount: 900 }, 'query', now());
  for (const [notificationId, amount, state] of [
    ['more', 1000, 'refunded'],
    ['less', 900, 'paid'],
    ['back', 900, 'refunded'],
  ] as const) {
    const callback = ofTrade({ notificationId, outTradeNo: id, answer: { ...PAID, amount, state } });
    await storeCallback(db, channelAccountId, callback, Buffer.from('{}'), now());
    expect((await row(id)).channelAnswer).toMatchObject({
      amount: 900,
      state: notificationId === 'back' ? 'refunded' : 'paid',
      by: notificationId === 'back' ? 'callback' : 'query',
    });
  }
});
