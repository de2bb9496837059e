import { readFile } from 'node:fs/promises';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { isConstraintViolation } from '../../src/ledger/client.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { queryOnce, useDatabase } from '../support/stack.ts';

/** Tests that the database enforces what the code promises, whichever program writes to it. See docs/ledger.md. */

const { db, databaseUrl } = useDatabase();
let merchantId: string;
let channelAccountId: string;
beforeAll(async () => {
  const { merchant } = await ensureMerchant(db, 'shop', ['simulator', 'simulator2']);
  merchantId = merchant.id;
  channelAccountId = (await db.channelAccount.findFirstOrThrow({ where: { channel: 'simulator' } })).id;
});

let n = 0;
let orderId: string;
beforeEach(async () => {
  n += 1;
  orderId = `order-${n}`;
  await db.order.create({ data: { merchantId, id: orderId, amount: 1000n, currency: 'CNY', subject: 'x' } });
});

const PAID = {
  status: 'succeeded',
  orderUpdate: 'applied',
  settledBy: 'query',
  settledAt: new Date(),
  paidAt: new Date(),
  receivedAmount: 1000n,
  receivedCurrency: 'CNY',
} as const;

async function payment(changes: object = {}) {
  n += 1;
  return await db.payment.create({
    data: {
      id: `pay_${n}`,
      merchantId,
      orderId,
      channel: 'simulator',
      channelAccountId,
      method: 'wallet',
      amount: 1000n,
      currency: 'CNY',
      clientTokenHash: 'x',
      expiresAt: new Date(),
      ...changes,
    },
  });
}

async function refused(write: Promise<unknown>): Promise<void> {
  const error = await write.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(isConstraintViolation(error), `${error}`).toBe(true);
}

describe('the database refuses', () => {
  test.each([
    ['a zero amount', { amount: 0n }],
    ['a negative amount', { amount: -1n }],
    ['an amount JSON cannot carry', { amount: 2n ** 53n }],
    ['a currency in small letters', { currency: 'cny' }],
    ['an unknown status', { status: 'lost' }],
    ['an unknown attention', { attention: 'bored', attentionSince: new Date() }],
    ['an attention without a time', { attention: 'disputed' }],
    ['an id that some channel would reject', { id: 'pay-with-a-hyphen' }],
    ['a refund of nothing', { refundedAmount: 1n }],
    ['an unknown value of `adopted`', { status: 'paying', reference: 'r', adopted: 'x' }],
    ['an adopted trade without a reference', { status: 'paying', adopted: 'watched' }],
    ['an adopted trade of a payment that is still `created`', { reference: 'r', adopted: 'watched' }],
    [
      'an adopted trade with a next action',
      { status: 'paying', reference: 'r', adopted: 'own', nextAction: {} },
    ],
  ])('%s', async (_, changes) => {
    await refused(payment(changes));
  });
});

