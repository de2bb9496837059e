import type { ApplicationFailure } from '@temporalio/common';
import { afterEach, expect, test, vi } from 'vitest';
import { deliverEventActivities } from '../../src/activities/deliver-event.ts';
import { CALLS_AT_ONCE } from '../../src/domain/delivery.ts';
import { newDeliveryId, newEventId, newPaymentId } from '../../src/domain/ids.ts';
import { ensureMerchant, setMerchant } from '../../src/ledger/merchants.ts';
import type { OrderServiceClient } from '../../src/order-service/client.ts';
import { eventually, useDatabase } from '../support/stack.ts';

// Tests the delivery activities with the real database and an order service that the test controls.

const SECRET = 'a secret of at least 32 characters';

const { db } = useDatabase();
afterEach(() => void vi.restoreAllMocks());

/** Creates pending deliveries about a new payment, to an order service at `url`. */
async function newDeliveries(name: string, count: number): Promise<string[]> {
  const { merchant } = await ensureMerchant(db, name, ['simulator']);
  await setMerchant(db, name, { orderServiceUrl: `https://${name}.example/` }, SECRET, new Date());
  const merchantId = merchant.id;
  const { id: channelAccountId } = await db.channelAccount.findFirstOrThrow({ where: { merchantId } });
  const money = { amount: 10n, currency: 'CNY' };
  await db.order.create({ data: { merchantId, id: 'o', subject: 'x', ...money } });
  const paymentId = newPaymentId();
  await db.payment.create({
    data: {
      ...{
        id: paymentId,
        merchantId,
        orderId: 'o',
        channel: 'simulator',
        channelAccountId,
        method: 'wallet',
      },
      ...{ ...money, clientTokenHash: 'x', expiresAt: new Date(Date.now() + 60_000) },
    },
  });
  const rows = [...Array(count)].map((_, i) => ({
    id: newDeliveryId(),
    eventId: newEventId(),
    version: i + 1,
  }));
  await db.event.createMany({
    data: rows.map(({ eventId: id, version }) => ({
      ...{ id, merchantId, paymentId, type: 'refund.failed', version, data: {} },
    })),
  });
  await db.delivery.createMany({
    data: rows.map(({ id, eventId }) => ({ id, eventId, merchantId, paymentId })),
  });
  return rows.map(({ id }) => id);
}

const activities = (tell: OrderServiceClient['deliver'], now = async () => new Date()) =>
  deliverEventActivities({
    db,
    secret: SECRET,
    now,
    orderServices: { deliver: tell, read: async () => ({ kind: 'paid', durationMs: 1 }) },
    deliveryWorkflows: { start: async () => undefined, redeliverWaiting: async () => undefined },
  });

const AGREED = { kind: 'agreed', statusCode: 200, durationMs: 1 } as const;

test("if a merchant's order service hangs, the number of concurrent calls to it is limited, and events of other merchants are delivered immediately", async () => {
  const hung = await newDeliveries('hung', 3 * CALLS_AT_ONCE);
  const [other = ''] = await newDeliveries('other', 1);
  const ends: (() => void)[] = [];
  let hangs = true;
  let toldSoFar = 0;
  let turnedAwaySoFar = 0;
  const { deliverEvent } = activities(async ({ url }) => {
    if (hangs && url.includes('hung')) await new Promise<void>((resolve) => ends.push(resolve));
    return AGREED;
  });
  const outcomes = hung.map(async (id) => {
    try {
      const status = (await deliverEvent(id))?.status ?? 'gone';
      toldSoFar += 1;
      return status;
    } catch (error) {
      const { type, nextRetryDelay, category } = error as ApplicationFailure;
      expect([type, category, Number(nextRetryDelay) >= 1_000]).toEqual(['NotYet', 'BENIGN', true]);
      turnedAwaySoFar += 1;
      return id;
    }
  });
  await eventually(() => ends.length === CALLS_AT_ONCE && turnedAwaySoFar === 2 * CALLS_AT_ONCE);
  expect(await deliverEvent(other)).toMatchObject({ status: 'delivered' });
  hangs = false;
  // The test ends the calls one after the other. If they all ended together, their transactions would wait for the lock
  // of the same order, and a transaction waits at most 3 s.
  for (const [i, end] of ends.entries()) {
    end();
    await eventually(() => toldSoFar > i);
  }
  const turnedAway = (await Promise.all(outcomes)).filter((outcome) => outcome !== 'delivered');
  expect(turnedAway).toHaveLength(2 * CALLS_AT_ONCE);
  // The deliveries that were refused have no recorded attempt and no lease.
  const waiting = await db.delivery.findMany({ where: { id: { in: turnedAway } } });
  expect(new Set(waiting.map(({ nextAttemptAt, attempts }) => `${nextAttemptAt} ${attempts}`))).toEqual(
    new Set(['null 0']),
  );
  const [next = ''] = turnedAway;
  expect(await deliverEvent(next)).toMatchObject({ status: 'delivered' });
});

