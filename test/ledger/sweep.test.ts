import fc from 'fast-check';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { newDeliveryId, newEventId, newPaymentId } from '../../src/domain/ids.ts';
import { isLastAnswerMissing, lateWatch } from '../../src/domain/schedule.ts';
import { Prisma } from '../../src/generated/prisma/client.ts';
import { matchCallbacks } from '../../src/ledger/callbacks.ts';
import type { LedgerClient } from '../../src/ledger/client.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { findEndingOrders } from '../../src/ledger/orders.ts';
import { callbacksToRecover, paymentsToRecover } from '../../src/ledger/recovery-pages.ts';
import {
  postponePayment,
  takeOverdueDeliveries,
  takeStuckPayments,
  takeStuckRefunds,
  takeUndeliveredCallbacks,
  takeUnfinished,
} from '../../src/ledger/sweep.ts';
import { useDatabase } from '../support/stack.ts';

// Tests which rows the sweep takes, and in which sequence. It uses a real database and no workflows.

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

const { db } = useDatabase();
let merchantId: string;
let channelAccountId: string;
let clock: number;

beforeAll(async () => {
  merchantId = (await ensureMerchant(db, 'shop', ['simulator'])).merchant.id;
  channelAccountId = (await db.channelAccount.findFirstOrThrow()).id;
});
beforeEach(async () => {
  clock = Date.now();
  await db.$executeRaw`TRUNCATE payments, orders, refunds, callbacks, events, deliveries, timeline CASCADE`;
});

const ago = (ms: number) => new Date(clock - ms);
let orders = 0;

/** Creates payments, each with its own order. */
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

/** A settled payment with all columns that a settled payment must have. */
const settled = () => ({
  ...{ status: 'succeeded', orderUpdate: 'applied', settledBy: 'query', channelPaymentId: 't' },
  ...{ settledAt: ago(0), paidAt: ago(0), orderUpdatedAt: ago(0) },
  ...{ receivedAmount: 10n, receivedCurrency: 'CNY' },
});
/** A paid payment. The order service has not acknowledged its success yet. */
const pending = () => ({ ...settled(), orderUpdate: 'pending', orderUpdatedAt: null });

/**
 * The number of rows that an outage left, which is more than a batch. These rows are older than all other rows. The
 * sweep postponed them once, and must check them again now.
 */
const MANY = 1_400;
const waiting = (i: number) => ({ createdAt: ago(2 * HOUR - i), nextSweepAt: ago(MINUTE) });

