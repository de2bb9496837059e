import { Client, Connection } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime } from '@temporalio/worker';
import { expect, test } from 'vitest';
import { declarationOf } from '../../src/channels/simulator/adapter.ts';
import { hashSecret } from '../../src/client-token.ts';
import type { ChannelAdapter } from '../../src/domain/channel.ts';
import { createLedgerClient } from '../../src/ledger/client.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { insertPayment } from '../../src/ledger/new-payment.ts';
import { OrderServiceClient } from '../../src/order-service/client.ts';
import { DeliveryWorkflows } from '../../src/temporal/delivery-workflows.ts';
import { PaymentWorkflows } from '../../src/temporal/payment-workflows.ts';
import { RefundWorkflows } from '../../src/temporal/refund-workflows.ts';
import { workflowBundle } from '../../src/worker/bundle.ts';
import { createWorkers } from '../../src/worker/workers.ts';
import { NET_MS } from '../support/progress.ts';
import { eventually, freshDatabase, startTemporal } from '../support/stack.ts';

/**
 * Tests the rate limit of task queues on the real server. Over 10 s, the average number of calls per second is at most
 * the limit of the channel. In any single second, there are at most twice as many calls. The channel only records the
 * time of each call.
 */
test('calls to a channel never exceed its rate limit, however many payments wait', async () => {
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  const LIMIT = 20;
  const PAYMENTS = 150;
  const calls: number[] = [];
  const stalls = watchStalls();
  const channel: ChannelAdapter = {
    declaration: {
      ...declarationOf('simulator'),
      name: 'counter',
      rateLimit: { perSecond: LIMIT, source: 'this test' },
    },
    async createTrade() {
      calls.push(Date.now());
      return { action: { type: 'redirect', url: 'https://wallet.example' } };
    },
    async queryTrade() {
      calls.push(Date.now());
      return { state: 'unpaid' };
    },
    async closeTrade() {
      calls.push(Date.now());
      return { state: 'closed' };
    },
    refundTrade() {
      throw new Error('not called');
    },
    queryRefund() {
      throw new Error('not called');
    },
    verifyCallback() {
      throw new Error('not called');
    },
    peekOutTradeNo: () => undefined,
    checkAccount() {
      throw new Error('not called');
    },
  };
  const temporal = await startTemporal();
  const database = await freshDatabase();
  const db = createLedgerClient(database.url);
  // A separate database client, like the API's own client. The worker's client limits the transactions of a merchant.
  const apiDb = createLedgerClient(database.url);
  const connection = await NativeConnection.connect({ address: temporal.address });
  const clientConnection = await Connection.connect({ address: temporal.address });
  const client = new Client({ connection: clientConnection });
  const workflows = new PaymentWorkflows(client, { queryScheduleMs: () => [1_000] });
  const workers = await createWorkers({
    connection,
    namespace: 'default',
    client,
    workflows,
    refundWorkflows: new RefundWorkflows(client),
    deliveryWorkflows: new DeliveryWorkflows(client),
    orderServices: new OrderServiceClient({ allowPrivate: false }),
    workflowBundle: await workflowBundle(),
    db,
    channels: new Map([['counter', channel]]),
    publicUrl: 'http://127.0.0.1:9',
    secret: 'a secret of at least 32 characters',
    now: async () => new Date(),
  });
  const running = Promise.all(workers.map((worker) => worker.run()));
  try {
    const { merchant } = await ensureMerchant(apiDb, 'shop', ['counter']);
    for (let i = 0; i < PAYMENTS; i++) {
      const { payment } = await insertPayment(
        apiDb,
        merchant.id,
        { id: `o${i}`, amount: 1, currency: 'CNY', subject: 'x', metadata: {}, expiresInSeconds: undefined },
        {
          channel: 'counter',
          method: 'wallet',
          payer: undefined,
          returnUrl: undefined,
          metadata: {},
          // All payments expire at the same time, in the middle of the test. Then all of them are queried and
          // closed.
          expiresInMs: 15_000,
          askedAttempts: new Set(),
        },
        hashSecret,
        new Date(),
      );
      await workflows.wake(payment, NET_MS);
    }
    // Every payment is queried each second, so that both task queues (creates and queries) have a backlog.
    await eventually(() => calls.length > 0 && Date.now() - (calls[0] ?? 0) > 22_000);
  } finally {
    for (const worker of workers) worker.shutdown();
    await running;
    await Promise.all([connection.close(), clientConnection.close(), db.$disconnect(), apiDb.$disconnect()]);
    await database.drop();
    await temporal.stop();
  }
  expect(calls.length).toBeGreaterThan(100);
  for (const from of calls) {
    const within = (ms: number) => calls.filter((at) => at >= from && at < from + ms).length;
    // While this process is paused, the Temporal server may hand out tasks. After the pause, all these tasks arrive at
    // once.
    const late = (ms: number) => (LIMIT * stalls.stalledMs(from - 2_000, from + ms)) / 1_000;
    expect(within(1_000)).toBeLessThanOrEqual(2 * LIMIT + late(1_000));
    // A queue may use a saved burst once, in its first second. For this burst, both bounds allow LIMIT more calls.
    expect(within(10_000)).toBeLessThanOrEqual(10 * LIMIT + LIMIT + late(10_000));
  }
});

const LOOK_EVERY_MS = 50;

/** Records the times at which this process was paused because the machine was busy. */
function watchStalls() {
  const stalls: { readonly end: number; readonly ms: number }[] = [];
  let last = Date.now();
  setInterval(() => {
    const now = Date.now();
    if (now - last > 2 * LOOK_EVERY_MS) stalls.push({ end: now, ms: now - last });
    last = now;
  }, LOOK_EVERY_MS).unref();
  return {
    stalledMs: (from: number, to: number): number =>
      stalls.filter(({ end }) => end > from && end <= to).reduce((sum, { ms }) => sum + ms, 0),
  };
}
