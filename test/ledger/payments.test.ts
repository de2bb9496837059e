import { beforeAll, describe, expect, test } from 'vitest';
import type { ChannelAnswer, PaidAnswer } from '../../src/domain/channel.ts';
import { automaticRefundId, replacementRefundId } from '../../src/domain/ids.ts';
import { storeCallback } from '../../src/ledger/callbacks.ts';
import { startPayment } from '../../src/ledger/intake.ts';
import { cleared, underLock, update } from '../../src/ledger/locked.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { cancelOrder, releaseEndingOrder } from '../../src/ledger/orders.ts';
import {
  endPayment,
  raiseAttention,
  recordAnswer,
  recordCreated,
  recordRefusal,
  recordSilence,
  requestCancel,
  settlePayment,
} from '../../src/ledger/payments.ts';
import { recordFirstAsk, recordRefundAnswer, recordRefundCallback } from '../../src/ledger/refund-answers.ts';
import { requestRefund } from '../../src/ledger/refunds.ts';
import { resolvePayment } from '../../src/ledger/resolve.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { ofTrade } from '../support/callback.ts';
import { eventually, useDatabase } from '../support/stack.ts';

/**
 * Every change of a payment is conditional: late, doubled, or in the wrong order, it changes nothing (P5), and money
 * once on record is never talked away (P1, P3).
 */

const { db, connect } = useDatabase();
let merchantId: string;
beforeAll(async () => {
  merchantId = (await ensureMerchant(db, 'shop', ['simulator', 'simulator2'])).merchant.id;
});

const now = () => new Date();
const ACTION = { type: 'redirect', url: 'https://wallet.example' } as const;
const PAID: PaidAnswer = {
  state: 'paid',
  channelPaymentId: 'trx',
  amount: 1000,
  currency: 'CNY',
  paidAt: new Date().toISOString(),
};

let orders = 0;
async function attempt(channel = 'simulator', orderId = `order-${++orders}`, merchant = merchantId) {
  const order = {
    id: orderId,
    amount: 1000,
    currency: 'CNY',
    subject: 'x',
    metadata: {},
    expiresInSeconds: undefined,
  };
  // As when their channels did not answer in time.
  const askedAttempts = new Set((await db.payment.findMany({ select: { id: true } })).map(({ id }) => id));
  const { payment } = await startPayment(
    db,
    merchant,
    order,
    {
      channel,
      method: 'wallet',
      payer: undefined,
      returnUrl: undefined,
      metadata: {},
      expiresInMs: 60_000,
      askedAttempts,
    },
    () => 'hash',
    now(),
  );
  return payment;
}
const row = (id: string) => db.payment.findUniqueOrThrow({ where: { id } });
const orderOf = async ({ orderId }: Payment) =>
  (await db.order.findFirstOrThrow({ where: { merchantId, id: orderId } })).status;

test('settling twice, also at once, pays the order once and says the same', async () => {
  const { id, orderId } = await attempt();
  await recordAnswer(db, id, PAID, 'query', now());
  const settled = await Promise.all([1, 2, 3].map(() => settlePayment(db, id, now())));
  expect(settled.map(({ snapshot }) => snapshot.orderUpdate)).toEqual(['applied', 'applied', 'applied']);
  expect(await db.timelineEntry.count({ where: { paymentId: id, kind: 'order' } })).toBe(1);
  expect(await db.order.findFirst({ where: { id: orderId } })).toMatchObject({
    status: 'succeeded',
    paidPaymentId: id,
  });
});

test('two attempts settled at once: one pays the order, the other is owed back', async () => {
  const first = await attempt();
  const second = await attempt('simulator2', first.orderId);
  for (const { id } of [first, second]) await recordAnswer(db, id, PAID, 'query', now());
  const settled = await Promise.all([first, second].map(({ id }) => settlePayment(db, id, now())));
  expect(settled.map(({ snapshot }) => snapshot.orderUpdate).sort()).toEqual(['applied', 'conflict']);
  expect(await db.refund.count({ where: { paymentId: { in: [first.id, second.id] } } })).toBe(1);
});

