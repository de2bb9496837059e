import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { SWEEP_SCHEDULE_ID } from '../../src/domain/names.ts';
import { callbackFor } from '../support/callback.ts';
import { API_BUDGET_MS, unlessOutOfTime } from '../support/progress.ts';
import { eventually } from '../support/stack.ts';
import { type Answer, type System, startSystem } from '../support/system.ts';

/**
 * Tests cancelled, late and second payments over HTTP (promise P2). The channel's definite answer takes
 * precedence over every requested cancellation. Each race is run in both orders.
 */

let system: System;
/**
 * A payment with the shortest possible expiry. It is created before the first test, and the last test checks
 * it.
 */
let brief: Answer['body'];
beforeAll(async () => {
  system = await startSystem({ withWorker: true, env: { NODROP_QUERY_SCHEDULE: '60s' } });
  const order = { id: 'brief', amount: 500, currency: 'CNY', subject: 'x', expiresInSeconds: 60 };
  await system.api('POST', '/v1/orders', { ...order, id: 'brief-bare' });
  ({ body: brief } = await unlessOutOfTime(
    API_BUDGET_MS,
    () => system.pay({ order }),
    ({ status }) => status >= 500,
  ));
  expect(Date.parse(brief.expiresAt)).toBeLessThanOrEqual(Date.now() + 60_000);
});
afterAll(async () => {
  await system?.stop();
});
beforeEach(async () => {
  await system.simulator.setFaults({
    callback: { dropRate: 1 },
    query: { latencyMs: 0, errorRate: 0 },
    close: { errorRate: 0, ineffectiveRate: 0 },
    down: false,
  });
});

const trade = async (id: string) =>
  (await system.simulator.ledger()).find(({ outTradeNo }) => outTradeNo === id);
const get = async (path: string) => (await system.api('GET', path)).body;
/**
 * Requests a cancellation, and repeats the request until the API answers that the payment or order has ended.
 * @param path of a payment or an order
 */
const cancel = (path: string) =>
  unlessOutOfTime(
    API_BUDGET_MS,
    () => system.api('POST', `${path}/cancel`),
    ({ status }) => status === 202,
  );

describe('cancelling a payment', () => {
  test('an unpaid payment is queried, closed at the channel and cancelled, and a repeated request gets the same answer', async () => {
    const { body } = await system.payable();
    for (let i = 0; i < 2; i++) {
      const cancelled = await cancel(`/v1/payments/${body.id}`);
      expect([cancelled.status, cancelled.body.status]).toEqual([200, 'cancelled']);
      expect(cancelled.body.cancelRequestedAt).not.toBeNull();
    }
    expect((await trade(body.id))?.state).toBe('CLOSED');
    expect(await system.orderStatus(body.orderId)).toBe('unpaid');
    expect((await system.simulator.pay(body.id)).status).toBe(409);
  });

  test('a payment that has been paid is not cancelled, even if its callback has not arrived yet', async () => {
    const { body } = await system.payable();
    await system.simulator.pay(body.id);
    const refused = await cancel(`/v1/payments/${body.id}`);
    expect([refused.status, refused.body.code]).toEqual([409, 'payment_already_paid']);
    expect(await system.orderStatus(body.orderId)).toBe('succeeded');
  });

  test('if the channel cannot answer, the request is answered 202, and the payment is cancelled as soon as the channel answers', async () => {
    const { body } = await system.payable();
    await system.simulator.setFaults({ down: true });
    const accepted = await system.api('POST', `/v1/payments/${body.id}/cancel`);
    expect([accepted.status, accepted.body.status]).toEqual([202, 'paying']);
    expect(accepted.body.cancelRequestedAt).not.toBeNull();
    await system.simulator.setFaults({ down: false });
    await eventually(async () => (await get(`/v1/payments/${body.id}`)).status === 'cancelled');
  });

  test('if a cancel, a payment and a callback arrive concurrently, the channel, the payment and the order end with the same outcome', async () => {
    const rounds = await Promise.all(
      Array.from({ length: 8 }, async (_, i) => {
        const { body } = await system.payable({
          order: { id: `race-${i}`, amount: 1990, currency: 'CNY', subject: 'x' },
        });
        const path = `/v1/payments/${body.id}`;
        const pay = async () => {
          const paid = await system.simulator.pay(body.id);
          if (paid.status === 200) await fetch(...callbackFor(system, body.id));
          return paid;
        };
        const [answer] =
          i % 2 === 0
            ? await Promise.all([cancel(path), pay()])
            : (await Promise.all([pay(), cancel(path)])).reverse();
        return { id: body.id as string, orderId: `race-${i}`, answer };
      }),
    );
    for (const { id, orderId, answer } of rounds) {
      const state = (await trade(id))?.state;
      await eventually(async () =>
        ['cancelled', 'succeeded'].includes((await get(`/v1/payments/${id}`)).status),
      );
      const { status } = await get(`/v1/payments/${id}`);
      expect([state, status, answer?.status, await system.orderStatus(orderId)]).toEqual(
        state === 'SUCCESS'
          ? ['SUCCESS', 'succeeded', 409, 'succeeded']
          : ['CLOSED', 'cancelled', 200, 'unpaid'],
      );
    }
  });
});