describe('a new row in the sweep', () => {
  test('a payment whose API process died is not delayed by thousands of payments that wait for a channel', async () => {
    await newPayments(MANY, (i) => ({
      status: 'paying',
      createdAt: ago(2 * HOUR - i),
      expiresAt: ago(HOUR),
    }));
    const [lost] = await newPayments(1, () => ({ status: 'created', createdAt: ago(MINUTE) }));
    const seen = new Set<string>();
    // Every sweep finds that the workflows of the payments are running, and postpones these payments.
    for (let minute = 0; minute < 8; minute += 1) {
      const at = new Date(clock + minute * MINUTE);
      for (const { id } of await takeStuckPayments(db, at)) {
        seen.add(id);
        await postponePayment(db, id, null, at);
      }
    }
    expect(seen).toContain(lost);
    expect(seen.size).toBe(MANY + 1);
  });

  test('a new refund is not delayed by thousands of refunds that wait for a channel', async () => {
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

  test('a new callback is not delayed by thousands of callbacks that wait for a channel', async () => {
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

  test('a new delivery is not delayed by thousands of overdue deliveries', async () => {
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

  test('an expired order is not delayed by thousands of orders that stay open because their money waits for a decision', async () => {
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

test('the sweep takes only stuck payments, and takes each of them once', async () => {
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
    'paid, and not delivered yet': { ...paid(HOUR), ...pending() },
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
  // The rows are leased, so a second sweep takes none.
  expect(await takeStuckPayments(db, ago(0))).toEqual([]);
});

test('after a loss of Temporal, every unfinished payment is recovered, even an ended payment whose late watch has not finished', async () => {
  const DAY = 24 * HOUR;
  const one = async (of: object) => (await newPayments(1, () => of))[0] ?? '';
  const ended = { status: 'closed', endedAt: ago(3 * DAY), expiresAt: ago(3 * DAY) };
  const goesOn = [
    await one({ status: 'created' }),
    await one({ status: 'paying', expiresAt: ago(5 * DAY) }),
    await one({ status: 'cancelled', endedAt: ago(HOUR), channelAnsweredAt: ago(HOUR) }),
    // The channel gives no readable answer, so nodrop queries it every hour.
    await one({ ...ended, channelAnsweredAt: ago(2 * DAY), channelErrorSince: ago(DAY) }),
    // Temporal was lost during the late queries. The time for the remaining late queries has passed since then.
    await one({ ...ended, channelAnsweredAt: ago(2 * DAY + HOUR) }),
    await one({ ...ended, channelAnsweredAt: null }),
    // The payer could use the next action after the payment had ended. So the last query is a day after the expiry.
    await one({ ...ended, expiresAt: ago(DAY - 1_000), channelAnsweredAt: ago(0) }),
    await one({ ...ended, expiresAt: ago(2 * DAY), channelAnsweredAt: ago(DAY + HOUR) }),
    // A payment whose success is not delivered yet.
    await one(pending()),
  ];
  await one(settled());
  await one({ ...ended, channelAnsweredAt: ago(2 * DAY) });
  await one({ ...ended, expiresAt: ago(2 * DAY), channelAnsweredAt: ago(DAY) });
  // The last query may be slightly early, because clocks differ.
  await one({ ...ended, status: 'failed', channelAnsweredAt: ago(2 * DAY + 1_000) });
  const { rows } = await paymentsToRecover(db, ago(0), '');
  expect(rows.map(({ id }) => id).sort()).toEqual(goesOn.sort());
});

test('the ledger and the workflow calculate the same end for the late watch of a payment', async () => {
  const DAY = 24 * HOUR;
  const random = <T>(arbitrary: fc.Arbitrary<T>) => fc.sample(arbitrary, { numRuns: 500, seed: 1 });
  const ms = (max: number) => fc.integer({ min: -max, max });
  // Some of the times are within two minutes of the end of the late queries. The others are within nine days of it.
  const near = fc.oneof(ms(2 * MINUTE), ms(9 * DAY));
  const cases = random(
    fc.record({
      endedAt: fc.oneof(near, fc.constant(0)).map((of) => clock - DAY + of),
      expiresAt: fc.oneof(near, fc.constant(0)).map((of) => clock - DAY + of),
      answered: fc.option(near),
      isSilent: fc.boolean(),
    }),
  ).map(({ answered, ...of }) => {
    const end = lateWatch(of.endedAt, of.expiresAt).at(-1) ?? 0;
    return { ...of, end, answeredAt: answered === null ? null : end + answered };
  });
  const ids = await newPayments(cases.length, (i) => {
    const { endedAt = 0, expiresAt = 0, answeredAt = null, isSilent = false } = cases[i] ?? {};
    return {
      ...{ status: 'closed', endedAt: new Date(endedAt), expiresAt: new Date(expiresAt) },
      channelAnsweredAt: answeredAt === null ? null : new Date(answeredAt),
      channelErrorSince: isSilent ? new Date(clock) : null,
    };
  });
  const goesOn = cases.map(
    ({ endedAt, expiresAt, end, answeredAt, isSilent }) =>
      end > clock || isSilent || isLastAnswerMissing(answeredAt, endedAt, expiresAt),
  );
  const expected = ids.filter((_, i) => goesOn[i]);
  expect(expected.length).toBeGreaterThan(50);
  expect(ids.length - expected.length).toBeGreaterThan(50);
  const { rows } = await paymentsToRecover(db, new Date(clock), '');
  expect(rows.map(({ id }) => id).sort()).toEqual(expected.sort());
  const taken = await takeUnfinished(db, ids, new Date(clock));
  expect(taken.map(({ id }) => id).sort()).toEqual(expected.sort());
});

test('if a page contains only finished payments, recovery continues with the next page', async () => {
  await newPayments(1, () => ({ id: 'pay_Z', status: 'paying' }));
  await db.$executeRaw`
    INSERT INTO orders (merchant_id, id, amount, currency, subject, status)
    SELECT ${merchantId}, 'over-' || i, 10, 'CNY', 'x', 'closed' FROM generate_series(1, 5001) i`;
  await db.$executeRaw`
    INSERT INTO payments (id, merchant_id, order_id, channel, channel_account_id, method, amount, currency, status,
      client_token_hash, expires_at, ended_at, channel_answered_at)
    SELECT 'pay_' || lpad(i::text, 5, '0'), ${merchantId}, 'over-' || i, 'simulator', ${channelAccountId}, 'wallet', 10,
      'CNY', 'closed', 'x', ${ago(72 * HOUR)}, ${ago(72 * HOUR)}, ${ago(48 * HOUR)}
    FROM generate_series(1, 5001) i`;
  const page = async (after: string) => {
    const { rows, end } = await paymentsToRecover(db, ago(0), after);
    return [rows.map(({ id }) => id), end];
  };
  expect(await page('')).toEqual([[], 'pay_05000']);
  expect(await page('pay_05000')).toEqual([['pay_Z'], 'pay_Z']);
  expect(await page('pay_Z')).toEqual([[], undefined]);
});

test('after a loss of Temporal, the callbacks of the last 72 h are forwarded again, except callbacks that would have no effect', async () => {
  const [paid = ''] = await newPayments(1, settled);
  const [open = ''] = await newPayments(1, () => ({ status: 'closed', endedAt: ago(60 * HOUR) }));
  const money = { channelPaymentId: 't', amount: 10, currency: 'CNY', paidAt: ago(0).toISOString() };
  const back = { state: 'succeeded', channelRefundId: 'r', amount: 1 };
  const refund = { outRefundNo: 're_1', answer: back };
  const store = async (id: string, paymentId: string | null, answer: object, of: object = {}) => {
    const row = { id, channelAccountId, notificationId: id, outTradeNo: paymentId ?? 'x', paymentId, answer };
    const delivered = { receivedAt: ago(71 * HOUR), deliveredAt: ago(71 * HOUR) };
    await db.callback.create({ data: { ...row, body: new Uint8Array(), ...delivered, ...of } });
    return id;
  };
  const old = { receivedAt: ago(73 * HOUR) };
  const again = [
    await store('cb_other_amount', open, { ...money, state: 'paid', amount: 9 }),
    await store('cb_unpaid', open, { state: 'unpaid' }),
    await store('cb_part_back', paid, { ...money, state: 'paid', refundedAmount: 3 }),
    await store('cb_all_back', paid, { ...money, state: 'refunded' }),
    await store('cb_refund', paid, { ...money, state: 'paid', refundedAmount: 0, refund }),
    await store('cb_undelivered', paid, { ...money, state: 'paid' }, { ...old, deliveredAt: null }),
  ];
  await store('cb_paid', paid, { ...money, state: 'paid', refundedAmount: 0 });
  await store('cb_old', open, { state: 'unpaid' }, old);
  await store('cb_unmatched', null, { state: 'unpaid' }, { deliveredAt: null });
  const { rows } = await callbacksToRecover(db, ago(0), '');
  expect(rows.map(({ id }) => id)).toEqual(again.sort());
});

test('the sweep takes payments with recorded money before older payments without a workflow', async () => {
  await newPayments(250, (i) => ({ status: 'created', createdAt: ago(2 * HOUR - i) }));
  const answer = { state: 'paid', channelPaymentId: 't', amount: 10, currency: 'CNY', by: 'callback' };
  const paid = await newPayments(3, (i) => ({
    ...{ status: 'paying', channelAnswer: answer, channelAnsweredAt: ago(2 * MINUTE) },
    // An earlier sweep has already checked one of the paid payments, for another reason.
    nextSweepAt: i === 0 ? ago(MINUTE) : null,
  }));
  const taken = (await takeStuckPayments(db, ago(0))).map(({ id }) => id);
  // The step handles payments with recorded money first, in case it runs out of time.
  expect(taken.slice(0, 3).sort()).toEqual([...paid].sort());
});

describe('the sweep uses indexes that contain no finished rows', () => {
  /** Returns the query plan of the only query that `take` makes. */
  async function planOf(take: (db: LedgerClient) => Promise<unknown>): Promise<string> {
    let asked: Prisma.Sql | undefined;
    const listening = {
      async $queryRaw(strings: TemplateStringsArray, ...values: unknown[]) {
        asked = Prisma.sql(strings, ...values);
        return [];
      },
      payment: { findMany: async () => [] },
      callback: { findMany: async () => [] },
    };
    await take(listening as unknown as LedgerClient);
    const lines = await db.$queryRaw<{ 'QUERY PLAN': string }[]>`EXPLAIN ${asked ?? Prisma.empty}`;
    return lines.map((line) => line['QUERY PLAN']).join('\n');
  }

  test('queries for payments, orders and callbacks use only partial indexes', async () => {
    await db.$executeRaw`
      INSERT INTO orders (merchant_id, id, amount, currency, subject)
      SELECT ${merchantId}, 'abandoned-' || i, 10, 'CNY', 'x' FROM generate_series(1, 20000) i`;
    await db.$executeRaw`
      INSERT INTO payments (id, merchant_id, order_id, channel, channel_account_id, method, amount, currency, status,
        client_token_hash, expires_at, ended_at)
      SELECT 'pay_' || i, ${merchantId}, 'abandoned-' || i, 'simulator', ${channelAccountId}, 'wallet', 10,
        'CNY', 'closed', 'x', ${ago(72 * HOUR)}, ${ago(72 * HOUR)}
      FROM generate_series(1, 20000) i`;
    await db.$executeRaw`
      INSERT INTO callbacks (id, channel_account_id, notification_id, out_trade_no, answer, body, received_at)
      SELECT 'cb_' || i, ${channelAccountId}, i, 'foreign', '{}', '', ${ago(100 * HOUR)}
      FROM generate_series(1, 20000) i`;
    await db.$executeRaw`ANALYZE orders, payments, callbacks`;
    const plans = {
      payments: await planOf((listening) => takeStuckPayments(listening, ago(0))),
      orders: await planOf((listening) => findEndingOrders(listening, 200, ago(0))),
      callbacks: await planOf((listening) => takeUndeliveredCallbacks(listening, ago(0))),
      unmatched: await planOf((listening) => matchCallbacks(listening, ago(0))),
    };
    const indexes: Record<string, string[]> = {};
    for (const [name, plan] of Object.entries(plans)) {
      expect(plan).not.toContain('Seq Scan');
      // The test ignores the other indexes in the plan, because each of them only finds a known row.
      indexes[name] = [...new Set(plan.match(/\b\w+_idx\b/g))].filter((index) => !index.includes('_id_'));
    }
    // These partial indexes may be empty, and the planner may then choose any of them.
    const payments = ['unsettled', 'created', 'unfinished', 'cancelling', 'workflow_busy'].map(
      (name) => `payments_${name}_idx`,
    );
    expect(payments).toEqual(expect.arrayContaining(indexes.payments ?? []));
    expect(indexes.payments).toContain('payments_unsettled_idx');
    expect(indexes.orders?.sort()).toEqual(['orders_cancelling_idx', 'orders_ending_idx']);
    expect(indexes.callbacks).toEqual(['callbacks_undelivered_idx']);
    expect(indexes.unmatched).toEqual(['callbacks_unmatched_idx']);
  });
});