describe('money', () => {
  test('the database refuses a succeeded payment in which a required column is empty', async () => {
    for (const missing of [
      'settledBy',
      'settledAt',
      'paidAt',
      'receivedAmount',
      'receivedCurrency',
      'orderUpdate',
    ]) {
      await refused(payment({ ...PAID, [missing]: null }));
    }
    await refused(payment({ ...PAID, status: 'paying' }));
    await payment(PAID);
  });

  test('money in a different amount or currency than the payment pays an order only if an operator accepts it', async () => {
    await refused(payment({ ...PAID, receivedAmount: 999n }));
    await refused(payment({ ...PAID, receivedCurrency: 'USD' }));
    await payment({ ...PAID, receivedAmount: 999n, settledBy: 'operator' });
  });

  test('the database refuses a payment that is refunded in full and still waits for the order service', async () => {
    await refused(payment({ ...PAID, orderUpdate: 'pending', refundedAmount: 1000n }));
    const { id } = await payment({ ...PAID, orderUpdate: 'pending', refundedAmount: 999n });
    await refused(db.payment.update({ where: { id }, data: { refundedAmount: 1000n } }));
    await db.payment.update({ where: { id }, data: { refundedAmount: 1000n, orderUpdate: 'conflict' } });
  });

  test('the status and the received amount of a succeeded payment cannot change', async () => {
    const { id } = await payment(PAID);
    for (const status of ['paying', 'failed', 'closed', 'cancelled', 'created']) {
      await refused(db.payment.update({ where: { id }, data: { status } }));
    }
    await refused(db.payment.update({ where: { id }, data: { receivedAmount: 1n } }));
  });

  test('an order is paid by at most one payment', async () => {
    await payment(PAID);
    await refused(payment({ ...PAID, method: 'other' }));
    await payment({ ...PAID, method: 'third', orderUpdate: 'conflict' });
  });

  test('a succeeded order names its payment, and an unpaid, paying, closed or cancelled order names no payment', async () => {
    const where = { merchantId_id: { merchantId, id: orderId } };
    await refused(db.order.update({ where, data: { status: 'succeeded' } }));
    const { id } = await payment(PAID);
    await db.order.update({ where, data: { status: 'succeeded', paidPaymentId: id, paidAt: new Date() } });
    for (const status of ['unpaid', 'paying', 'closed', 'cancelled']) {
      await refused(db.order.update({ where, data: { status } }));
    }
  });

  test('the payment of a paid order belongs to that order and has its amount and currency, unless an operator accepted the money', async () => {
    const where = { merchantId_id: { merchantId, id: orderId } };
    const paidBy = (paidPaymentId: string) => ({
      status: 'succeeded',
      paidPaymentId,
      paidAt: new Date(),
    });
    const made = { ...PAID, orderUpdate: 'review' };
    const more = await payment({ ...made, method: 'a', amount: 1001n, receivedAmount: 1001n });
    const foreign = await payment({ ...made, method: 'b', currency: 'USD', receivedCurrency: 'USD' });
    for (const { id } of [more, foreign]) await refused(db.order.update({ where, data: paidBy(id) }));
    await refused(
      db.order.create({
        data: {
          merchantId,
          id: `${orderId}-b`,
          amount: 1000n,
          currency: 'CNY',
          subject: 'x',
          ...paidBy(more.id),
        },
      }),
    );
    const exact = await payment(PAID);
    await db.order.create({
      data: { merchantId, id: `${orderId}-c`, amount: 1000n, currency: 'CNY', subject: 'x' },
    });
    const another = { merchantId_id: { merchantId, id: `${orderId}-c` } };
    await refused(db.order.update({ where: another, data: paidBy(exact.id) }));

    await db.order.update({ where, data: { amount: 999n } });
    await refused(db.order.update({ where, data: paidBy(exact.id) }));
    await db.order.update({ where, data: { amount: 1000n } });
    await db.order.update({ where, data: paidBy(exact.id) });
    // Once the order is paid, its amount and currency cannot change.
    for (const change of [{ amount: 999n }, { currency: 'USD' }, { amount: 999n, status: 'refunded' }])
      await refused(db.order.update({ where, data: change }));
    await db.order.update({ where, data: { status: 'refunded' } });
  });

  test('an operator’s acceptance of a different amount is recorded on the payment and cannot be removed', async () => {
    const where = { merchantId_id: { merchantId, id: orderId } };
    const { id } = await payment({ ...PAID, amount: 1001n, receivedAmount: 1001n, orderUpdate: 'review' });
    const paid = { status: 'succeeded', paidPaymentId: id, paidAt: new Date() };
    await refused(db.order.update({ where, data: paid }));
    await db.payment.update({ where: { id }, data: { settledBy: 'operator', orderUpdate: 'applied' } });
    await db.order.update({ where, data: paid });
    for (const settledBy of ['query', null])
      await refused(db.payment.update({ where: { id }, data: { settledBy } }));
  });

  test('the amount, currency and order of a payment never change', async () => {
    await db.order.create({
      data: { merchantId, id: `${orderId}-b`, amount: 1000n, currency: 'CNY', subject: 'x' },
    });
    const { id } = await payment();
    for (const change of [{ amount: 999n }, { currency: 'USD' }, { orderId: `${orderId}-b` }])
      await refused(db.payment.update({ where: { id }, data: change }));
  });

  test('the migration that adds the rule for paid orders checks existing orders', async () => {
    const sql = await readFile(
      new URL('../../prisma/migrations/20261126164003_order_amounts_checked/migration.sql', import.meta.url),
      'utf8',
    );
    await queryOnce(databaseUrl, sql);
    const { id } = await payment({ ...PAID, amount: 1001n, receivedAmount: 1001n });
    await queryOnce(
      databaseUrl,
      `ALTER TABLE orders DISABLE TRIGGER orders_paid_guard;
       UPDATE orders SET status = 'succeeded', paid_payment_id = '${id}', paid_at = now() WHERE id = '${orderId}';
       ALTER TABLE orders ENABLE TRIGGER orders_paid_guard;`,
    );
    await expect(queryOnce(databaseUrl, sql)).rejects.toThrow(`order ${orderId} of merchant ${merchantId}`);
    await db.payment.update({ where: { id }, data: { settledBy: 'operator' } });
    await queryOnce(databaseUrl, sql);
  });

  test('refunds never add up to more than was received, even when two are created at the same time', async () => {
    const { id: paymentId } = await payment(PAID);
    const refund = (refundId: string, amount: bigint, status = 'created') =>
      db.refund.create({
        data: {
          id: `re_${n}_${refundId}`,
          merchantId,
          paymentId,
          amount,
          currency: 'CNY',
          reason: 'requested',
          status,
        },
      });
    await refund('failed', 1000n, 'failed');
    await refund('a', 600n);
    await refused(refund('b', 401n));
    const outcomes = await Promise.allSettled([refund('c', 300n), refund('d', 300n)]);
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    await refused(db.payment.update({ where: { id: paymentId }, data: { refundedAmount: 1001n } }));
  });

  test('an external refund is recorded even while another refund is open, but never with more than the received amount', async () => {
    const { id: paymentId } = await payment(PAID);
    const row = { merchantId, paymentId, currency: 'CNY', reason: 'requested' };
    const refund = (refundId: string, amount: bigint, changes: object = {}) =>
      db.refund.create({ data: { ...row, ...changes, id: `re_${n}_${refundId}`, amount } });
    const { id } = await refund('open', 1000n);
    const gone = { status: 'succeeded', reason: 'external' };
    await refund('gone', 400n, gone);
    await refused(refund('more', 601n, gone));
    // The open refund is larger than the remaining amount, and the channel will refuse it. Its row can still change, but
    // its amount cannot be raised.
    const change = (data: object) => db.refund.update({ where: { id }, data });
    await change({ unknownSince: new Date() });
    await refused(change({ amount: 1001n }));
    await refused(refund('another', 1n));
    await refused(change({ status: 'succeeded' }));
    await change({ status: 'failed' });
    await refused(change({ status: 'created' }));
  });

  test('only a failed refund can be replaced, and only by an existing refund that replaces no other refund', async () => {
    const { id: paymentId } = await payment(PAID);
    const refund = async (refundId: string, status = 'created') => {
      const id = `re_${n}_${refundId}`;
      const data = { id, merchantId, paymentId, amount: 100n, currency: 'CNY', reason: 'requested', status };
      return (await db.refund.create({ data })).id;
    };
    const [open, rest] = [await refund('open'), await refund('rest')];
    const [failed, another] = [await refund('failed', 'failed'), await refund('another', 'failed')];
    const replace = (id: string, replacedBy: string) =>
      db.refund.update({ where: { id }, data: { replacedBy } });
    await refused(replace(open, rest));
    await refused(replace(failed, failed));
    await refused(replace(failed, 're_nobody'));
    await replace(failed, rest);
    await refused(replace(another, rest));
    await refused(db.refund.update({ where: { id: failed }, data: { status: 'created' } }));
  });

  test('the money of a reversed refund can be refunded again, and the status of a reversed refund cannot change', async () => {
    const { id: paymentId } = await payment(PAID);
    const data = { merchantId, paymentId, amount: 1000n, currency: 'CNY', reason: 'requested' };
    const { id } = await db.refund.create({ data: { ...data, id: `re_${n}_1`, status: 'succeeded' } });
    await refused(db.refund.create({ data: { ...data, id: `re_${n}_2` } }));
    await db.refund.update({ where: { id }, data: { status: 'reversed' } });
    await db.refund.create({ data: { ...data, id: `re_${n}_2` } });
    for (const status of ['created', 'succeeded', 'failed'])
      await refused(db.refund.update({ where: { id }, data: { status } }));
    await refused(db.refund.update({ where: { id: `re_${n}_2` }, data: { attempt: 0 } }));
  });

  test('an external refund that is processing is recorded once, and cannot succeed if the refunds would then exceed the received amount', async () => {
    const { id: paymentId } = await payment(PAID);
    const data = { merchantId, paymentId, amount: 1000n, currency: 'CNY' };
    await db.refund.create({ data: { ...data, id: `re_${n}_1`, reason: 'requested', status: 'succeeded' } });
    const external = { ...data, reason: 'external', status: 'processing', channelRefundId: 'chr' };
    const { id } = await db.refund.create({ data: { ...external, id: `rx_${n}` } });
    await refused(db.refund.create({ data: { ...external, id: `rx_${n}_2` } }));
    await refused(db.refund.update({ where: { id }, data: { status: 'succeeded' } }));
  });

  test('the database refuses a succeeded refund of the amount 0 if the requested amount is not recorded', async () => {
    const { id: paymentId } = await payment(PAID);
    const data = {
      merchantId,
      paymentId,
      currency: 'CNY',
      reason: 'requested',
      status: 'succeeded',
      amount: 0n,
    };
    await refused(db.refund.create({ data: { ...data, id: `re_${n}_0` } }));
    await db.refund.create({ data: { ...data, id: `re_${n}_0`, askedAmount: 5n } });
  });
});