describe('cancelling an order', () => {
  test("the order's live payments end first, on every channel, and the order accepts no new payment", async () => {
    const { body } = await system.payable();
    const cancelled = await cancel(`/v1/orders/${body.orderId}`);
    expect([cancelled.status, cancelled.body.status]).toEqual([200, 'cancelled']);
    expect(cancelled.body.payments).toMatchObject([{ status: 'cancelled' }]);
    expect((await trade(body.id))?.state).toBe('CLOSED');
    const again = await system.pay({ order: undefined, orderId: body.orderId });
    expect([again.status, again.body.code]).toEqual([409, 'order_not_payable']);
    expect((await cancel(`/v1/orders/${body.orderId}`)).status).toBe(200);
  });

  test('if the channel cannot answer, the request is answered 202, and the order accepts no new payment and is cancelled as soon as the channel answers', async () => {
    const { body } = await system.payable();
    await eventually(async () => (await get(`/v1/payments/${body.id}`)).status === 'paying');
    await system.simulator.setFaults({ down: true });
    const accepted = await system.api('POST', `/v1/orders/${body.orderId}/cancel`);
    expect([accepted.status, accepted.body.status]).toEqual([202, 'paying']);
    expect(accepted.body.cancelRequestedAt).not.toBeNull();
    const another = await system.pay({ order: undefined, orderId: body.orderId });
    expect([another.status, another.body.code]).toEqual([409, 'order_not_payable']);
    await system.simulator.setFaults({ down: false });
    await eventually(async () => (await system.orderStatus(body.orderId)) === 'cancelled');
    expect((await get(`/v1/payments/${body.id}`)).status).toBe('cancelled');
    expect((await trade(body.id))?.state).toBe('CLOSED');
  });

  test('an order without payments is cancelled immediately, and a paid order is not cancelled', async () => {
    await system.api('POST', '/v1/orders', { id: 'bare', amount: 1, currency: 'CNY' });
    expect((await system.api('POST', '/v1/orders/bare/cancel')).body.status).toBe('cancelled');
    const { body } = await system.payable();
    await system.simulator.pay(body.id);
    const refused = await cancel(`/v1/orders/${body.orderId}`);
    expect([refused.status, refused.body.code]).toEqual([409, 'order_already_paid']);
  });

  test('money that arrives after the cancellation of an order does not pay the order and must be refunded', async () => {
    const { body } = await system.payable();
    await system.simulator.setFaults({ close: { ineffectiveRate: 1 } });
    await cancel(`/v1/orders/${body.orderId}`);
    await system.simulator.pay(body.id);
    await fetch(...callbackFor(system, body.id));
    await eventually(async () => (await get(`/v1/payments/${body.id}`)).orderUpdate === 'conflict');
    expect(await system.orderStatus(body.orderId)).toBe('cancelled');
    expect(await system.db.refund.findMany({ where: { paymentId: body.id } })).toMatchObject([
      { reason: 'late_payment', amount: 1990n },
    ]);
  });
});

