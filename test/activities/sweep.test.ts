import { WorkflowNotFoundError } from '@temporalio/client';
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { type SweepActivities, type SweepDeps, sweepActivities } from '../../src/activities/sweep.ts';
import { newDeliveryId, newEventId, newPaymentId } from '../../src/domain/ids.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import type { PaymentWorkflows } from '../../src/temporal/payment-workflows.ts';
import type { RefundWorkflows } from '../../src/temporal/refund-workflows.ts';
import { useDatabase } from '../support/stack.ts';

// What the sweep's hauls do with what they find: the real database; Temporal only says which workflows run.

const [MINUTE, HOUR, DAY] = [60_000, 3_600_000, 86_400_000];

const { db } = useDatabase();
let merchantId: string;
let channelAccountId: string;
let sweep: SweepActivities;
const clock = { now: 0 };
/** Workflow ids. */
let running: Set<string>;
/** Of the workflow tasks that are pending, by workflow id. */
let attempts: Map<string, number>;
const temporal = { endedAbnormally: [] as string[], onDescribe: () => {} };
let woken: string[];
let started: string[];
/** Deliveries whose own workflow was woken. */
let told: string[];
/** Merchants whose redelivery was started. */
let redelivered: string[];

beforeAll(async () => {
  merchantId = (await ensureMerchant(db, 'shop', ['simulator'])).merchant.id;
  channelAccountId = (await db.channelAccount.findFirstOrThrow()).id;
  const client = {
    withAbortSignal: (_: AbortSignal, call: () => Promise<unknown>) => call(),
    workflow: {
      getHandle: (id: string) => ({
        async describe() {
          temporal.onDescribe();
          if (!running.has(id)) throw new WorkflowNotFoundError('not found', id, undefined);
          const attempt = attempts.get(id);
          const pendingWorkflowTask = attempt === undefined ? null : { attempt };
          return { status: { name: 'RUNNING' }, raw: { pendingWorkflowTask } };
        },
      }),
      async *list() {
        for (const workflowId of temporal.endedAbnormally) yield { workflowId };
      },
    },
  } as unknown as SweepDeps['client'];
  const workflows: Pick<PaymentWorkflows, 'wake'> = {
    async wake({ id }) {
      woken.push(id);
    },
  };
  const refundWorkflows: Pick<RefundWorkflows, 'start'> = {
    async start({ id }) {
      started.push(id);
    },
  };
  const deliveryWorkflows: SweepDeps['deliveryWorkflows'] = {
    async start() {},
    async redeliverWaiting(id) {
      redelivered.push(id);
    },
    async wake({ id }) {
      told.push(id);
    },
  };
  sweep = sweepActivities({
    db,
    client,
    workflows: workflows as PaymentWorkflows,
    refundWorkflows: refundWorkflows as RefundWorkflows,
    deliveryWorkflows,
    now: async () => new Date(clock.now),
  });
});
beforeEach(async () => {
  clock.now = Date.now();
  running = new Set();
  attempts = new Map();
  temporal.endedAbnormally = [];
  temporal.onDescribe = () => {};
  woken = [];
  started = [];
  told = [];
  redelivered = [];
  await db.$executeRaw`TRUNCATE payments, orders, refunds, callbacks, events, timeline CASCADE`;
});
afterEach(() => void vi.restoreAllMocks());

const ago = (ms: number) => new Date(clock.now - ms);
let orders = 0;
async function newPayments(count: number, of: object): Promise<string[]> {
  const rows = Array.from({ length: count }, () => ({
    ...{ id: newPaymentId(), merchantId, orderId: `o-${++orders}`, channel: 'simulator', channelAccountId },
    ...{ method: 'wallet', amount: 10n, currency: 'CNY', clientTokenHash: 'x', status: 'paying' },
    expiresAt: new Date(clock.now + HOUR),
    ...of,
  }));
  const order = { merchantId, amount: 10n, currency: 'CNY', subject: 'x' };
  await db.order.createMany({ data: rows.map(({ orderId }) => ({ ...order, id: orderId })) });
  await db.payment.createMany({ data: rows });
  return rows.map(({ id }) => id);
}
const payment = (id: string) => db.payment.findUniqueOrThrow({ where: { id } });
const swept = async (paymentId: string) =>
  (await db.timelineEntry.findMany({ where: { paymentId, kind: 'sweep' } })).map(({ detail }) => detail);

test('money on record that nobody settled is settled, and a workflow that runs and has not heard is told', async () => {
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
  // At most once in five minutes.
  clock.now += MINUTE;
  await sweep.sweepPayments();
  expect(woken).toEqual([unheard]);
});

