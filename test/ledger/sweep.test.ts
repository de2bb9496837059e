import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { newDeliveryId, newEventId, newPaymentId } from '../../src/domain/ids.ts';
import { createLedgerClient, type LedgerClient } from '../../src/ledger/client.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { findEndingOrders } from '../../src/ledger/orders.ts';
import { paymentsToRecover } from '../../src/ledger/recover.ts';
import {
  restPayment,
  takeOverdueDeliveries,
  takeStuckPayments,
  takeStuckRefunds,
  takeUndeliveredCallbacks,
} from '../../src/ledger/sweep.ts';
import { type FreshDatabase, freshDatabase } from '../support/stack.ts';

// What the sweep takes, and in which order: the real database, no workflows.

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

let database: FreshDatabase;
let db: LedgerClient;
let merchantId: string;
let channelAccountId: string;
let clock: number;

beforeAll(async () => {
  database = await freshDatabase();
  db = createLedgerClient(database.url);
  merchantId = (await ensureMerchant(db, 'shop', ['simulator'])).merchant.id;
  channelAccountId = (await db.channelAccount.findFirstOrThrow()).id;
});
afterAll(async () => {
  await db?.$disconnect();
  await database?.drop();
});
beforeEach(async () => {
  clock = Date.now();
  await db.$executeRaw`TRUNCATE payments, orders, refunds, callbacks, events, deliveries, timeline CASCADE`;
});

const ago = (ms: number) => new Date(clock - ms);
let orders = 0;

/** Payments of orders of their own. */
async function newPayments(count: number, of: (i: number) => object, order: object = {}): Promise<string[]> {
  const rows = Array.from({ length: count }, (_, i) => ({
    ...{ id: newPaymentId(), merchantId, orderId: `o-${++orders}`, channel: 'simulator', channelAccountId },
    ...{ method: 'wallet', amount: 10n, currency: 'CNY', clientTokenHash: 'x' },
    expiresAt: new Date(clock + HOUR),
    ...of(i),
  }));
  const made = { merchantId, amount: 10n, currency: 'CNY', subject: 'x' };
  await db.order.createMany({ data: rows.map(({ orderId }) => ({ ...made, id: orderId, ...order })) });
  await db.payment.createMany({ data: rows });
  return rows.map(({ id }) => id);
}

/** Paid, and its order service has not agreed. */
const pending = () => ({
  ...{ status: 'succeeded', orderUpdate: 'pending', channelPaymentId: 't', settledBy: 'query' },
  ...{ settledAt: ago(0), paidAt: ago(0), receivedAmount: 10n, receivedCurrency: 'CNY' },
});

/** Of one outage: more than a batch, older than all else, rested and due again. */
const MANY = 1_400;
const waiting = (i: number) => ({ createdAt: ago(2 * HOUR - i), nextSweepAt: ago(MINUTE) });

describe('a new row is not kept waiting by thousands that wait for a channel', () => {
  test('a payment whose API died', async () => {
    await newPayments(MANY, (i) => ({
      status: 'paying',
      createdAt: ago(2 * HOUR - i),
      expiresAt: ago(HOUR),
    }));
    const [lost] = await newPayments(1, () => ({ status: 'created', createdAt: ago(MINUTE) }));
    const seen = new Set<string>();
    // Every look finds its workflow running, and lets it rest.
    for (let minute = 0; minute < 8; minute += 1) {
      const at = new Date(clock + minute * MINUTE);
      for (const { id } of await takeStuckPayments(db, at)) {
        seen.add(id);
        await restPayment(db, id, at);
      }
    }
    expect(seen).toContain(lost);
    expect(seen.size).toBe(MANY + 1);
  });

  test('a refund', async () => {
    const [paymentId = ''] = await newPayments(1, () => ({
      ...{
        status: 'succeeded',
        orderUpdate: 'applied',
        settledBy: 'query',
        settledAt: ago(0),
        paidAt: ago(0),
      },
      ...{ amount: 2000n, receivedAmount: 2000n, receivedCurrency: 'CNY', channelPaymentId: 't' },
      orderUpdatedAt: ago(0),
    }));
    const row = (id: string, more: object) => ({
      ...{ id, merchantId, paymentId, amount: 1n, currency: 'CNY', reason: 'requested' },
      ...more,
    });
    const many = Array.from({ length: MANY }, (_, i) =>
      row(`re_${i}`, { status: 'processing', updatedAt: ago(2 * HOUR), ...waiting(i) }),
    );
    await db.refund.createMany({ data: [...many, row('re_lost', { createdAt: ago(MINUTE) })] });
    const taken = await takeStuckRefunds(db, ago(0));
    expect(taken.map(({ id }) => id)).toContain('re_lost');
  });

  test('a callback', async () => {
    const [paymentId = ''] = await newPayments(1, () => ({}));
    const row = (id: string, more: object) => ({
      ...{ id, channelAccountId, notificationId: id, outTradeNo: paymentId, paymentId },
      ...{ answer: { state: 'unpaid' }, body: new Uint8Array(), ...more },
    });
    const many = Array.from({ length: MANY }, (_, i) =>
      row(`cb_${i}`, { receivedAt: ago(HOUR - i), nextSweepAt: ago(MINUTE) }),
    );
    await db.callback.createMany({ data: [...many, row('cb_lost', { receivedAt: ago(MINUTE) })] });
    const taken = await takeUndeliveredCallbacks(db, ago(0));
    expect(taken.map(({ id }) => id)).toContain('cb_lost');
  });

  test('an event for an order service', async () => {
    const [paymentId = ''] = await newPayments(1, () => ({}));
    const rows = Array.from({ length: MANY + 1 }, (_, i) => ({
      event: {
        ...{ id: newEventId(), merchantId, paymentId, type: 'payment.closed', version: i + 1 },
        data: {},
      },
      delivery: i < MANY ? waiting(i) : { createdAt: ago(MINUTE) },
    }));
    await db.event.createMany({ data: rows.map(({ event }) => event) });
    const ids = rows.map(() => newDeliveryId());
    await db.delivery.createMany({
      data: rows.map(({ event, delivery }, i) => ({
        ...{ id: ids[i] ?? '', eventId: event.id, merchantId, paymentId, ...delivery },
      })),
    });
    const taken = await takeOverdueDeliveries(db, ago(0));
    expect(taken.map(({ id }) => id)).toContain(ids.at(-1));
  });

  test('an order past its end', async () => {
    const row = (id: string, more: object) => ({
      ...{ merchantId, id, amount: 10n, currency: 'CNY', subject: 'x', expiresAt: ago(MINUTE), ...more },
    });
    const many = Array.from({ length: MANY }, (_, i) => row(`held-${i}`, waiting(i)));
    await db.order.createMany({ data: [...many, row('lost', { createdAt: ago(2 * MINUTE) })] });
    const found = await findEndingOrders(db, 5, ago(0));
    expect(found).toHaveLength(5);
    expect(found.map(({ id }) => id)).toContain('lost');
  });
});

