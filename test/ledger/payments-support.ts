import { beforeAll } from 'vitest';
import type { PaidAnswer } from '../../src/domain/channel.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { insertPayment } from '../../src/ledger/new-payment.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { useDatabase } from '../support/stack.ts';

/** Support for the tests of payment rows. It has a merchant, and creates attempts at the merchant's orders. */

export const { db, connect } = useDatabase();
export let merchantId: string;
beforeAll(async () => {
  merchantId = (await ensureMerchant(db, 'shop', ['simulator', 'simulator2'])).merchant.id;
});

export const now = () => new Date();
export const PAID: PaidAnswer = {
  state: 'paid',
  channelPaymentId: 'trx',
  amount: 1000,
  currency: 'CNY',
  paidAt: new Date().toISOString(),
};

let orders = 0;
export async function attempt(channel = 'simulator', orderId = `order-${++orders}`, merchant = merchantId) {
  const order = {
    id: orderId,
    amount: 1000,
    currency: 'CNY',
    subject: 'x',
    metadata: {},
    expiresInSeconds: undefined,
  };
  // As if nodrop had queried all other attempts, and the channel had not answered in time.
  const askedAttempts = new Set((await db.payment.findMany({ select: { id: true } })).map(({ id }) => id));
  const { payment } = await insertPayment(
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
export const row = (id: string) => db.payment.findUniqueOrThrow({ where: { id } });
export const orderOf = async ({ orderId }: Payment) =>
  (await db.order.findFirstOrThrow({ where: { merchantId, id: orderId } })).status;
