import { beforeAll } from 'vitest';
import type { PaidAnswer } from '../../src/domain/channel.ts';
import type { LatePayment } from '../../src/domain/decision.ts';
import { changeOrder, type OrderChange } from '../../src/ledger/change-order.ts';
import { ensureMerchant, setMerchant } from '../../src/ledger/merchants.ts';
import { insertPayment, type NewOrder } from '../../src/ledger/new-payment.ts';
import { endPayment, recordAnswer, settlePayment } from '../../src/ledger/payments.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { useDatabase } from '../support/stack.ts';

/**
 * Support for the tests of changed orders. It has one merchant for each policy for late payments. It creates orders and
 * attempts, and changes orders.
 */

export const { db, databaseUrl, connect } = useDatabase();
export const merchants = {} as Record<LatePayment, string>;
export let merchantId: string;
beforeAll(async () => {
  for (const latePayment of ['apply', 'refund', 'review'] as const) {
    const { merchant } = await ensureMerchant(db, latePayment, ['simulator', 'simulator2']);
    merchants[latePayment] = merchant.id;
    await setMerchant(db, latePayment, { latePayment }, SECRET, now());
  }
  merchantId = merchants.apply;
});

export const SECRET = 'a secret of at least thirty-two characters';
export const now = () => new Date();
export const inSeconds = (seconds: number) => new Date(Date.now() + seconds * 1000);

let orders = 0;
export const newOrder = (change: Partial<NewOrder> = {}): NewOrder => ({
  ...{ id: `order-${++orders}`, amount: 1000, currency: 'CNY', subject: 'Two tickets', metadata: { a: 'b' } },
  expiresInSeconds: undefined,
  ...change,
});
export async function attempt(
  order: NewOrder | { readonly id: string } = newOrder(),
  { channel = 'simulator', merchant = merchantId, ledger = db } = {},
) {
  const live = await db.payment.findMany({ where: { orderId: order.id }, select: { id: true } });
  const given = {
    ...{
      channel,
      method: 'wallet',
      payer: undefined,
      returnUrl: undefined,
      metadata: {},
      expiresInMs: 60_000,
    },
    askedAttempts: new Set(live.map(({ id }) => id)),
  };
  return (await insertPayment(ledger, merchant, order, given, () => 'hash', now())).payment;
}
/** Creates an attempt that has ended unpaid. */
export async function ended(order: NewOrder = newOrder(), merchant = merchantId): Promise<Payment> {
  const payment = await attempt(order, { merchant });
  await endPayment(db, payment.id, 'closed', 'closed.', now());
  return payment;
}
export const change = (
  orderId: string,
  changes: OrderChange,
  { asked = [] as string[], merchant = merchantId, at = now(), ledger = db } = {},
) => changeOrder(ledger, merchant, orderId, changes, new Set(asked), at);
export const paid = (amount: number, changes: Partial<PaidAnswer> = {}): PaidAnswer => ({
  ...{
    state: 'paid',
    channelPaymentId: 'trx',
    amount,
    currency: 'CNY',
    paidAt: inSeconds(3600).toISOString(),
  },
  ...changes,
});
/** Records a paid answer of the channel and settles the payment. */
export async function pay(id: string, amount: number, changes: Partial<PaidAnswer> = {}): Promise<Payment> {
  await recordAnswer(db, id, paid(amount, changes), 'query', now());
  await settlePayment(db, id, now());
  return await row(id);
}
export const row = (id: string) => db.payment.findUniqueOrThrow({ where: { id } });
export const orderRow = (id: string) => db.order.findFirstOrThrow({ where: { id } });
export const code = (expected: string) => ({ code: expected });