test('money that cannot be settled keeps nothing else from the payment: its workflow is told, and shown', async () => {
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
    await expect(sweep.sweepPayments()).rejects.toThrow(/^0 healed, 1 not/);
  } finally {
    await db.$executeRaw`DROP FUNCTION refuse_settling CASCADE`;
  }
  expect(woken).toEqual([id]);
  expect(await payment(id)).toMatchObject({ status: 'paying', attention: 'workflow_stuck' });
  clock.now += 5 * MINUTE;
  expect(await sweep.sweepPayments()).toBe(1);
  expect(await payment(id)).toMatchObject({ status: 'succeeded', attention: 'workflow_stuck' });
});

test('a wish to cancel that its workflow never heard of: it is told, also when it runs', async () => {
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
    ['The sweep found it stuck and started its workflow.'],
  ]);
  // The other one's turn comes; they have their rest.
  clock.now += MINUTE;
  await sweep.sweepPayments();
  expect(woken.slice(2)).toEqual([fresh]);
});

describe('a haul', () => {
  let time = 0;
  beforeEach(() => {
    time = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => time);
  });

  test('goes on with the next batch until nothing is left, or its time is over', async () => {
    await newPayments(250, { status: 'created', createdAt: ago(HOUR) });
    expect(await sweep.sweepPayments()).toBe(250);
    expect(new Set(woken).size).toBe(250);
    temporal.onDescribe = () => {
      time += 190;
    };
    woken.length = 0;
    clock.now += HOUR;
    expect(await sweep.sweepPayments()).toBe(211);
    // What it had taken and not come to is free a minute later.
    time = 0;
    clock.now += MINUTE;
    expect(await sweep.sweepPayments()).toBe(39);
    expect(new Set(woken).size).toBe(250);
  });

  test('closes orders past their end batch after batch', async () => {
    const order = { merchantId, amount: 10n, currency: 'CNY', subject: 'x', expiresAt: ago(MINUTE) };
    await db.order.createMany({
      data: Array.from({ length: 120 }, (_, i) => ({ ...order, id: `end-${i}` })),
    });
    expect(await sweep.sweepOrders()).toBe(120);
  });
});

describe('workflows that ended abnormally', () => {
  test('one that had its order service still to tell is started again; one that had told it is over', async () => {
    const paid = {
      ...{ status: 'succeeded', channelPaymentId: 't', settledBy: 'query', settledAt: ago(HOUR) },
      ...{ paidAt: ago(HOUR), receivedAmount: 10n, receivedCurrency: 'CNY', channelAnsweredAt: ago(HOUR) },
    };
    const [untold = ''] = await newPayments(1, { ...paid, orderUpdate: 'pending' });
    const [told = ''] = await newPayments(1, { ...paid, orderUpdate: 'applied', orderUpdatedAt: ago(HOUR) });
    temporal.endedAbnormally = [untold, told].map((id) => `payment/${id}`);
    expect(await sweep.sweepAbnormalEnds()).toBe(1);
    expect(woken).toEqual([untold]);
    expect(await swept(untold)).toEqual([
      'The sweep found its workflow ended abnormally and started it again.',
    ]);
  });

  test('thousands that are healed or over hide none behind them', async () => {
    const healed = await newPayments(2_400, { nextSweepAt: new Date(clock.now + 4 * MINUTE) });
    const [lost = ''] = await newPayments(1, {});
    temporal.endedAbnormally = [...healed, lost].map((id) => `payment/${id}`);
    expect(await sweep.sweepAbnormalEnds()).toBe(1);
    expect(woken).toEqual([lost]);
    expect(await swept(lost)).toHaveLength(1);
  });

  test('what there is no time for is left to the next sweep, and it begins with that', async () => {
    const ids = await newPayments(5, {});
    temporal.endedAbnormally = ids.map((id) => `payment/${id}`);
    let time = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => time);
    temporal.onDescribe = () => {
      time += 15_000;
    };
    expect(await sweep.sweepAbnormalEnds()).toBe(3);
    clock.now += MINUTE;
    expect(await sweep.sweepAbnormalEnds()).toBe(2);
    expect([...woken].sort()).toEqual([...ids].sort());
  });

  test('a late watch that goes on, as the channel is silent or was not asked at its end, is started again', async () => {
    const ended = { status: 'closed', endedAt: ago(3 * DAY), expiresAt: ago(3 * DAY) };
    const [silent = ''] = await newPayments(1, {
      ...{ ...ended, channelErrorSince: ago(2 * DAY), channelAnsweredAt: ago(3 * DAY) },
    });
    const [unasked = ''] = await newPayments(1, { ...ended, channelAnsweredAt: ago(2 * DAY + HOUR) });
    // What its payer was given to pay with works until its expiry.
    const [payable = ''] = await newPayments(1, {
      ...ended,
      expiresAt: ago(-DAY),
      channelAnsweredAt: ago(0),
    });
    const [over = ''] = await newPayments(1, { ...ended, channelAnsweredAt: ago(2 * DAY) });
    temporal.endedAbnormally = [silent, unasked, payable, over].map((id) => `payment/${id}`);
    expect(await sweep.sweepAbnormalEnds()).toBe(3);
    expect([...woken].sort()).toEqual([silent, unasked, payable].sort());
  });
});

