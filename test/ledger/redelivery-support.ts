import { beforeEach } from 'vitest';
import type { DeliveryOutcome } from '../../src/domain/event.ts';
import { newDeliveryId, newEventId, newPaymentId } from '../../src/domain/ids.ts';
import { recordAttempt } from '../../src/ledger/deliveries.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { takeWaiting } from '../../src/ledger/redelivery.ts';
import { useDatabase } from '../support/stack.ts';

/** Support for the tests of redelivery. It creates a new merchant for each test, and pending deliveries. */

export const { db, connect } = useDatabase();
export let merchantId: string;
let channelAccountId: string;
let merchants = 0;
beforeEach(async () => {
  merchants += 1;
  merchantId = (await ensureMerchant(db, `shop-${merchants}`, ['simulator'])).merchant.id;
  channelAccountId = (await db.channelAccount.findFirstOrThrow({ where: { merchantId } })).id;
  orders = 0;
});

/** Runs `make` for another merchant. */
export async function asAnotherMerchant(make: () => Promise<unknown>): Promise<void> {
  const mine = merchantId;
  merchantId = (await ensureMerchant(db, `other-${merchants}`, ['simulator'])).merchant.id;
  await make();
  merchantId = mine;
}

export const [MINUTE, HOUR, DAY] = [60, 3_600, 86_400];
const START = Date.now();
export const at = (seconds: number) => new Date(START + seconds * 1000);

let orders = 0;
/** Creates a delivery with its own order and payment. */
export async function newDelivery(changes: object = {}, type = 'refund.succeeded'): Promise<string> {
  orders += 1;
  const [id, eventId, paymentId] = [newDeliveryId(), newEventId(), newPaymentId()];
  const money = { amount: 10n, currency: 'CNY' };
  const orderId = `o-${orders}`;
  await db.order.create({ data: { merchantId, id: orderId, subject: 'x', ...money } });
  await db.payment.create({
    data: {
      ...{ id: paymentId, merchantId, orderId, channel: 'simulator', channelAccountId, method: 'wallet' },
      ...{ ...money, status: 'closed', clientTokenHash: 'x', expiresAt: at(HOUR), endedAt: at(0) },
    },
  });
  await db.event.create({ data: { id: eventId, merchantId, paymentId, type, version: 1, data: {} } });
  const createdAt = at(-DAY + orders);
  await db.delivery.create({ data: { id, eventId, merchantId, paymentId, createdAt, ...changes } });
  return id;
}
/** Creates a pending delivery. Its next attempt is due in a day. */
export const newWaiting = (changes: object = {}, type?: string) =>
  newDelivery(
    {
      ...{
        attempts: 20,
        firstAttemptAt: at(-DAY),
        lastAttemptAt: at(-HOUR),
        nextAttemptAt: at(DAY + orders),
      },
      ...changes,
    },
    type,
  );

export const called = (
  id: string,
  outcome: DeliveryOutcome,
  seconds: number,
  retryAfterMs?: number,
  client = db,
  began = seconds,
) => {
  const asked = retryAfterMs === undefined ? {} : { retryAfterMs };
  const attempt = {
    outcome,
    statusCode: 500,
    detail: 'It answered.',
    durationMs: 1,
    at: at(began),
    ...asked,
  };
  return recordAttempt(client, id, attempt, 0, at(seconds));
};
export const merchant = () => db.merchant.findUniqueOrThrow({ where: { id: merchantId } });
export const dueAt = async () => {
  const { redeliveryDueAt } = await merchant();
  return redeliveryDueAt && (redeliveryDueAt.getTime() - START) / 1000;
};
export const idsOf = async (size: number, seconds: number) =>
  (await takeWaiting(db, merchantId, size, at(seconds))).picked.map(({ id }) => id);
