import { beforeEach, describe, expect, test, vi } from 'vitest';
import {
  ago,
  attempts,
  clock,
  db,
  HOUR,
  MINUTE,
  merchantId,
  newPayments,
  payment,
  running,
  started,
  sweep,
  swept,
  temporal,
  woken,
} from './sweep-support.ts';

// Tests the steps of the sweep, with a real database and a fake Temporal client.

test('the sweep settles recorded money, and signals a running workflow that has not learned of the money', async () => {
  const money = { state: 'paid', channelPaymentId: 't', amount: 10, currency: 'CNY', by: 'callback' };
  const paid = {
    channelAnswer: { ...money, paidAt: ago(0).toISOString() },
    channelAnsweredAt: ago(2 * MINUTE),
  };
  const [unheard = ''] = await newPayments(1, paid);
  const [overdue = ''] = await newPayments(1, { expiresAt: ago(HOUR) });
  for (const id of [unheard, overdue]) running.add(`payment/${id}`);
  expect(await sweep.sweepPayments()).toBe(1);
  expect(await payment(unheard)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
  expect(await swept(unheard)).toEqual(['The sweep settled the money on record.']);
  expect(woken).toEqual([unheard]);
  // The sweep checks a payment at most once in five minutes.
  clock.now += MINUTE;
  await sweep.sweepPayments();
  expect(woken).toEqual([unheard]);
});

test("if recorded money cannot be settled, the sweep still signals the payment's workflow and checks its state", async () => {
  const money = { state: 'paid', channelPaymentId: 't', amount: 10, currency: 'CNY', by: 'callback' };
  const [id = ''] = await newPayments(1, {
    channelAnswer: { ...money, paidAt: ago(0).toISOString() },
    channelAnsweredAt: ago(2 * MINUTE),
  });
  running.add(`payment/${id}`);
  attempts.set(`payment/${id}`, 6);
  await db.$executeRaw`
    CREATE FUNCTION refuse_settling() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'broken'; END $$`;
  await db.$executeRaw`
    CREATE TRIGGER refuse_settling BEFORE UPDATE OF status ON payments FOR EACH ROW
    WHEN (NEW.status = 'succeeded') EXECUTE FUNCTION refuse_settling()`;
  try {
    await expect(sweep.sweepPayments()).rejects.toThrow(/^0 repaired, 1 failed/);
  } finally {
    await db.$executeRaw`DROP FUNCTION refuse_settling CASCADE`;
  }
  expect(woken).toEqual([id]);
  expect(await payment(id)).toMatchObject({ status: 'paying', attention: 'workflow_stuck' });
  clock.now += 5 * MINUTE;
  expect(await sweep.sweepPayments()).toBe(1);
  expect(await payment(id)).toMatchObject({ status: 'succeeded', attention: 'workflow_stuck' });
});

test("if a requested cancellation was not signalled, the sweep signals the payment's workflow, even if the workflow is running", async () => {
  const wanted = async (ms: number) => (await newPayments(1, { cancelRequestedAt: ago(ms) }))[0] ?? '';
  const lost = await wanted(2 * MINUTE);
  const fresh = await wanted(MINUTE / 2);
  const dead = await wanted(3 * MINUTE);
  for (const id of [lost, fresh]) running.add(`payment/${id}`);
  expect(await sweep.sweepPayments()).toBe(1);
  expect([...woken].sort()).toEqual([lost, dead].sort());
  expect([await swept(lost), await swept(fresh), await swept(dead)]).toEqual([
    [],
    [],
    ['The sweep found the payment without a running workflow and started one.'],
  ]);
  // The next sweep checks only `fresh`, because the sweep checks a payment at most once in five minutes.
  clock.now += MINUTE;
  await sweep.sweepPayments();
  expect(woken.slice(2)).toEqual([fresh]);
});

describe('a step of the sweep', () => {
  let time = 0;
  beforeEach(() => {
    time = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => time);
  });

  test('continues with the next batch until nothing is left or its time has passed', async () => {
    await newPayments(250, { status: 'created', createdAt: ago(HOUR) });
    expect(await sweep.sweepPayments()).toBe(250);
    expect(new Set(woken).size).toBe(250);
    temporal.onDescribe = () => {
      time += 190;
    };
    woken.length = 0;
    clock.now += HOUR;
    expect(await sweep.sweepPayments()).toBe(211);
    // Rows that the step leased but did not process can be leased again after a minute.
    time = 0;
    clock.now += MINUTE;
    expect(await sweep.sweepPayments()).toBe(39);
    expect(new Set(woken).size).toBe(250);
  });

  test('closes expired orders batch after batch', async () => {
    const order = { merchantId, amount: 10n, currency: 'CNY', subject: 'x', expiresAt: ago(MINUTE) };
    await db.order.createMany({
      data: Array.from({ length: 120 }, (_, i) => ({ ...order, id: `end-${i}` })),
    });
    expect(await sweep.sweepOrders()).toBe(120);
  });
});