describe('a new attempt on another channel', () => {
  const second = (orderId: string) => system.pay({ order: undefined, orderId, channel: 'simulator2' });

  /**
   * Calls `happened` for the first attempt, and then creates a second attempt. If the API's deadline passes,
   * repeats this with another order.
   */
  const beside = (expected: number, happened: (id: string) => Promise<unknown> = async () => undefined) =>
    unlessOutOfTime(
      API_BUDGET_MS,
      async () => {
        const { body: first } = await system.payable();
        await happened(first.id);
        return { first, answer: await second(first.orderId) };
      },
      ({ answer }) => answer.status !== expected,
    );

  test('if the first attempt is paid, it pays the order, and the request is answered 409', async () => {
    const { first, answer } = await beside(409, (id) => system.simulator.pay(id));
    expect([answer.status, answer.body.code]).toEqual([409, 'order_already_paid']);
    expect(await system.orderStatus(first.orderId)).toBe('succeeded');
  });

  test('if the first attempt is processing, the request is answered 409 with Retry-After', async () => {
    const { answer } = await beside(409, (id) => system.simulator.pay(id, 'processing'));
    expect([answer.status, answer.body.code]).toEqual([409, 'attempt_unresolved']);
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
  });

  test('if the first attempt is unpaid, it is closed at its channel, and the second attempt is created', async () => {
    const { first, answer } = await beside(201);
    expect(answer.status).toBe(201);
    expect((await trade(first.id))?.state).toBe('CLOSED');
    expect((await get(`/v1/payments/${first.id}`)).status).toBe('cancelled');
  });

  test('if the channel of the first attempt does not answer in time, the second attempt is created, and the first attempt stays live', async () => {
    const { body } = await system.payable();
    await system.simulator.setFaults({ query: { errorRate: 1 } });
    const made = await second(body.orderId);
    expect([201, 202]).toContain(made.status);
    expect((await get(`/v1/payments/${body.id}`)).status).toBe('paying');
    await system.simulator.setFaults({ query: { errorRate: 0 } });
  });
});

