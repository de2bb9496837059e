import { beforeAll, describe, expect, test } from 'vitest';
import type { PaidAnswer } from '../../src/domain/channel.ts';
import { newPaymentId } from '../../src/domain/ids.ts';
import type { PaymentTerms } from '../../src/domain/payment.ts';
import { storeCallback } from '../../src/ledger/callbacks.ts';
import { changeOrder, type OrderChange } from '../../src/ledger/change-order.ts';
import { recordAttempt } from '../../src/ledger/deliveries.ts';
import { lostCommitsWarning, warnOfLostCommits } from '../../src/ledger/durability.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { createOrder, insertPayment, type NewPayment } from '../../src/ledger/new-payment.ts';
import { resolvePayment } from '../../src/ledger/operator-decision.ts';
import { cancelOrder } from '../../src/ledger/orders.ts';
import { endPayment, recordAnswer, recordCreated, settlePayment } from '../../src/ledger/payments.ts';
import { recoverPayment } from '../../src/ledger/recover-payment.ts';
import { ofTrade } from '../support/callback.ts';
import { useDatabase } from '../support/stack.ts';

/**
 * Tests that a lost payment is restored from its workflow's input. Other data may have been lost too. So the channel
 * is queried, and nothing is refunded automatically.
 */

const { db } = useDatabase();
let merchantId: string;
let accounts: Record<string, string>;
beforeAll(async () => {
  merchantId = (await ensureMerchant(db, 'shop', ['simulator', 'simulator2'])).merchant.id;
  const rows = await db.channelAccount.findMany();
  accounts = Object.fromEntries(rows.map(({ channel, id }) => [channel, id]));
});

const now = () => new Date();
const ago = (seconds: number) => new Date(Date.now() - seconds * 1000);
const PAID: PaidAnswer = {
  state: 'paid',
  channelPaymentId: 'trx',
  amount: 1000,
  currency: 'CNY',
  paidAt: new Date().toISOString(),
};

let orders = 0;
/** The input with which the lost payment's workflow was started. */
function lost(change: Partial<PaymentTerms> = {}): PaymentTerms {
  orders += 1;
  const channel = change.channel ?? 'simulator';
  return {
    paymentId: newPaymentId(),
    merchantId,
    orderId: `lost-${orders}`,
    channel,
    channelAccountId: accounts[channel] ?? '',
    method: 'wallet',
    amount: 1000,
    currency: 'CNY',
    createdAt: ago(600).getTime(),
    expiresAt: ago(-1200).getTime(),
    ...change,
  };
}
const recover = (terms: PaymentTerms) => recoverPayment(db, terms, 'hash', now());
const row = (id: string) => db.payment.findUniqueOrThrow({ where: { id } });
const order = (id: string) => db.order.findUniqueOrThrow({ where: { merchantId_id: { merchantId, id } } });
const newOrder = (id: string, change: object = {}) => ({
  ...{ id, amount: 1000, currency: 'CNY', subject: 'Two tickets', metadata: { seat: '7' } },
  expiresInSeconds: 3_600,
  ...change,
});
const NEW_PAYMENT: NewPayment = {
  channel: 'simulator2',
  method: 'wallet',
  payer: undefined,
  returnUrl: undefined,
  metadata: {},
  expiresInMs: 60_000,
  askedAttempts: new Set(),
};
/** Records a paid answer of the channel and settles the payment. */
async function paid(terms: PaymentTerms, amount = terms.amount) {
  await recordAnswer(db, terms.paymentId, { ...PAID, amount }, 'query', now());
  return (await settlePayment(db, terms.paymentId, now())).snapshot;
}
const refundsOf = async (orderId: string) => await db.refund.count({ where: { payment: { orderId } } });

