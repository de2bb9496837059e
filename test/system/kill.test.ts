import Long from 'long';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { endConnections, eventually } from '../support/stack.ts';
import { type System, startSystem } from '../support/system.ts';

/**
 * Tests that no payment is lost when processes of the real system are killed (promise P1). If any process dies after
 * the payer has paid, the order becomes paid without an operator's help.
 */

let system: System;
beforeAll(async () => {
  // A short query schedule keeps the tests short.
  system = await startSystem({ withWorker: true, env: { NODROP_QUERY_SCHEDULE: '2s' } });
});
afterAll(async () => {
  await system?.stop();
});

describe('one failure at a time', () => {
  beforeEach(async () => {
    await system.simulator.setFaults({
      callback: { dropRate: 0, delayMs: 0 },
      query: { latencyMs: 0, lagMs: 0 },
    });
  });

  test('if nothing fails, the payer pays, the callback arrives, and the order is paid', async () => {
    // A worker that has just started may need longer to create a payment than the API waits for the result.
    const created = await eventually(async () => {
      const answer = await system.pay();
      return answer.status === 201 && answer;
    });
    expect(created.body).toMatchObject({
      status: 'paying',
      orderUpdate: null,
      nextAction: { type: 'redirect' },
      payUrl: `${system.config.simulator.url}/pay/${created.body.id}`,
      temporalUrl: expect.stringContaining(encodeURIComponent(`payment/${created.body.id}`)),
    });
    expect(created.body.clientToken).toMatch(/^ct_/);
    const page = await fetch(created.body.payUrl);
    expect(page.status).toBe(200);

    const waiting = system.api('GET', `/v1/orders/${created.body.orderId}?wait=20`);
    expect((await system.simulator.pay(created.body.id)).status).toBe(200);
    expect((await waiting).body).toMatchObject({
      status: 'succeeded',
      paidPaymentId: created.body.id,
      payments: [{ id: created.body.id, status: 'succeeded', orderUpdate: 'applied', receivedAmount: 1990 }],
    });
    const { body } = await system.api('GET', `/v1/payments/${created.body.id}/timeline`);
    expect(body.data.map(({ kind }: { kind: string }) => kind)).toEqual(
      expect.arrayContaining(['transition', 'callback', 'order']),
    );
  });

  test('if all database connections are cut repeatedly, every process keeps running and every payment continues', async () => {
    const pids = () => [system.pidOf('worker'), system.pidOf('api')];
    const before = pids();
    let isOver = false;
    const orders = Array.from({ length: 20 }, (_, i) => {
      return { id: `cut-off-${i}`, amount: 1990, currency: 'CNY', subject: 'Coffee' };
    });
    const payments = await Promise.all(orders.map((order) => system.pay({ order })));
    // Each repeated request returns the existing payment, and runs a database transaction.
    const keepPaying = async (order: object) => {
      while (!isOver) await system.pay({ order }).catch(() => undefined);
    };
    const load = orders.map(keepPaying);
    const counts = { 'nodrop-worker': 50, 'nodrop-changes': 5, 'nodrop-api': 300 };
    const hasEnded = () => pids().some((pid, i) => pid !== before[i]);
    try {
      for (const [name, count] of Object.entries(counts))
        await endConnections(system.config.databaseUrl, count, hasEnded, name);
    } finally {
      isOver = true;
      await Promise.all(load);
    }
    expect(pids()).toEqual(before);
    for (const { body } of payments) await system.simulator.pay(body.id);
    for (const { id } of orders) await eventually(async () => (await system.orderStatus(id)) === 'succeeded');
  });

  describe('after the payer paid, the callback is lost and a program is killed with -9', () => {
    test.each(['worker', 'api', 'temporal', 'postgres'] as const)(
      'the money is detected after the program is killed: %s',
      async (victim) => {
        await system.simulator.setFaults({ callback: { dropRate: 1 } });
        const { body } = await eventually(async () => {
          const answer = await system.pay();
          return answer.status === 201 && answer;
        });
        await system.simulator.pay(body.id);
        system.kill(victim);
        await eventually(async () => {
          const status = await system.orderStatus(body.orderId).catch(() => undefined);
          return status === 'succeeded';
        });
        const shown = await eventually(async () => {
          const answer = await system.api('GET', `/v1/payments/${body.id}`).catch(() => undefined);
          return answer?.status === 200 && answer.body;
        });
        expect(shown).toMatchObject({ status: 'succeeded', orderUpdate: 'applied', settledBy: 'query' });
      },
    );
  });

  test('if a worker is killed during a query, the payment is still detected as paid', async () => {
    // The channel's answers still say unpaid. So queries continue, and the worker can be killed during one of
    // them.
    await system.simulator.setFaults({
      callback: { dropRate: 1 },
      query: { latencyMs: 1500, lagMs: 3_600_000 },
    });
    const { body } = await system.payable();
    await system.simulator.pay(body.id);
    await eventually(async () => {
      const { raw } = await system.temporal.workflow.getHandle(`payment/${body.id}`).describe();
      return raw.pendingActivities?.some(
        ({ activityType, state }) => activityType?.name === 'queryChannel' && state === 2,
      );
    });
    system.kill('worker');
    await system.simulator.setFaults({ query: { lagMs: 0 } });
    await eventually(async () => (await system.orderStatus(body.orderId)) === 'succeeded');
  });

  test('if the callback arrives while PostgreSQL, Temporal and the worker are down, a retry or a query still detects the money', async () => {
    const { body } = await eventually(async () => {
      const answer = await system.pay();
      return answer.status === 201 && answer;
    });
    await system.simulator.setFaults({ callback: { delayMs: 200 } });
    await system.simulator.pay(body.id);
    for (const victim of ['postgres', 'temporal', 'worker'] as const) system.kill(victim);
    await eventually(async () => {
      const status = await system.orderStatus(body.orderId).catch(() => undefined);
      return status === 'succeeded';
    });
  });

  test('the Temporal Web UI shows what a waiting payment waits for', async () => {
    await eventually(async () => (await fetch(`${system.apiUrl}/readyz`)).ok);
    const { body } = await eventually(async () => {
      const answer = await system.pay();
      return answer.status === 201 && answer;
    });
    const run = system.temporal.workflow.getHandle(`payment/${body.id}`);
    const pending = await eventually(async () => {
      const { raw } = await run.describe();
      return raw.pendingActivities?.find(
        ({ activityType, attempt, lastFailure }) =>
          activityType?.name === 'queryChannel' && attempt === 2 && lastFailure,
      );
    });
    expect(pending.lastFailure?.message).toBe(
      'simulator says: not paid yet. Not an error; the next attempt follows on schedule.',
    );
    expect(pending.lastFailure?.stackTrace ?? '').toBe('');
    const description = await run.describe();
    expect(await description.staticSummary()).toBe(`CNY 19.90 through simulator, order ${body.orderId}`);
    const metadata = await run.query<{ currentDetails: string }>('__temporal_workflow_metadata');
    expect(metadata.currentDetails).toContain('Waiting for the payer to pay');
    expect(metadata.currentDetails).toContain(`order ${body.orderId}`);
    expect(metadata.currentDetails).toMatch(/since \d\d:\d\d:\d\d UTC, expires .* UTC/);
    expect(metadata.currentDetails).toMatch(/queries every 2 s until/);
    expect(description.typedSearchAttributes.getAll().map(({ key, value }) => [key.name, value])).toEqual(
      expect.arrayContaining([
        ['PaymentStatus', 'paying'],
        ['PaymentChannel', 'simulator'],
        ['OrderId', body.orderId],
      ]),
    );
  });
});