describe('a new attempt on the same channel when the previous attempt has less than 30 s left', () => {
  const again = (orderId: string) => system.pay({ order: undefined, orderId });
  const lookAtItsEnd = (id: string) =>
    system.db.$executeRaw`
      UPDATE payments SET created_at = now() - interval '10 min', expires_at = now() + interval '25 s'
      WHERE id = ${id}`;

  /**
   * Calls `happened` for the first attempt, and then creates a second attempt on the same channel. If the API's
   * deadline passes, repeats this with another order.
   */
  const following = (expected: number, happened: (id: string) => Promise<unknown> = async () => undefined) =>
    unlessOutOfTime(
      API_BUDGET_MS,
      async () => {
        const { body: first } = await system.payable();
        await happened(first.id);
        await lookAtItsEnd(first.id);
        return { first, answer: await again(first.orderId) };
      },
      ({ answer }) => answer.status !== expected,
    );

  test('an unpaid previous attempt is closed at the channel, and the new attempt can be paid', async () => {
    const { first, answer } = await following(201);
    expect([answer.status, answer.body.id === first.id]).toEqual([201, false]);
    expect((await trade(first.id))?.state).toBe('CLOSED');
    expect((await system.simulator.pay(first.id)).status).toBe(409);
    // The first attempt may have expired in the meantime.
    expect(['cancelled', 'closed']).toContain((await get(`/v1/payments/${first.id}`)).status);
    expect((await system.simulator.pay(answer.body.id)).status).toBe(200);
    await fetch(...callbackFor(system, answer.body.id));
    await eventually(async () => (await system.orderStatus(first.orderId)) === 'succeeded');
  });

  test('a paid previous attempt pays the order, and the request is answered 409', async () => {
    const { first, answer } = await following(409, (id) => system.simulator.pay(id));
    expect([answer.status, answer.body.code]).toEqual([409, 'order_already_paid']);
    expect(await system.orderStatus(first.orderId)).toBe('succeeded');
  });

  test('if the previous attempt is processing, the request is answered 409 with Retry-After', async () => {
    const { first, answer } = await following(409, (id) => system.simulator.pay(id, 'processing'));
    expect([answer.status, answer.body.code]).toEqual([409, 'attempt_unresolved']);
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
    expect((await get(`/v1/payments/${first.id}`)).status).toBe('paying');
  });

  test.each([
    ['does not answer', { query: { errorRate: 1 }, close: { errorRate: 1 } }],
    ['does not close it', { close: { errorRate: 1 } }],
  ])(
    'if the channel %s, the answer is 409 with Retry-After, and a retry succeeds once the channel works again',
    async (_name, faults) => {
      const { body: first } = await system.payable();
      await lookAtItsEnd(first.id);
      await system.simulator.setFaults(faults);
      const refused = await again(first.orderId);
      expect([refused.status, refused.body.code]).toEqual([409, 'attempt_unresolved']);
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
      expect((await get(`/v1/payments/${first.id}`)).status).toBe('paying');
      expect((await get(`/v1/orders/${first.orderId}`)).payments).toHaveLength(1);
      await system.simulator.setFaults({ query: { errorRate: 0 }, close: { errorRate: 0 } });
      await eventually(async () => (await again(first.orderId)).body.id !== undefined);
      expect((await trade(first.id))?.state).toBe('CLOSED');
      expect((await get(`/v1/orders/${first.orderId}`)).payments).toHaveLength(2);
    },
  );
});

describe("a change of an order's amount", () => {
  /** Changes the amount of the order. If a channel does not answer in time, repeats the request. */
  const change = (orderId: string, amount: number) =>
    unlessOutOfTime(
      API_BUDGET_MS,
      () => system.api('PATCH', `/v1/orders/${orderId}`, { amount }),
      ({ status }) => status !== 200,
    );

  test('the live attempt is closed at its channel, and the next attempt pays the new amount', async () => {
    const { body } = await system.payable();
    const changed = await change(body.orderId, 2500);
    expect([changed.status, changed.body.amount, changed.body.status]).toEqual([200, 2500, 'unpaid']);
    expect((await trade(body.id))?.state).toBe('CLOSED');
    expect((await system.simulator.pay(body.id)).status).toBe(409);
    const { body: next } = await system.payable({ order: undefined, orderId: body.orderId });
    expect(next.amount).toBe(2500);
    expect(await trade(next.id)).toMatchObject({ amount: 2500 });
    await system.simulator.pay(next.id);
    await fetch(...callbackFor(system, next.id, { amount: 2500 }));
    await eventually(async () => (await system.orderStatus(body.orderId)) === 'succeeded');
    const refused = await change(body.orderId, 1);
    expect([refused.status, refused.body.code]).toEqual([409, 'order_already_paid']);
  });

  test('if the channel does not answer, the change is answered 409, and the attempt can still be paid with the old amount', async () => {
    const { body } = await system.payable();
    await system.simulator.setFaults({ down: true });
    const refused = await system.api('PATCH', `/v1/orders/${body.orderId}`, { amount: 2500 });
    expect([refused.status, refused.body.code]).toEqual([409, 'attempt_unresolved']);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    await system.simulator.setFaults({ down: false });
    await system.simulator.pay(body.id);
    await fetch(...callbackFor(system, body.id));
    await eventually(async () => (await system.orderStatus(body.orderId)) === 'succeeded');
  });

  test('money that arrives later for the old amount waits for an operator', async () => {
    const { body } = await system.payable();
    await system.simulator.setFaults({ close: { ineffectiveRate: 1 } });
    expect((await change(body.orderId, 2500)).status).toBe(200);
    await system.simulator.pay(body.id);
    await fetch(...callbackFor(system, body.id));
    await eventually(async () => (await get(`/v1/payments/${body.id}`)).orderUpdate === 'review');
    expect(await get(`/v1/payments/${body.id}`)).toMatchObject({
      ...{ attention: 'amount_mismatch', amount: 1990, receivedAmount: 1990, refundedAmount: 0 },
    });
    expect(await system.orderStatus(body.orderId)).toBe('unpaid');
  });
});