describe('recovering a payment whose row is lost', () => {
  test('the payment and its order are restored with the status paying, a requested cancellation and no next action', async () => {
    const terms = lost();
    expect((await recover(terms)).written).toBe(true);
    expect(await row(terms.paymentId)).toMatchObject({
      status: 'paying',
      amount: 1000n,
      nextAction: null,
      cancelRequestedAt: expect.any(Date),
      recoveredAt: expect.any(Date),
      clientTokenHash: 'hash',
      createdAt: new Date(terms.createdAt),
      expiresAt: new Date(terms.expiresAt),
    });
    expect(await order(terms.orderId)).toMatchObject({
      ...{ status: 'paying', amount: 1000n, currency: 'CNY', subject: '', expiresAt: null },
      recoveredAt: expect.any(Date),
    });
    const timeline = await db.timelineEntry.findMany({ where: { paymentId: terms.paymentId } });
    expect(timeline).toMatchObject([{ kind: 'manual', detail: expect.stringContaining('Recovered') }]);
  });

  test('a second recovery of the payment has no effect, even if the payment has ended since the first recovery', async () => {
    const terms = lost();
    await Promise.all([recover(terms), recover(terms)]);
    await endPayment(db, terms.paymentId, 'cancelled', 'unpaid.', now());
    const before = [await row(terms.paymentId), await order(terms.orderId)];
    expect((await recover(terms)).written).toBe(false);
    expect([await row(terms.paymentId), await order(terms.orderId)]).toEqual(before);
  });

  test('an existing order keeps its content and is marked as recovered', async () => {
    const terms = lost();
    await createOrder(db, merchantId, newOrder(terms.orderId), now());
    await recover(terms);
    expect(await order(terms.orderId)).toMatchObject({
      ...{ status: 'paying', subject: 'Two tickets', recoveredAt: expect.any(Date) },
    });
  });

  test('recovery fails if the merchant or the account is missing, or if the order has another live attempt with the same channel and method', async () => {
    await expect(recover(lost({ merchantId: 'mer_gone' }))).rejects.toThrow('its merchant mer_gone is not');
    await expect(recover(lost({ channelAccountId: 'acc_gone' }))).rejects.toThrow('its account acc_gone at');
    await expect(recover(lost({ channelAccountId: accounts.simulator2 ?? '' }))).rejects.toThrow('is not in');
    const terms = lost();
    const again = { ...NEW_PAYMENT, channel: 'simulator' };
    const { payment } = await insertPayment(db, merchantId, newOrder(terms.orderId), again, () => 'x', now());
    await expect(recover(terms)).rejects.toThrow(`payment ${payment.id} of the same order`);
    await endPayment(db, payment.id, 'closed', 'unpaid.', now());
    expect((await recover(terms)).written).toBe(true);
  });

  test('if another payment has adopted the trade in the meantime, the recovery is refused and the message names that payment', async () => {
    const adoption = { reference: 'shop-1', as: 'watched' } as const;
    const first = lost({ adoption });
    expect((await recover(first)).written).toBe(true);
    await expect(recover(lost({ adoption }))).rejects.toThrow(
      `its trade shop-1 has been adopted again, by payment ${first.paymentId}: there is nothing to recover`,
    );
  });

  test('a callback that arrived while the row was missing is matched to the recovered payment, even if it is 30 days old', async () => {
    const terms = lost();
    const callback = ofTrade({ notificationId: 'n-1', outTradeNo: terms.paymentId, answer: PAID });
    await storeCallback(db, terms.channelAccountId, callback, Buffer.from('{}'), ago(30 * 86_400));
    await recover(terms);
    expect(await db.callback.findFirst({ where: { outTradeNo: terms.paymentId } })).toMatchObject({
      paymentId: terms.paymentId,
    });
    expect((await settlePayment(db, terms.paymentId, now())).snapshot.orderUpdate).toBe('applied');
  });

  test('new events of a recovered payment have higher versions than the lost events that the merchant may have received', async () => {
    const terms = lost();
    await recover(terms);
    await paid(terms);
    const events = await db.event.findMany({ where: { paymentId: terms.paymentId } });
    expect(events).toHaveLength(1);
    // The version is higher than the number of seconds since the payment's creation.
    expect(events[0]?.version).toBeGreaterThan(600);
  });

  test('the database refuses to store a next action for a recovered payment', async () => {
    const terms = lost();
    await recover(terms);
    const action = { nextAction: { type: 'redirect', url: 'https://wallet.example' } };
    await expect(db.payment.update({ where: { id: terms.paymentId }, data: action })).rejects.toThrow();
    // A late result of the create request does not add a next action.
    await recordCreated(db, terms.paymentId, { type: 'redirect', url: 'https://wallet.example' }, now());
    expect((await row(terms.paymentId)).nextAction).toBeNull();
  });
});