describe('attempts', () => {
  test('two payments of one account cannot have the same channel reference', async () => {
    const other = (await db.channelAccount.findFirstOrThrow({ where: { channel: 'simulator2' } })).id;
    const one = { status: 'closed', endedAt: new Date(), reference: `tr_${n}` };
    await payment(one);
    await payment({ ...one, reference: null });
    await payment({ ...one, reference: null });
    await payment({ ...one, channel: 'simulator2', channelAccountId: other });
    await expect(payment(one)).rejects.toSatisfy(isConstraintViolation);
  });

  test('an order has at most one live payment per channel and method', async () => {
    const { id } = await payment();
    await refused(payment());
    await payment({ method: 'other' });
    await payment({ channel: 'simulator2' });
    await db.payment.update({ where: { id }, data: { status: 'closed' } });
    await payment();
  });

  test('account names and modes are checked, and a merchant has at most one default account per channel', async () => {
    const { merchant } = await ensureMerchant(db, 'several', ['simulator']);
    const row = { merchantId: merchant.id, channel: 'simulator', isMerchantDefault: false };
    let accounts = 0;
    const add = (change: object) => {
      accounts += 1;
      return db.channelAccount.create({ data: { ...row, id: `acc_several_${accounts}`, ...change } });
    };
    await add({ name: 'eu' });
    for (const change of [
      { name: 'eu' },
      { name: 'E U' },
      { name: '' },
      { name: 'us', mode: 'both' },
      { name: 'us', isMerchantDefault: true },
    ])
      await refused(add(change));
    await add({ name: 'eu', channel: 'simulator2', isMerchantDefault: true, mode: 'live' });
  });

  test('at most one account per channel owns the callback address', async () => {
    const other = await ensureMerchant(db, 'other', ['simulator']);
    const account = await db.channelAccount.findFirstOrThrow({ where: { merchantId: other.merchant.id } });
    expect(account.ownsChannelAddress).toBe(false);
    await refused(
      db.channelAccount.update({ where: { id: account.id }, data: { ownsChannelAddress: true } }),
    );
  });
});