// These tests spend most of their time waiting for a sweep, so they run concurrently.
describe.concurrent('failures that nodrop repairs without an operator or a request', () => {
  beforeAll(async () => {
    await system.simulator.setFaults({
      callback: { dropRate: 1, delayMs: 0 },
      query: { latencyMs: 0, lagMs: 0 },
    });
  });

  test('the sweep ends an expired payment whose workflow no longer exists in Temporal', async () => {
    const { body } = await system.payable();
    const long = new Date(Date.now() - 3_600_000);
    const template = await system.db.payment.findUniqueOrThrow({ where: { id: body.id } });
    const { id: _, metadata: __, payer: ___, nextAction: ____, channelAnswer: _____, ...others } = template;
    const { referenceData: ______, disputes: _______, ...columns } = others;
    await system.db.order.create({
      data: {
        merchantId: columns.merchantId,
        id: 'overdue',
        amount: 1990n,
        currency: 'CNY',
        subject: 'x',
        status: 'paying',
      },
    });
    const overdue = { ...columns, id: 'pay_overdue', orderId: 'overdue', createdAt: long, expiresAt: long };
    await system.db.payment.create({ data: overdue });
    await eventually(async () => (await system.orderStatus('overdue')) === 'unpaid');
    expect((await system.api('GET', '/v1/payments/pay_overdue')).body.status).toBe('closed');
  });

  describe('workflows that are ended from the Web UI or the command line', () => {
    const swept = async (paymentId: string) => {
      await eventually(async () => {
        const { body } = await system.api('GET', `/v1/payments/${paymentId}/timeline`);
        return body.data?.some(({ kind }: { kind: string }) => kind === 'sweep');
      });
    };

    test('the sweep restarts a terminated workflow, and the workflow detects the money', async () => {
      const { body } = await system.payable();
      await system.temporal.workflow.getHandle(`payment/${body.id}`).terminate('by mistake');
      await system.simulator.pay(body.id);
      await swept(body.id);
      await eventually(async () => (await system.orderStatus(body.orderId)) === 'succeeded');
    });

    test('a workflow that is reset to its beginning reads the ledger and continues', async () => {
      const { body } = await system.payable();
      const run = system.temporal.workflow.getHandle(`payment/${body.id}`);
      const { runId } = await run.describe();
      await system.temporal.workflowService.resetWorkflowExecution({
        namespace: system.config.temporal.namespace,
        workflowExecution: { workflowId: `payment/${body.id}`, runId },
        workflowTaskFinishEventId: Long.fromNumber(4),
        reason: 'by an operator',
        requestId: body.id,
      });
      await system.simulator.pay(body.id);
      await eventually(async () => (await system.orderStatus(body.orderId)) === 'succeeded');
      const trade = (await system.simulator.ledger()).find(({ outTradeNo }) => outTradeNo === body.id);
      expect(trade?.state).toBe('SUCCESS');
    });

    test('after "Request Cancellation" the trade is queried and closed at the channel, and the order can be paid again', async () => {
      const { body } = await system.payable();
      await system.temporal.workflow.getHandle(`payment/${body.id}`).cancel();
      await eventually(
        async () => (await system.api('GET', `/v1/payments/${body.id}`)).body.status === 'cancelled',
      );
      const trade = (await system.simulator.ledger()).find(({ outTradeNo }) => outTradeNo === body.id);
      expect(trade?.state).toBe('CLOSED');
      expect(await system.orderStatus(body.orderId)).toBe('unpaid');
    });
  });
});