describe('money of a recovered payment', () => {
  test('if another payment has paid the order, the money waits for an operator’s decision', async () => {
    const [first, second] = [lost(), lost({ channel: 'simulator2' })].map((terms) => ({
      ...terms,
      orderId: 'twice',
    })) as [PaymentTerms, PaymentTerms];
    await recover(first);
    await recover(second);
    expect((await paid(first)).orderUpdate).toBe('applied');
    expect(await paid(second)).toMatchObject({ orderUpdate: 'review', attention: 'order_conflict' });
    expect(await refundsOf('twice')).toBe(0);
    const resolved = await resolvePayment(db, merchantId, second.paymentId, 'refund', 'Paid twice.', now());
    expect(resolved.refunds).toHaveLength(1);
  });

  test('if the order is cancelled, the money waits for an operator’s decision', async () => {
    const terms = lost();
    await createOrder(db, merchantId, newOrder(terms.orderId), now());
    await cancelOrder(db, merchantId, terms.orderId, now());
    await recover(terms);
    expect(await paid(terms)).toMatchObject({ orderUpdate: 'review', attention: 'late_payment_review' });
    expect(await refundsOf(terms.orderId)).toBe(0);
  });

  test('if the money awaits a decision and another attempt pays the order, the money still awaits the decision', async () => {
    const [short, exact] = [lost(), lost({ channel: 'simulator2' })].map((terms) => ({
      ...terms,
      orderId: 'short',
    })) as [PaymentTerms, PaymentTerms];
    await recover(short);
    await recover(exact);
    expect((await paid(short, 900)).orderUpdate).toBe('review');
    expect((await paid(exact)).orderUpdate).toBe('applied');
    expect(await row(short.paymentId)).toMatchObject({ orderUpdate: 'review', attention: 'amount_mismatch' });
    expect(await refundsOf('short')).toBe(0);
  });

  test('if the order was created again with another amount, the money does not pay the order', async () => {
    const terms = lost();
    await createOrder(db, merchantId, newOrder(terms.orderId, { amount: 5000 }), now());
    await recover(terms);
    expect(await paid(terms)).toMatchObject({ orderUpdate: 'review', attention: 'amount_mismatch' });
  });

  test.each([
    ['conflict', 'order_conflict'],
    ['gone', 'late_payment_review'],
  ] as const)('if the order service answers %s, an operator decides', async (outcome, attention) => {
    const url = { orderServiceUrl: 'https://shop.example/nodrop' };
    await db.merchant.update({ where: { id: merchantId }, data: { ...url, latePayment: 'refund' } });
    try {
      const terms = lost();
      await recover(terms);
      expect((await paid(terms)).orderUpdate).toBe('pending');
      const { id } = await db.delivery.findFirstOrThrow({ where: { paymentId: terms.paymentId } });
      const said = { outcome, statusCode: 409, detail: 'It refuses.', durationMs: 1, at: now() };
      await recordAttempt(db, id, said, 0, now());
      expect(await row(terms.paymentId)).toMatchObject({ orderUpdate: 'review', attention });
      expect(await refundsOf(terms.orderId)).toBe(0);
    } finally {
      const none = { orderServiceUrl: null, latePayment: 'apply' };
      await db.merchant.update({ where: { id: merchantId }, data: none });
    }
  });
});

describe('an order whose amount was changed', () => {
  test.each(['older first', 'newer first'])(
    'a lost order is restored with the amount of its newest attempt, whichever attempt is recovered first (%s)',
    async (which) => {
      const older = lost();
      const newer = lost({
        ...{ orderId: older.orderId, channel: 'simulator2', amount: 1250 },
        createdAt: older.createdAt + 60_000,
      });
      const terms = [older, newer];
      for (const one of which === 'older first' ? terms : terms.toReversed()) await recover(one);
      expect((await order(older.orderId)).amount).toBe(1250n);
      expect((await paid(older)).orderUpdate).toBe('review');
      expect(await row(older.paymentId)).toMatchObject({ attention: 'amount_mismatch' });
      expect((await paid(newer)).orderUpdate).toBe('applied');
    },
  );

  test('if the amount was changed after the newest attempt, the merchant changes it again before a create request adds the lost content', async () => {
    const terms = lost();
    await recover(terms);
    await endPayment(db, terms.paymentId, 'cancelled', 'unpaid.', now());
    const changed = newOrder(terms.orderId, { amount: 1250 });
    await expect(createOrder(db, merchantId, changed, now())).rejects.toMatchObject({ code: 'order_exists' });
    const change = (what: OrderChange) => changeOrder(db, merchantId, terms.orderId, what, new Set(), now());
    // If other fields could be changed, the order would look complete, or the change would be lost when the order is
    // completed.
    for (const [path, more] of [
      ['subject', { subject: 'x' }],
      ['metadata', { metadata: { seat: '7' } }],
      ['expiresInSeconds', { expiresInSeconds: 7200 }],
    ] as const) {
      await expect(change({ amount: 1250, ...more })).rejects.toMatchObject({
        ...{
          code: 'invalid_request',
          errors: [{ path, message: expect.stringContaining('create it again') }],
        },
      });
    }
    await change({ amount: 1250 });
    const { order: filled } = await createOrder(db, merchantId, changed, now());
    expect(filled).toMatchObject({ amount: 1250n, subject: 'Two tickets', metadata: { seat: '7' } });
    expect((await paid(terms)).orderUpdate).toBe('review');
  });

  test('an existing order keeps its amount when an attempt with another amount is recovered', async () => {
    const terms = lost();
    await createOrder(db, merchantId, newOrder(terms.orderId, { amount: 1250 }), now());
    await recover(terms);
    expect((await order(terms.orderId)).amount).toBe(1250n);
    // The channel received the order's new amount, but the payment was created with the old amount.
    expect((await paid(terms, 1250)).orderUpdate).toBe('review');
  });
});

