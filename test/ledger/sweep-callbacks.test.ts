import { randomUUID } from 'node:crypto';
import type { Client } from '@temporalio/client';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type SweepActivities, sweepActivities } from '../../src/activities/sweep.ts';
import { newPaymentId } from '../../src/domain/ids.ts';
import { matchCallbacks, storeCallback } from '../../src/ledger/callbacks.ts';
import { claimKey, keepResult } from '../../src/ledger/idempotency.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { lockOrder } from '../../src/ledger/order-row.ts';
import { minuteOf, recordUnverified, unverifiedCallback } from '../../src/ledger/unverified-callbacks.ts';
import { DeliveryWorkflows } from '../../src/temporal/delivery-workflows.ts';
import { type PaymentWorkflows, TemporalUnavailable } from '../../src/temporal/payment-workflows.ts';
import { RefundWorkflows } from '../../src/temporal/refund-workflows.ts';
import { ofTrade } from '../support/callback.ts';
import { eventually, useDatabase } from '../support/stack.ts';

// Tests what the sweep does with callbacks. It retries a callback that came before its payment, and deletes
// unverifiable callbacks after some time. The database is real, and the stand-in for the workflows only records calls.

const [MINUTE, HOUR, DAY] = [60_000, 3_600_000, 86_400_000];

const { db } = useDatabase();
let merchantId: string;
let accounts: string[];
let sweep: SweepActivities;
let clock: number;
let down = false;
let delivered: { paymentId: string; callbackId: string }[] = [];

beforeAll(async () => {
  const { merchant } = await ensureMerchant(db, 'shop', ['simulator', 'simulator2']);
  merchantId = merchant.id;
  accounts = (await db.channelAccount.findMany({ orderBy: { channel: 'asc' } })).map(({ id }) => id);
  const workflows: Pick<PaymentWorkflows, 'deliverCallback'> = {
    async deliverCallback(payment, { callbackId }) {
      if (down) throw new TemporalUnavailable('down');
      delivered.push({ paymentId: payment.id, callbackId });
    },
  };
  sweep = sweepActivities({
    db,
    client: undefined as unknown as Client,
    workflows: workflows as PaymentWorkflows,
    refundWorkflows: new RefundWorkflows(undefined as unknown as Client),
    deliveryWorkflows: new DeliveryWorkflows(undefined as unknown as Client),
    now: async () => new Date(clock),
  });
});
beforeEach(async () => {
  clock = Date.now();
  down = false;
  delivered = [];
  await db.timelineEntry.deleteMany();
  await db.callback.deleteMany();
});

async function newPayment(id: string, account = 0) {
  const orderId = randomUUID();
  await db.order.create({ data: { merchantId, id: orderId, amount: 10n, currency: 'CNY', subject: 'x' } });
  await db.payment.create({
    data: {
      ...{ id, merchantId, orderId, method: 'wallet', amount: 10n, currency: 'CNY', clientTokenHash: 'x' },
      channel: ['simulator', 'simulator2'][account] ?? '',
      channelAccountId: accounts[account] ?? '',
      expiresAt: new Date(clock + HOUR),
    },
  });
}

const store = (outTradeNo: string, receivedAt = clock) =>
  storeCallback(
    db,
    accounts[0] ?? '',
    ofTrade({ notificationId: randomUUID(), outTradeNo, answer: { state: 'unpaid' } }),
    Buffer.from('{}'),
    new Date(receivedAt),
  );
/** Returns the number of connections that wait for a lock in this database. */
async function waiting(): Promise<number> {
  const [row] = await db.$queryRaw<{ count: bigint }[]>`
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'`;
  return Number(row?.count ?? 0);
}
const rowOf = (id: string) => db.callback.findUniqueOrThrow({ where: { id } });