test('a refund whose workflow runs, say held back by a dispute, fills no timeline', async () => {
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

describe('workflows that are stuck', () => {
  const settled = {
    ...{ status: 'succeeded', channelPaymentId: 't', settledBy: 'query', receivedAmount: 10n },
    receivedCurrency: 'CNY',
  };
  /** A payment that is paid, and an event of it that is overdue. */
  async function newOverdue(type: string, orderUpdate: string): Promise<{ id: string; delivery: string }> {
    const orderUpdatedAt = orderUpdate === 'pending' ? null : ago(0);
    const times = { settledAt: ago(MINUTE), paidAt: ago(MINUTE), orderUpdatedAt };
    const [id = ''] = await newPayments(1, { ...settled, ...times, orderUpdate });
    const eventId = newEventId();
    const event = { id: eventId, merchantId, paymentId: id, type, version: 1, data: {} };
    await db.event.create({ data: event });
    const delivery = newDeliveryId();
    const row = { id: delivery, eventId, merchantId, paymentId: id, createdAt: ago(3 * MINUTE) };
    await db.delivery.create({ data: row });
    return { id, delivery };
  }
  const stuck = (workflowId: string, attempt = 6) => {
    running.add(workflowId);
    attempts.set(workflowId, attempt);
  };
  const later = () => {
    clock.now += 6 * MINUTE;
  };

  test('a payment whose order service is not told: it is shown, and the event is told without it', async () => {
    const { id, delivery } = await newOverdue('payment.succeeded', 'pending');
    stuck(`payment/${id}`, 5);
    await sweep.sweepDeliveries();
    expect([woken, told, (await payment(id)).attention]).toEqual([[id], [], null]);
    later();
    stuck(`payment/${id}`);
    await sweep.sweepDeliveries();
    expect([woken, told]).toEqual([[id], [delivery]]);
    expect(await payment(id)).toMatchObject({
      attention: 'workflow_stuck',
      attentionDetail: expect.stringContaining(`payment/${id}`),
    });
    // From now on it is the delivery's own workflow that is looked at.
    later();
    await sweep.sweepDeliveries();
    expect([woken, told]).toEqual([[id], [delivery, delivery]]);
  });

  test('a workflow that is busy is told of an event once: the server would count its attempts anew', async () => {
    const { id } = await newOverdue('payment.succeeded', 'pending');
    stuck(`payment/${id}`, 1);
    await sweep.sweepDeliveries();
    later();
    await sweep.sweepDeliveries();
    expect(woken).toEqual([id]);
  });

  test('one of a delivery or a refund is shown, and ends when none of the payment is stuck any more', async () => {
    const { id, delivery } = await newOverdue('refund.succeeded', 'applied');
    const refund = { merchantId, paymentId: id, amount: 1n, currency: 'CNY', reason: 'requested' };
    await db.refund.create({ data: { ...refund, id: 're_stuck', createdAt: ago(HOUR) } });
    stuck(`delivery/${delivery}`);
    stuck('refund/re_stuck');
    await sweep.sweepDeliveries();
    expect(await payment(id)).toMatchObject({
      attention: 'workflow_stuck',
      attentionDetail: expect.stringContaining(`delivery/${delivery}`),
    });
    attempts.delete(`delivery/${delivery}`);
    expect(await sweep.sweepStuck()).toBe(0);
    // A signal makes the server count anew: nothing is known until the task is done.
    stuck('refund/re_stuck', 1);
    expect(await sweep.sweepStuck()).toBe(0);
    attempts.delete('refund/re_stuck');
    expect(await sweep.sweepStuck()).toBe(1);
    expect(await payment(id)).toMatchObject({ attention: null });

    stuck('refund/re_stuck');
    expect(await sweep.sweepRefunds()).toBe(0);
    expect(started).toEqual([]);
    expect(await payment(id)).toMatchObject({
      attention: 'workflow_stuck',
      attentionDetail: expect.stringContaining('refund/re_stuck'),
    });
  });

  test('a payment that the sweep settled while nobody knew is looked at until that is known, and told once', async () => {
    const money = { state: 'paid', channelPaymentId: 't', amount: 10, currency: 'CNY', by: 'callback' };
    const [stays = '', ends = ''] = await newPayments(2, {
      channelAnswer: { ...money, paidAt: ago(0).toISOString() },
      ...{ channelAnsweredAt: ago(2 * MINUTE), cancelRequestedAt: ago(2 * MINUTE) },
    });
    for (const id of [stays, ends]) stuck(`payment/${id}`, 1);
    expect(await sweep.sweepPayments()).toBe(2);
    later();
    expect(await sweep.sweepPayments()).toBe(0);
    expect([...woken].sort()).toEqual([stays, ends].sort());
    expect(await payment(stays)).toMatchObject({ status: 'succeeded', attention: null });

    stuck(`payment/${stays}`);
    running.delete(`payment/${ends}`);
    later();
    expect(await sweep.sweepPayments()).toBe(0);
    expect(await payment(stays)).toMatchObject({ status: 'succeeded', attention: 'workflow_stuck' });
    expect(await payment(ends)).toMatchObject({ attention: null, workflowBusySince: null });
    expect(await swept(ends)).toEqual(['The sweep settled the money on record.']);

    attempts.delete(`payment/${stays}`);
    later();
    await sweep.sweepPayments();
    expect(await payment(stays)).toMatchObject({ workflowBusySince: null });
    expect(woken).toHaveLength(2);
  });

  test('what was dismissed stays hidden until the workflow got on and is stuck again', async () => {
    const [id = ''] = await newPayments(1, { expiresAt: ago(HOUR) });
    stuck(`payment/${id}`);
    const sweeps = async () => {
      later();
      await sweep.sweepPayments();
      return (await payment(id)).attention;
    };
    const hide = { attention: null, attentionSince: null, attentionDetail: null };
    expect(await sweeps()).toBe('workflow_stuck');
    await db.payment.update({ where: { id }, data: hide });
    expect(await sweeps()).toBe(null);
    await db.payment.update({
      where: { id },
      data: { attention: 'workflow_stuck', attentionSince: ago(0), attentionDetail: 'x' },
    });
    attempts.clear();
    expect(await sweep.sweepStuck()).toBe(1);
    stuck(`payment/${id}`);
    expect(await sweeps()).toBe('workflow_stuck');
  });

  test.each([
    ['channel_unreachable', 'workflow_stuck'],
    ['channel_undecided', 'channel_undecided'],
    ['disputed', 'disputed'],
    ['order_update_failing', 'order_update_failing'],
  ])('a payment that is shown as %s is shown as %s', async (before, after) => {
    const shown = { attention: before, attentionSince: ago(HOUR), attentionDetail: 'x' };
    const [id = ''] = await newPayments(1, { ...shown, expiresAt: ago(HOUR) });
    stuck(`payment/${id}`);
    await sweep.sweepPayments();
    expect((await payment(id)).attention).toBe(after);
  });
});

describe('orders past their end', () => {
  const expired = { amount: 10n, currency: 'CNY', subject: 'x' };
  const newOrder = (id: string, createdAt: Date) =>
    db.order.create({ data: { ...expired, merchantId, id, createdAt, expiresAt: ago(MINUTE) } });
  const order = (id: string) => db.order.findUniqueOrThrow({ where: { merchantId_id: { merchantId, id } } });

  test('one that cannot be released keeps no other from it, and is tried again later', async () => {
    await db.$executeRaw`
      CREATE FUNCTION refuse_broken() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN RAISE EXCEPTION 'broken'; END $$`;
    await db.$executeRaw`
      CREATE TRIGGER refuse_broken BEFORE UPDATE OF status ON orders FOR EACH ROW
      WHEN (NEW.id = 'broken' AND NEW.status = 'closed') EXECUTE FUNCTION refuse_broken()`;
    try {
      await newOrder('broken', ago(HOUR));
      await newOrder('behind it', ago(2 * MINUTE));
      await expect(sweep.sweepOrders()).rejects.toThrow(/^1 healed, 1 not/);
      expect(await order('behind it')).toMatchObject({ status: 'closed' });
      expect(await order('broken')).toMatchObject({ status: 'unpaid' });
      // It has its rest.
      expect(await sweep.sweepOrders()).toBe(0);
    } finally {
      await db.$executeRaw`DROP FUNCTION refuse_broken CASCADE`;
    }
    clock.now += 5 * MINUTE;
    expect(await sweep.sweepOrders()).toBe(1);
    expect(await order('broken')).toMatchObject({ status: 'closed' });
  });

  test('one that money waits in for a decision stays, and is looked at again after an hour', async () => {
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