describe("the shop's next request", () => {
  test('only the first create request restores the lost subject, metadata and expiry of a recovered order', async () => {
    const terms = lost();
    await recover(terms);
    const { created, order: filled } = await createOrder(db, merchantId, newOrder(terms.orderId), now());
    expect([created, filled]).toMatchObject([
      false,
      {
        ...{ subject: 'Two tickets', metadata: { seat: '7' } },
        expiresAt: new Date(terms.createdAt + 3_600_000),
      },
    ]);
    await createOrder(db, merchantId, newOrder(terms.orderId), now());
    const other = newOrder(terms.orderId, { subject: 'Another' });
    await expect(createOrder(db, merchantId, other, now())).rejects.toMatchObject({ code: 'order_exists' });
  });

  test('a create request is refused if its amount or currency differs from those of the recovered order', async () => {
    const terms = lost();
    await recover(terms);
    for (const change of [{ amount: 999 }, { currency: 'USD' }]) {
      const other = newOrder(terms.orderId, change);
      await expect(createOrder(db, merchantId, other, now())).rejects.toMatchObject({ code: 'order_exists' });
    }
    expect((await order(terms.orderId)).subject).toBe('');
  });

  test('a payment request restores the lost content of the order even if the request is refused', async () => {
    const terms = lost();
    await recover(terms);
    const start = (given: NewPayment) =>
      insertPayment(db, merchantId, newOrder(terms.orderId), given, () => 'x', now());
    const same = { ...NEW_PAYMENT, channel: 'simulator' };
    // nodrop must first query the recovered payment at the channel. The query may take long, or fail.
    await expect(start(same)).rejects.toMatchObject({ name: 'UnaskedAttempts' });
    expect((await order(terms.orderId)).subject).toBe('Two tickets');
    const asked = { ...same, askedAttempts: new Set([terms.paymentId]) };
    await expect(start(asked)).rejects.toMatchObject({ code: 'attempt_unresolved' });
    await endPayment(db, terms.paymentId, 'cancelled', 'unpaid.', now());
    expect((await start(same)).created).toBe(true);
  });
});

describe('the warning in live mode', () => {
  test('a warning is logged once when the database does not replicate synchronously', async () => {
    const lines: unknown[] = [];
    const log = { warn: (line: unknown) => lines.push(line) } as never;
    const { signal } = new AbortController();
    await warnOfLostCommits({ mode: 'live' }, db, log, signal);
    expect(lines).toEqual([expect.stringMatching(/^The database does not replicate synchronously/)]);
    await warnOfLostCommits({ mode: 'test' }, db, log, signal);
    expect(lines).toHaveLength(1);
  });

  test('if the database replicates synchronously, a warning is logged only if commits do not wait for the standby', () => {
    const standbys = 'FIRST 1 (b)';
    for (const commit of ['on', 'remote_write', 'remote_apply'])
      expect(lostCommitsWarning({ standbys, commit })).toBeNull();
    for (const commit of ['off', 'local'])
      expect(lostCommitsWarning({ standbys, commit })).toContain(`synchronous_commit is ${commit}`);
  });
});