test('whoever repeats the order update is told of the same attempts to cancel', async () => {
  const first = await attempt();
  const second = await attempt('simulator2', first.orderId);
  await recordAnswer(db, first.id, PAID, 'query', now());
  expect((await settlePayment(db, first.id, now())).cancelled).toEqual([second.id]);
  expect((await settlePayment(db, first.id, now())).cancelled).toEqual([second.id]);
  expect((await row(second.id)).cancelRequestedAt).not.toBeNull();
});

test('what waits for a decision goes back by itself once another attempt pays the order', async () => {
  const short = await attempt();
  const exact = await attempt('simulator2', short.orderId);
  await recordAnswer(db, short.id, { ...PAID, amount: 900 }, 'query', now());
  await settlePayment(db, short.id, now());
  expect(await row(short.id)).toMatchObject({ orderUpdate: 'review', attention: 'amount_mismatch' });
  await recordAnswer(db, exact.id, PAID, 'query', now());
  for (let i = 0; i < 2; i++)
    expect((await settlePayment(db, exact.id, now())).snapshot.orderUpdate).toBe('applied');
  expect(await row(short.id)).toMatchObject({ orderUpdate: 'conflict', attention: 'order_conflict' });
  const refunds = await db.refund.findMany({ where: { payment: { orderId: short.orderId } } });
  expect(refunds).toMatchObject([
    { id: automaticRefundId(short.id), amount: 900n, reason: 'duplicate_payment', status: 'created' },
  ]);
  const types = async (paymentId: string) =>
    (await db.event.findMany({ where: { paymentId }, orderBy: { version: 'asc' } })).map(({ type }) => type);
  expect(await types(short.id)).toEqual(['payment.review', 'payment.conflict']);
  expect(await types(exact.id)).toEqual(['payment.succeeded']);
});

test('an order whose money waits for a decision is held: not free again, not cancelled, and it takes no other attempt', async () => {
  const short = await attempt();
  await recordCreated(db, short.id, ACTION, now());
  await recordAnswer(db, short.id, { ...PAID, amount: 900 }, 'query', now());
  await settlePayment(db, short.id, now());
  expect(await row(short.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'review' });
  expect(await orderOf(short)).toBe('paying');
  await expect(attempt('simulator2', short.orderId)).rejects.toMatchObject({ code: 'attempt_unresolved' });
  // Its owner, or its time, wants it to end: not while it has somebody's money.
  expect(await cancelOrder(db, merchantId, short.orderId, now())).toEqual({ status: 'paying', live: [] });
  await db.order.updateMany({ where: { id: short.orderId }, data: { expiresAt: new Date(Date.now() - 1) } });
  expect(await releaseEndingOrder(db, { merchantId, id: short.orderId }, now())).toBe(false);
  expect(await orderOf(short)).toBe('paying');
});

test('what becomes of a late success is its own merchant’s policy, whatever others want', async () => {
  const policies = ['apply', 'refund', 'review'] as const;
  const shops = await Promise.all(
    policies.map(async (latePayment) => {
      const { merchant } = await ensureMerchant(db, `late-${latePayment}`, ['simulator']);
      return await db.merchant.update({ where: { id: merchant.id }, data: { latePayment } });
    }),
  );
  const outcomes: unknown[] = [];
  for (const { id: shop } of shops) {
    // The same order number at each of them.
    const { id, expiresAt } = await attempt('simulator', 'late', shop);
    await recordCreated(db, id, ACTION, now());
    await endPayment(db, id, 'closed', 'expired', expiresAt);
    const paidAt = new Date(expiresAt.getTime() + 1_000);
    await recordAnswer(db, id, { ...PAID, paidAt: paidAt.toISOString() }, 'query', paidAt);
    await settlePayment(db, id, paidAt);
    const { orderUpdate, attention } = await row(id);
    const order = await db.order.findUniqueOrThrow({
      where: { merchantId_id: { merchantId: shop, id: 'late' } },
    });
    const refunds = await db.refund.findMany({ where: { paymentId: id } });
    outcomes.push([orderUpdate, attention, order.status, refunds.map(({ reason }) => reason)]);
  }
  expect(outcomes).toEqual([
    ['applied', null, 'succeeded', []],
    ['conflict', 'order_conflict', 'unpaid', ['late_payment']],
    ['review', 'late_payment_review', 'unpaid', []],
  ]);
});