test('deliveries that fail at the same time are retried at different times, because each wait is extended by a random part of up to a fifth', async () => {
  const ids = await newDeliveries('jitter', 2);
  const at = Date.now();
  const { deliverEvent } = activities(
    async () => ({ kind: 'unknown', statusCode: 500, reason: 'It answered 500.', durationMs: 1 }),
    async () => new Date(at),
  );
  // The third attempt fails. The wait after a third attempt is 5 s plus the random extension.
  await db.delivery.updateMany({ where: { id: { in: ids } }, data: { attempts: 2 } });
  const waits: number[] = [];
  for (const [i, random] of [0, 1].entries()) {
    vi.spyOn(Math, 'random').mockReturnValue(random);
    await expect(deliverEvent(ids[i] ?? '')).rejects.toMatchObject({ type: 'NotAgreed' });
    const { nextAttemptAt } = await db.delivery.findUniqueOrThrow({ where: { id: ids[i] ?? '' } });
    waits.push((nextAttemptAt?.getTime() ?? 0) - at);
  }
  expect(waits).toEqual([5_000, 6_000]);
});

test('the delivery log keeps the start of the answer to a failed delivery, and no answer to a successful delivery', async () => {
  const [agrees = '', fails = ''] = await newDeliveries('log', 2);
  const call = { durationMs: 1, answer: 'what it says' };
  await activities(async () => ({ ...call, kind: 'agreed', statusCode: 200 })).deliverEvent(agrees);
  await activities(async () => ({ ...call, kind: 'gone', statusCode: 410 })).deliverEvent(fails);
  const logged = await db.deliveryAttempt.findMany({
    where: { deliveryId: { in: [agrees, fails] } },
    orderBy: { statusCode: 'asc' },
    select: { statusCode: true, answer: true },
  });
  expect(logged).toEqual([
    { statusCode: 200, answer: null },
    { statusCode: 410, answer: 'what it says' },
  ]);
});

test('a deleted event is not delivered, and its workflow does not retry forever', async () => {
  const { deliverEvent, redeliverEvent } = activities(async () => {
    throw new Error('told');
  });
  expect(await deliverEvent('dlv_gone')).toBeNull();
  expect(await redeliverEvent('dlv_gone')).toBeNull();
});

test('a delivery attempt that fails because the signing secret cannot be read is recorded, and one that fails with an internal error is not', async () => {
  const [first = '', second = ''] = await newDeliveries('ours', 2);
  const { deliverEvent } = activities(async () => {
    throw new Error('host db-7.internal cannot be reached');
  });
  await expect(deliverEvent(first)).rejects.toMatchObject({ type: 'Internal' });
  expect(await db.deliveryAttempt.count({ where: { deliveryId: first } })).toBe(0);

  await db.signingSecret.updateMany({ data: { ciphertext: new Uint8Array(40) } });
  await expect(deliverEvent(second)).rejects.toMatchObject({ type: 'NotAgreed' });
  expect(await db.deliveryAttempt.findFirstOrThrow({ where: { deliveryId: second } })).toMatchObject({
    outcome: 'unknown',
    detail: expect.stringContaining('was stored under another NODROP_SECRET'),
  });
});