describe('a late success', () => {
  const lateSuccess = async (policy: string) => {
    await system.db.merchant.updateMany({ data: { latePayment: policy } });
    const { body } = await system.payable();
    // The channel has closed the trade. The payer was already in the wallet, and pays anyway.
    await system.simulator.setFaults({ close: { ineffectiveRate: 1 } });
    await cancel(`/v1/payments/${body.id}`);
    await system.simulator.pay(body.id);
    await system.db
      .$executeRaw`UPDATE payments SET expires_at = now() - interval '1 second' WHERE id = ${body.id}`;
    await fetch(...callbackFor(system, body.id));
    return await eventually(async () => {
      const row = await get(`/v1/payments/${body.id}`);
      return row.status === 'succeeded' && row;
    });
  };

  test('if the merchant applies late payments, the late money pays the order', async () => {
    const row = await lateSuccess('apply');
    expect(row).toMatchObject({ orderUpdate: 'applied', attention: null });
    expect(await system.orderStatus(row.orderId)).toBe('succeeded');
  });

  test('if the merchant refunds late payments, a refund of the late money is due, and the order stays unpaid', async () => {
    const row = await lateSuccess('refund');
    expect(row).toMatchObject({ orderUpdate: 'conflict' });
    expect(await system.orderStatus(row.orderId)).toBe('unpaid');
    expect(await system.db.refund.count({ where: { paymentId: row.id, reason: 'late_payment' } })).toBe(1);
  });

  test.each([
    ['accept', { orderUpdate: 'applied', attention: null }, 'succeeded'],
    ['refund', { orderUpdate: 'conflict' }, 'unpaid'],
  ])('with the policy review, an operator decides: %s', async (action, expected, orderStatus) => {
    const row = await lateSuccess('review');
    expect(row).toMatchObject({ orderUpdate: 'review', attention: 'late_payment_review' });
    const undecided = await system.pay({ order: undefined, orderId: row.orderId });
    expect([undecided.status, undecided.body.code]).toEqual([409, 'attempt_unresolved']);
    const resolved = await system.api('POST', `/v1/payments/${row.id}/resolve`, {
      action,
      note: 'the payer called',
    });
    expect(resolved.status).toBe(200);
    expect(resolved.body).toMatchObject(expected);
    expect(await system.orderStatus(row.orderId)).toBe(orderStatus);
    const again = await system.api('POST', `/v1/payments/${row.id}/resolve`, { action, note: 'twice' });
    expect([again.status, again.body.code]).toEqual([409, 'not_resolvable']);
    const timeline = await get(`/v1/payments/${row.id}/timeline`);
    expect(timeline.data.some(({ detail }: { detail: string }) => detail.includes('the payer called'))).toBe(
      true,
    );
  });
});

test('an expired order is closed when its last payment ends, or by the sweep if it has no payment', async () => {
  await eventually(async () => (await system.orderStatus('brief')) === 'closed');
  await system.temporal.schedule.getHandle(SWEEP_SCHEDULE_ID).trigger();
  await eventually(async () => (await system.orderStatus('brief-bare')) === 'closed');
  expect((await get(`/v1/payments/${brief.id}`)).status).toBe('closed');
  const late = await system.pay({ order: undefined, orderId: 'brief-bare' });
  expect([late.status, late.body.code]).toEqual([409, 'order_not_payable']);
});