describe('a callback that matches no payment', () => {
  test('an unmatched callback is matched and forwarded once its payment exists', async () => {
    const paymentId = newPaymentId();
    const { id } = await store(paymentId);
    clock += MINUTE;
    expect(await sweep.sweepUnmatched()).toBe(0);
    expect(await sweep.sweepCallbacks()).toBe(0);
    await newPayment(paymentId);
    clock += 2 * MINUTE;
    expect([await sweep.sweepUnmatched(), await sweep.sweepCallbacks()]).toEqual([1, 1]);
    expect(delivered).toEqual([{ paymentId, callbackId: id }]);
    expect(await rowOf(id)).toMatchObject({ paymentId, deliveredAt: new Date(clock) });
    const notes = await db.timelineEntry.findMany({ where: { paymentId }, orderBy: { id: 'asc' } });
    expect(notes.map(({ detail }) => detail)).toEqual([
      'The sweep matched a stored callback to this payment.',
      'The sweep forwarded a stored callback to the workflow.',
    ]);
    clock += HOUR;
    expect([await sweep.sweepUnmatched(), await sweep.sweepCallbacks()]).toEqual([0, 0]);
  });

  test('if Temporal is unavailable when a callback is matched, a later sweep forwards the callback', async () => {
    const paymentId = newPaymentId();
    await store(paymentId);
    await newPayment(paymentId);
    clock += MINUTE;
    down = true;
    expect(await sweep.sweepUnmatched()).toBe(1);
    await expect(sweep.sweepCallbacks()).rejects.toThrow('down');
    down = false;
    clock += MINUTE;
    expect(await sweep.sweepCallbacks()).toBe(1);
    expect(delivered).toHaveLength(1);
  });

  test('a callback is never matched to a payment of another account', async () => {
    const paymentId = newPaymentId();
    const { id } = await store(paymentId);
    await newPayment(paymentId, 1);
    clock += MINUTE;
    expect(await sweep.sweepUnmatched()).toBe(0);
    expect((await rowOf(id)).paymentId).toBeNull();
  });

  test('matching is retried after 1 min, then at growing intervals of up to 1 h, until the callback is 72 h old', async () => {
    const { id } = await store(newPaymentId());
    const from = clock;
    const minutes: number[] = [];
    while (clock < from + 75 * HOUR) {
      minutes.push((clock - from) / MINUTE);
      await matchCallbacks(db, new Date(clock));
      const next = (await rowOf(id)).nextSweepAt?.getTime() ?? 0;
      if (next <= clock) break;
      // Before that time, the sweep does not try again to match the callback.
      await matchCallbacks(db, new Date(next - 1));
      expect((await rowOf(id)).nextSweepAt?.getTime()).toBe(next);
      clock = next;
    }
    expect(minutes.slice(0, 10)).toEqual([0, 1, 2, 4, 8, 16, 32, 64, 124, 184]);
    // The last retry comes after 72 h and also finds no payment.
    expect(minutes.at(-2)).toBeGreaterThan(71 * 60 - 1);
    expect(minutes.at(-2)).toBeLessThan(72 * 60);
    expect(minutes.at(-1)).toBeGreaterThanOrEqual(72 * 60);
    expect((await rowOf(id)).paymentId).toBeNull();
  });

  test('thousands of callbacks that will never match do not delay a new callback', async () => {
    const now = new Date(clock);
    await db.callback.createMany({
      data: Array.from({ length: 3_000 }, (_, i) => ({
        ...{ id: `cb_${i}`, channelAccountId: accounts[0] ?? '', notificationId: `n-${i}` },
        ...{ outTradeNo: `foreign_${i}`, answer: { state: 'unpaid' }, body: new Uint8Array() },
        receivedAt: new Date(clock - DAY),
        nextSweepAt: new Date(clock - HOUR),
      })),
    });
    const paymentId = newPaymentId();
    const { id } = await store(paymentId);
    await newPayment(paymentId);
    expect(await matchCallbacks(db, now)).toBe(1);
    expect((await rowOf(id)).paymentId).toBe(paymentId);
  });

  test('matching waits for a transaction that holds the lock of the order, and does not deadlock', async () => {
    const paymentId = newPaymentId();
    const { id } = await store(paymentId);
    await newPayment(paymentId);
    const { orderId } = await db.payment.findUniqueOrThrow({ where: { id: paymentId } });
    const matching = await db.$transaction(async (tx) => {
      await lockOrder(tx, merchantId, orderId);
      const matched = matchCallbacks(db, new Date(clock));
      await eventually(async () => (await waiting()) > 0);
      // A repeated callback takes the order's lock first, and then locks the row of the stored callback.
      await tx.callback.update({ where: { id }, data: { receivedAt: new Date(clock) } });
      return { matched };
    });
    expect(await matching.matched).toBe(1);
    expect((await rowOf(id)).paymentId).toBe(paymentId);
  });

  test('if several sweeps run at the same time, a callback is matched only once', async () => {
    const paymentId = newPaymentId();
    await store(paymentId);
    await newPayment(paymentId);
    const matched = await Promise.all(Array.from({ length: 4 }, () => matchCallbacks(db, new Date(clock))));
    expect(matched.reduce((sum, count) => sum + count, 0)).toBe(1);
  });
});

test('only rows whose retention time has passed are deleted', async () => {
  const unverified = (ageMs: number) =>
    recordUnverified(db, [
      {
        accountId: accounts[0] ?? '',
        address: '192.0.2.1',
        minute: minuteOf(new Date(clock - ageMs)),
        count: 1,
        callbacks: [unverifiedCallback(Buffer.from('x'), 'forged', new Date(clock - ageMs))],
      },
    ]);
  const key = async (name: string, ageMs: number, done: boolean) => {
    const at = new Date(clock - ageMs);
    const claim = await claimKey(db, { merchantId, key: name, route: 'r', requestHash: 'h', fields: {} }, at);
    if (claim.kind !== 'ours') throw new Error(claim.kind);
    if (done) await keepResult(db, claim.lease, { status: 201, made: 'x' });
  };
  await unverified(8 * DAY);
  await unverified(7 * DAY + MINUTE);
  await unverified(7 * DAY - HOUR);
  await key('old', 31 * DAY, true);
  await key('old and dead', 31 * DAY, false);
  await key('young', 29 * DAY, true);
  const old = await store('pay_nobody', clock - 400 * DAY);
  expect(await sweep.sweepOld()).toBe(6);
  expect(await db.unverifiedCallback.count()).toBe(1);
  expect(await db.unverifiedCallbackCount.count()).toBe(1);
  expect((await db.idempotencyKey.findMany()).map((row) => row.key)).toEqual(['young']);
  expect(await rowOf(old.id)).toBeDefined();
  expect(await sweep.sweepOld()).toBe(0);
});

test('many expired rows are deleted in batches', async () => {
  const receivedAt = new Date(clock - 8 * DAY);
  await db.unverifiedCallback.createMany({
    data: Array.from({ length: 5_100 }, (_, i) => ({
      ...{ id: `uv_${i}`, channelAccountId: accounts[0] ?? '', address: 'a', bodyHash: 'h', reason: 'r' },
      bodyHead: new Uint8Array(),
      receivedAt,
    })),
  });
  expect(await sweep.sweepOld()).toBe(5_100);
});

test('the database refuses an unverified callback body of more than 4 KiB', async () => {
  const row = { id: 'uv_big', channelAccountId: accounts[0] ?? '', address: 'a', bodyHash: 'h', reason: 'r' };
  await expect(
    db.unverifiedCallback.create({ data: { ...row, bodyHead: new Uint8Array(4097) } }),
  ).rejects.toThrow();
});