test('the sweep adds no timeline entry to a refund whose workflow is running', async () => {
  const [paymentId = ''] = await newPayments(1, {
    ...{ status: 'succeeded', orderUpdate: 'applied', orderUpdatedAt: ago(0), channelPaymentId: 't' },
    ...{
      settledBy: 'query',
      settledAt: ago(0),
      paidAt: ago(0),
      receivedAmount: 10n,
      receivedCurrency: 'CNY',
    },
  });
  const row = { merchantId, paymentId, amount: 1n, currency: 'CNY', reason: 'requested' };
  for (const id of ['re_held', 're_lost'])
    await db.refund.create({ data: { ...row, id, createdAt: ago(HOUR), updatedAt: ago(0) } });
  running.add('refund/re_held');
  expect(await sweep.sweepRefunds()).toBe(1);
  expect(started).toEqual(['re_lost']);
  expect(await swept(paymentId)).toEqual(['The sweep started the workflow of refund re_lost.']);
  clock.now += MINUTE;
  expect(await sweep.sweepRefunds()).toBe(0);
});

describe('expired orders', () => {
  const expired = { amount: 10n, currency: 'CNY', subject: 'x' };
  const newOrder = (id: string, createdAt: Date) =>
    db.order.create({ data: { ...expired, merchantId, id, createdAt, expiresAt: ago(MINUTE) } });
  const order = (id: string) => db.order.findUniqueOrThrow({ where: { merchantId_id: { merchantId, id } } });

  test('if closing one order fails, the other orders are still closed, and the sweep tries the failed order again later', async () => {
    await db.$executeRaw`
      CREATE FUNCTION refuse_broken() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN RAISE EXCEPTION 'broken'; END $$`;
    await db.$executeRaw`
      CREATE TRIGGER refuse_broken BEFORE UPDATE OF status ON orders FOR EACH ROW
      WHEN (NEW.id = 'broken' AND NEW.status = 'closed') EXECUTE FUNCTION refuse_broken()`;
    try {
      await newOrder('broken', ago(HOUR));
      await newOrder('behind it', ago(2 * MINUTE));
      await expect(sweep.sweepOrders()).rejects.toThrow(/^1 repaired, 1 failed/);
      expect(await order('behind it')).toMatchObject({ status: 'closed' });
      expect(await order('broken')).toMatchObject({ status: 'unpaid' });
      // The sweep does not check this order again until five minutes have passed.
      expect(await sweep.sweepOrders()).toBe(0);
    } finally {
      await db.$executeRaw`DROP FUNCTION refuse_broken CASCADE`;
    }
    clock.now += 5 * MINUTE;
    expect(await sweep.sweepOrders()).toBe(1);
    expect(await order('broken')).toMatchObject({ status: 'closed' });
  });

  test('an order stays open while its money waits for a decision, and the sweep checks the order again after an hour', async () => {
    const [id = ''] = await newPayments(1, {
      ...{ status: 'succeeded', orderUpdate: 'review', orderUpdatedAt: ago(0), channelPaymentId: 't' },
      ...{ settledBy: 'query', settledAt: ago(0), paidAt: ago(0), receivedAmount: 9n },
      receivedCurrency: 'CNY',
    });
    const { orderId } = await db.payment.findUniqueOrThrow({ where: { id } });
    await db.order.updateMany({ where: { id: orderId }, data: { expiresAt: ago(MINUTE) } });
    expect(await sweep.sweepOrders()).toBe(0);
    expect(await order(orderId)).toMatchObject({
      ...{ status: 'unpaid', nextSweepAt: new Date(clock.now + HOUR) },
    });
  });
});