describe('a merchant has it refunded, another attempt pays the order, and the channel refuses that refund', () => {
  const refused = { state: 'failed', reason: 'The account is closed.' } as const;
  const short: PaidAnswer = { ...PAID, amount: 900 };
  const refundsOf = (paymentId: string) =>
    db.refund.findMany({ where: { paymentId }, orderBy: [{ createdAt: 'asc' }, { id: 'desc' }] });
  /** Of `first` 900 came in, of which so much is asked for; its order is paid by another one. */
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

  test('of all of it: it is owed by itself', async () => {
    const { first, refund } = await conflictWhileOpen();
    expect(await refundsOf(first.id)).toMatchObject([{ id: refund.id, amount: 900n }]);
    for (let i = 0; i < 2; i++) await recordRefundAnswer(db, refund.id, refused, now(), short);
    expect(await refundsOf(first.id)).toMatchObject([
      { id: refund.id, status: 'failed' },
      { id: automaticRefundId(first.id), status: 'created', amount: 900n, reason: 'duplicate_payment' },
    ]);
    // That is refused as well: from now on it is a person's business.
    await recordRefundAnswer(db, automaticRefundId(first.id), refused, now(), short);
    expect(await refundsOf(first.id)).toHaveLength(2);
    expect(await row(first.id)).toMatchObject({ attention: 'refund_failing', refundedAmount: 0n });
  });

  test('of a part of it: that part is owed by itself, beside the rest', async () => {
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

  test('after somebody gave a part of it back at the channel: only the rest is owed', async () => {
    const { first, refund } = await conflictWhileOpen();
    await recordRefundAnswer(db, refund.id, refused, now(), { ...short, refundedAmount: 200 });
    expect(await refundsOf(first.id)).toMatchObject([
      { id: refund.id, status: 'failed' },
      { reason: 'external', amount: 200n },
      { id: automaticRefundId(first.id), amount: 700n, reason: 'duplicate_payment' },
    ]);
  });

  test('by its callback: believed only with the trade, which says what others gave back', async () => {
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

  test('before the order is paid: it still waits for a decision, and nothing is owed', async () => {
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

describe('the rest was refused while another refund of ours in process hid what had gone back at the channel', () => {
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
  /** A refund of 250 in process, 150 given back elsewhere, and all that is left refused. */
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

  test('that one succeeds: the rest is owed, once', async () => {
    const { id, open, all, rest } = await hidden();
    for (let i = 0; i < 2; i++) await recordRefundAnswer(db, open, GIVEN, now(), back(400));
    expect(await refundOf(all)).toMatchObject({ replacedBy: rest });
    expect(await refundOf(rest)).toMatchObject({ status: 'created', amount: 600n });
    expect(await db.refund.count({ where: { paymentId: id } })).toBe(4);
  });

  test('that one is refused: no more is owed than was asked for', async () => {
    const { open, all, rest } = await hidden();
    await recordRefundAnswer(db, open, REFUSED, now(), back(150));
    expect(await refundOf(all)).toMatchObject({ replacedBy: rest });
    expect(await refundOf(rest)).toMatchObject({ status: 'created', amount: 750n });
  });

  test('another refund was asked for since: nothing is owed by itself', async () => {
    const { id, open, all } = await hidden();
    await request(id, 100);
    await recordRefundAnswer(db, open, GIVEN, now(), back(400));
    expect(await refundOf(all)).toMatchObject({ replacedBy: null });
  });

  test('one that was owed by itself: the rest is owed, and no person is needed any more', async () => {
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

test('after "paid" neither an unpaid nor a closed answer, nor an end, takes the money back', async () => {
  const { id } = await attempt();
  await recordAnswer(db, id, PAID, 'query', now());
  for (const state of ['unpaid', 'closed', 'failed', 'unknown_trade'] as const) {
    await recordAnswer(db, id, { state }, 'query', now());
    await endPayment(db, id, 'closed', 'x', now());
    expect(await row(id)).toMatchObject({ status: 'created', channelAnswer: { state: 'paid' } });
  }
  expect((await settlePayment(db, id, now())).snapshot.status).toBe('succeeded');
  await endPayment(db, id, 'cancelled', 'x', now());
  expect((await row(id)).status).toBe('succeeded');
});

test('a definite answer without money ends the payment and frees its order in the same breath', async () => {
  const { id, orderId } = await attempt();
  await recordCreated(db, id, ACTION, now());
  await recordAnswer(db, id, { state: 'failed', reason: 'no funds' }, 'query', now());
  expect(await row(id)).toMatchObject({ status: 'failed' });
  expect((await db.order.findFirst({ where: { id: orderId } }))?.status).toBe('unpaid');
});

test('nothing but the channel’s word settles: no answer, an unpaid one, a mismatching callback', async () => {
  const payment = await attempt();
  const { id } = payment;
  await settlePayment(db, id, now());
  await recordAnswer(db, id, { state: 'unpaid' }, 'query', now());
  await settlePayment(db, id, now());
  const callback = ofTrade({ notificationId: 'n1', outTradeNo: id, answer: { ...PAID, amount: 999 } });
  await storeCallback(db, payment.channelAccountId, callback, Buffer.from('{}'), now());
  await settlePayment(db, id, now());
  expect(await row(id)).toMatchObject({ status: 'created', channelAnswer: null });
});

test('a notification id that comes again with another trade pays that trade, and tells nothing of the first', async () => {
  const [first, second] = [await attempt(), await attempt()];
  const store = (outTradeNo: string, answer: ChannelAnswer) =>
    storeCallback(
      db,
      first.channelAccountId,
      ofTrade({ notificationId: 'reused', outTradeNo, answer }),
      Buffer.from('{}'),
      now(),
    );
  await store(first.id, { state: 'processing' });
  const told = await store(second.id, PAID);
  expect(told).toMatchObject({ outTradeNo: second.id, paymentId: second.id, deliveredAt: null });
  for (const { id } of [first, second]) await settlePayment(db, id, now());
  expect(await row(first.id)).toMatchObject({ status: 'created', channelAnswer: null });
  expect(await row(second.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
  // Again, it is the same two.
  expect((await store(second.id, PAID)).id).toBe(told.id);
  expect(await db.callback.count({ where: { notificationId: 'reused' } })).toBe(2);
});

test('an exact callback is on record with its row, and does not beat a refund already known', async () => {
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

test('before it is settled, word that more of the money has gone back replaces what is on record, in any order', async () => {
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

test('of another amount a callback is word only of the same money, of which more has gone back', async () => {
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

test('a late create, refusal, silence or alarm changes nothing of what has got further', async () => {
  const { id } = await attempt();
  await recordCreated(db, id, ACTION, now());
  await recordRefusal(db, id, 'too late', now());
  expect((await row(id)).status).toBe('paying');
  await recordAnswer(db, id, PAID, 'query', now());
  await settlePayment(db, id, now());
  await recordCreated(db, id, ACTION, now());
  await recordSilence(db, id, 'x', 0, now());
  await raiseAttention(db, id, 'order_update_failing', 'x', now());
  await requestCancel(db, id, 'x', now());
  expect(await row(id)).toMatchObject({
    status: 'succeeded',
    attention: null,
    channelErrorSince: null,
    cancelRequestedAt: null,
  });
});

test('silence that is recorded while the channel answers does not show what is over', async () => {
  const { id } = await attempt();
  const alarmAfterMs = 60_000;
  await recordSilence(db, id, 'no answer', alarmAfterMs, new Date(Date.now() - 2 * alarmAfterMs));
  // In one process the two would take turns.
  const elsewhere = connect();
  let silent: Promise<unknown> | undefined;
  let isRecorded = false;
  // As whoever records an answer does it, after it has read the payment.
  await underLock(db, id, now(), async ({ tx, payment }) => {
    silent = recordSilence(elsewhere, id, 'no answer', alarmAfterMs, now()).then(() => {
      isRecorded = true;
    });
    await eventually(async () => {
      const [waiting] = await db.$queryRaw<{ count: bigint }[]>`
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'`;
      return isRecorded || waiting?.count === 1n;
    });
    await update(tx, id, { channelErrorSince: null, ...cleared(payment, 'answered') });
  });
  await silent;
  expect(await row(id)).toMatchObject({ attention: null });
});

test('a payment that is to be cancelled gives nobody anything to pay with', async () => {
  const { id } = await attempt();
  await requestCancel(db, id, 'the merchant', now());
  await recordCreated(db, id, ACTION, now());
  expect(await row(id)).toMatchObject({ status: 'paying', nextAction: null });
});

test('an order that is paid is not cancelled, and nobody wishes it afterwards', async () => {
  const { id, orderId } = await attempt();
  await recordAnswer(db, id, PAID, 'query', now());
  await settlePayment(db, id, now());
  await expect(cancelOrder(db, merchantId, orderId, now())).rejects.toMatchObject({
    code: 'order_already_paid',
  });
  expect(await db.order.findFirst({ where: { id: orderId } })).toMatchObject({
    status: 'succeeded',
    cancelRequestedAt: null,
  });
});

test('a channel that says "processing" a day past the expiry is shown, until it decides', async () => {
  const { id, expiresAt } = await attempt();
  await recordCreated(db, id, ACTION, now());
  const after = (ms: number) => new Date(expiresAt.getTime() + ms);
  const processing = (ms: number) => recordAnswer(db, id, { state: 'processing' }, 'query', after(ms));
  expect((await processing(86_399_999)).attention).toBeNull();
  await processing(86_400_000);
  expect(await row(id)).toMatchObject({
    attention: 'channel_undecided',
    attentionSince: after(86_400_000),
    attentionDetail: 'A day past its expiry the channel still says processing.',
  });
  await processing(90_000_000);
  expect((await row(id)).attentionSince).toEqual(after(86_400_000));
  await resolvePayment(db, merchantId, id, 'dismiss', 'They are slow today.', after(91_000_000));
  await processing(92_000_000);
  expect((await row(id)).attention).toBeNull();
  await recordAnswer(db, id, { state: 'failed' }, 'query', after(95_000_000));
  expect(await row(id)).toMatchObject({ status: 'failed', attention: null });
});

describe('money on record of a payment that had ended is the channel\u2019s word, and wins over the end of its order', () => {
  /** Closed, and then its callback is stored and acknowledged; nobody has settled it yet. */
  async function paidAfterItsEnd() {
    const payment = await attempt();
    await recordCreated(db, payment.id, ACTION, now());
    await endPayment(db, payment.id, 'closed', 'x', now());
    const { id, channelAccountId } = payment;
    const callback = ofTrade({ notificationId: `late-${id}`, outTradeNo: id, answer: PAID });
    await storeCallback(db, channelAccountId, callback, Buffer.from('{}'), now());
    return payment;
  }
  const orderWhere = ({ orderId }: Payment) => ({ merchantId_id: { merchantId, id: orderId } });
  async function lookAtEnd(payment: Payment) {
    return await releaseEndingOrder(db, { merchantId, id: payment.orderId }, now());
  }

  test('cancelled before it is settled: the order is paid', async () => {
    const payment = await paidAfterItsEnd();
    expect(await cancelOrder(db, merchantId, payment.orderId, now())).toEqual({ status: 'unpaid', live: [] });
    expect(await lookAtEnd(payment)).toBe(false);
    const { snapshot, refund } = await settlePayment(db, payment.id, now());
    expect([snapshot.orderUpdate, refund, await orderOf(payment)]).toEqual(['applied', null, 'succeeded']);
  });

  test('expired before it is settled: the order is paid', async () => {
    const payment = await paidAfterItsEnd();
    await db.order.update({ where: orderWhere(payment), data: { expiresAt: new Date(Date.now() - 1) } });
    expect(await lookAtEnd(payment)).toBe(false);
    expect((await settlePayment(db, payment.id, now())).snapshot.orderUpdate).toBe('applied');
  });

  test.each([
    ['cancelled', { cancelRequestedAt: new Date() }],
    ['closed', { expiresAt: new Date(Date.now() - 1) }],
  ])('all of it back when it is settled: then the order is %s', async (status, data) => {
    const payment = await paidAfterItsEnd();
    await recordAnswer(db, payment.id, { ...PAID, state: 'refunded' }, 'query', now());
    await db.order.update({ where: orderWhere(payment), data });
    expect(await lookAtEnd(payment)).toBe(false);
    expect((await settlePayment(db, payment.id, now())).snapshot.orderUpdate).toBe('conflict');
    expect(await orderOf(payment)).toBe(status);
  });
});