test('of payments the sweep takes those that are stuck, and nothing else', async () => {
  const paying = { status: 'paying', createdAt: ago(HOUR) };
  const over = { createdAt: ago(HOUR), endedAt: ago(20 * MINUTE), expiresAt: ago(HOUR) };
  const wanted = (ms: number) => ({ ...paying, cancelRequestedAt: ago(ms) });
  const paid = (ms: number) => ({
    ...paying,
    channelAnsweredAt: ago(ms),
    channelAnswer: { state: 'paid', amount: 10, currency: 'CNY', by: 'query' },
  });
  const rows: Record<string, object> = {
    'created 29 s ago': { status: 'created', createdAt: ago(29_000) },
    'created 31 s ago': { status: 'created', createdAt: ago(31_000) },
    'expired 9 min 59 s ago': { ...paying, expiresAt: ago(10 * MINUTE - 1_000) },
    'expired 10 min 1 s ago': { ...paying, expiresAt: ago(10 * MINUTE + 1_000) },
    'to cancel for 59 s': wanted(59_000),
    'to cancel for 61 s': wanted(61_000),
    'unsettled for 59 s': paid(59_000),
    'unsettled for 61 s': paid(61_000),
    'closed long ago': { ...over, status: 'closed' },
    'cancelled long ago': { ...over, status: 'cancelled', cancelRequestedAt: ago(HOUR) },
    'paid, and not told yet': { ...paid(HOUR), ...pending() },
  };
  const names = new Map<string, string>();
  for (const [name, of] of Object.entries(rows)) names.set((await newPayments(1, () => of))[0] ?? '', name);
  await newPayments(50, () => paying);
  const taken = (await takeStuckPayments(db, ago(0))).map(({ id }) => names.get(id) ?? 'a healthy one');
  expect(taken.toSorted()).toEqual([
    'created 31 s ago',
    'expired 10 min 1 s ago',
    'to cancel for 61 s',
    'unsettled for 61 s',
  ]);
  // They are leased.
  expect(await takeStuckPayments(db, ago(0))).toEqual([]);
});

test('after a loss of Temporal every payment goes on that is not over, whatever kept its late watch from its end', async () => {
  const DAY = 24 * HOUR;
  const one = async (of: object) => (await newPayments(1, () => of))[0] ?? '';
  const ended = { status: 'closed', endedAt: ago(3 * DAY) };
  const goesOn = [
    await one({ status: 'created' }),
    await one({ status: 'paying', expiresAt: ago(5 * DAY) }),
    await one({ status: 'cancelled', endedAt: ago(HOUR), channelAnsweredAt: ago(HOUR) }),
    // The channel is silent, and asked every hour until it is not.
    await one({ ...ended, channelAnsweredAt: ago(2 * DAY), channelErrorSince: ago(DAY) }),
    // Temporal was lost in its late watch, and that has passed since.
    await one({ ...ended, channelAnsweredAt: ago(2 * DAY + HOUR) }),
    await one({ ...ended, channelAnsweredAt: null }),
    // Its order service is still to be told.
    await one(pending()),
  ];
  await one({ ...pending(), orderUpdate: 'applied', orderUpdatedAt: ago(0) });
  await one({ ...ended, channelAnsweredAt: ago(2 * DAY) });
  // The last query may come a little early, by another's clock.
  await one({ ...ended, status: 'failed', channelAnsweredAt: ago(2 * DAY + 1_000) });
  const found = await paymentsToRecover(db, DAY, ago(0), '');
  expect(found.map(({ id }) => id).sort()).toEqual(goesOn.sort());
});
