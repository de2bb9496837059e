import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { WorkflowExecutionDescription, WorkflowHandle } from '@temporalio/client';
import { IllegalStateError } from '@temporalio/common';
import { tsToMs } from '@temporalio/common/lib/time.js';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { DefaultLogger, type LogEntry, Runtime, type Worker } from '@temporalio/worker';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';
import { hashSecret } from '../../src/client-token.ts';
import type { CallbackRefund, ChannelAdapter, PaidAnswer, RefundAnswer } from '../../src/domain/channel.ts';
import { automaticRefundId } from '../../src/domain/ids.ts';
import { paymentWorkflowId } from '../../src/domain/names.ts';
import { DEFAULT_QUERY_SCHEDULE, parseSchedule } from '../../src/domain/schedule.ts';
import { storeCallback } from '../../src/ledger/callbacks.ts';
import { createLedgerClient, type LedgerClient } from '../../src/ledger/client.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { insertPayment } from '../../src/ledger/new-payment.ts';
import { toRefundSnapshot } from '../../src/ledger/payment-facts.ts';
import { requestRefund } from '../../src/ledger/refunds.ts';
import type { Merchant, Payment, Refund } from '../../src/ledger/rows.ts';
import { accountOf, tradeOf } from '../../src/ledger/trade-of-payment.ts';
import { OrderServiceClient } from '../../src/order-service/client.ts';
import { type Simulator, startSimulator } from '../../src/simulator/app.ts';
import { DeliveryWorkflows } from '../../src/temporal/delivery-workflows.ts';
import { forwardStoredCallback } from '../../src/temporal/forward-callback.ts';
import { PaymentWorkflows } from '../../src/temporal/payment-workflows.ts';
import { RefundWorkflows } from '../../src/temporal/refund-workflows.ts';
import { bundleWorkflows, workflowBundle } from '../../src/worker/bundle.ts';
import {
  createChannelWorkers,
  createMainWorker,
  createOrderServiceWorker,
  createSweepWorker,
  type WorkersOptions,
} from '../../src/worker/workers.ts';
import { client as simulatorClient } from '../simulator/support.ts';
import { ofTrade } from '../support/callback.ts';
import { NET_MS, unlessOutOfTime } from '../support/progress.ts';
import { createSimulatorAdapter } from '../support/simulator-adapter.ts';
import { eventually, freshDatabase, timeSkippingEnvironment, watchLedger } from '../support/stack.ts';

/**
 * A test harness with real workflows, activities, ledger and channel adapters. The channel is a real simulator,
 * and Temporal is the time-skipping server. All times that the code writes are the server's virtual time.
 */
export interface Harness {
  readonly env: TestWorkflowEnvironment;
  /** The channel adapters that the worker uses. */
  readonly channels: ReadonlyMap<string, ChannelAdapter>;
  /** The channels' signing secrets. */
  readonly secrets: Readonly<Record<'simulator' | 'simulator2', string>>;
  readonly db: LedgerClient;
  readonly databaseUrl: string;
  readonly simulator: ReturnType<typeof simulatorClient>;
  readonly merchant: Merchant;
  readonly workflows: PaymentWorkflows;
  readonly refundWorkflows: RefundWorkflows;
  readonly deliveryWorkflows: DeliveryWorkflows;
  /** A hook that runs once during the next query, after the channel has answered and before the answer is recorded. */
  onAnswer: ((outTradeNo: string) => Promise<void>) | undefined;
  /**
   * Intercepts all calls to the channel about refunds, including the first request of a refund. `ask` makes the
   * real call.
   */
  onRefund: ((ask: () => Promise<RefundAnswer>) => Promise<RefundAnswer>) | undefined;
  now(): Promise<number>;
  newPayment(options?: {
    /** The merchant's id. @default the harness's own merchant */
    merchantId?: string;
    orderId?: string;
    amount?: number;
    /** The currency. @default CNY */
    currency?: string;
    channel?: string;
    /** The payment method. @default the simulator's */
    method?: string;
    expiresInMs?: number;
  }): Promise<Payment>;
  /**
   * Resolves when the trade is created and the server has recorded its creation. A message that arrives earlier would
   * cancel the create activity. After a cancelled activity, the time-skipping server stops skipping time, or skips time
   * while a task runs.
   */
  start(payment: Payment): Promise<WorkflowHandle>;
  row(paymentId: string): Promise<Payment>;
  orderStatus(payment: Payment): Promise<string>;
  timeline(paymentId: string): Promise<string[]>;
  /**
   * Resolves when the payment has this status. Virtual time does not pass until then. Otherwise, if several
   * workflows are open, the time-skipping server may skip time while one of them has a task.
   */
  until(paymentId: string, status: string): Promise<void>;
  /**
   * Queries the channel now, as an operator does. When this resolves, the answer is in the ledger. The query is
   * repeated only if it timed out on a slow machine.
   */
  ask(payment: Payment): Promise<void>;
  /** The times of all queries, in seconds since the payment's creation. */
  askedAt(payment: Payment): number[];
  /**
   * The times of all queries by the real clock, in seconds. They are needed because real work between queries
   * also takes time on the virtual clock.
   */
  reallyAskedAt(payment: Payment): number[];
  /** The calls to the channel about the refund, with their times in seconds since the first call. */
  refundCalls(refundId: string): { call: 'refund' | 'query'; at: number }[];
  /** Creates a payment of a new order. The payment is paid and settled. */
  newPaid(options?: { amount?: number }): Promise<Payment>;
  /** Requests a refund as the API does, and starts its workflow. */
  refund(payment: Payment, amount?: number, idempotencyKey?: string): Promise<Refund>;
  /** Records an automatic refund, and starts its workflow. */
  owe(payment: Payment): Promise<Refund>;
  refundRow(refundId: string): Promise<Refund>;
  /** Resolves when the refund has this status. Virtual time does not pass until then. */
  untilRefund(refundId: string, status: string): Promise<void>;
  /**
   * Makes a refund directly at the channel, without nodrop. The refund can have the number of one of nodrop's refunds.
   */
  refundElsewhere(payment: Payment, amount: number, outRefundNo?: string): Promise<void>;
  /** Simulates a restored backup. The ledger loses all rows about the payment's refunds. */
  loseRefunds(payment: Payment): Promise<void>;
  /** Lets a create request that was lost reach the channel now. */
  lateCreate(payment: Payment): Promise<void>;
  /** Lets virtual time pass. */
  pass(seconds: number): Promise<void>;
  /**
   * Resolves when the workflow has cancelled its query activity while the channel's answer is still in flight.
   */
  pollCancelled(paymentId: string): Promise<void>;
  callback(
    payment: Payment,
    change?: Partial<PaidAnswer>,
    notificationId?: string,
    refund?: CallbackRefund,
  ): Promise<void>;
  /**
   * Stops the workers that call channels. Calls that are in flight may finish. The worker for workflows keeps
   * running, because the time-skipping server may have reserved a task for it and would never give this task to
   * another worker.
   */
  stopChannelWorkers(): Promise<void>;
  startChannelWorkers(): Promise<void>;
  /**
   * Replaces the main worker with a worker of another release. That worker has the interceptors of these
   * modules.
   */
  release(workflowInterceptors: readonly string[]): Promise<void>;
  /** True while a worker processes a workflow task or an activity task. */
  isWorking(): boolean;
  stop(): Promise<void>;
}

type PendingActivity = NonNullable<WorkflowExecutionDescription['raw']['pendingActivities']>[number];

/** True if the server considers an attempt of the activity to be running. False between attempts. */
export function isUnderWay(activity: PendingActivity): boolean {
  const { lastAttemptCompleteTime: completed, lastStartedTime: started } = activity;
  return completed == null || (started != null && tsToMs(completed) < tsToMs(started));
}

export interface HarnessOptions {
  /** @default the time-skipping server */
  readonly environment?: () => Promise<TestWorkflowEnvironment>;
  /**
   * The URL for the channel's callbacks.
   * @default callbacks are not delivered
   */
  readonly publicUrl?: string;
  /** @default DEFAULT_QUERY_SCHEDULE */
  readonly querySchedule?: string;
  /**
   * The paths of modules with workflow interceptors.
   * @default none, so the workflow code is the same as in production
   */
  readonly workflowInterceptors?: readonly string[];
  /** The number of workflows that a worker keeps in memory. @default as in production */
  readonly maxCachedWorkflows?: number;
  /** Channels that exist in addition to the two channels of the simulator. */
  readonly others?: readonly ChannelAdapter[];
  /** Wraps the adapter of each channel. */
  readonly between?: (adapter: ChannelAdapter) => ChannelAdapter;
  /** Wraps the database client of the workers. */
  readonly beforeLedger?: (db: LedgerClient) => LedgerClient;
  /**
   * Receives the errors that the Temporal SDK logs.
   * @default the errors are printed
   */
  readonly onLog?: (entry: LogEntry) => void;
  /**
   * The harness calls this function after each read of the server's clock. The arguments are the time of the server,
   * and the real times before and after the read, in epoch ms.
   */
  readonly onClock?: (reading: { said: number; asked: number; answered: number }) => void;
}

/** The `workflowInterceptors` for tests in which a message can cancel a running activity. */
export const LATE_CANCELLATION: readonly string[] = [
  fileURLToPath(new URL('../model/late-cancellation.ts', import.meta.url)),
];

/** The shortest timeout of a query. The simulator's adapter sets it. */
const ADAPTER_LIMIT_MS = 8_000;

/** The secret from which the client tokens are derived. */
export const SECRET = 'a secret of at least 32 characters';

/**
 * By how many seconds the time between two queries may differ from the expected time, if the work around the queries is
 * fast.
 */
const GAP_TOLERANCE = 1.5;

/**
 * Asserts that the channel was queried exactly at these seconds after the payment's creation. It compares the
 * gaps between queries. Real work between queries also takes time on the virtual clock. So on a slow machine, a
 * gap may differ by the duration of this work.
 */
export function expectAsked(h: Harness, payment: Payment, expected: readonly number[]): void {
  const asked = h.askedAt(payment);
  const really = h.reallyAskedAt(payment);
  /** The real time from query `i - 2` to query `i + 1`, in seconds. */
  const workAround = (i: number) => (really[i + 1] ?? really[i] ?? 0) - (really[i - 2] ?? 0);
  const gaps = (times: readonly number[]) => times.map((at, i) => at - (times[i - 1] ?? 0));
  const wanted = gaps(expected);
  const off = gaps(asked).findIndex(
    (gap, i) => Math.abs(gap - (wanted[i] ?? Number.NaN)) > Math.max(GAP_TOLERANCE, workAround(i)),
  );
  expect({ queries: asked.length, off, asked }).toMatchObject({ queries: expected.length, off: -1 });
}

/** The runtime, which all harnesses of a process share. */
function installRuntime(onLog: HarnessOptions['onLog']): void {
  try {
    Runtime.install({ logger: new DefaultLogger('ERROR', onLog) });
  } catch (error) {
    if (!(error instanceof IllegalStateError)) throw error;
  }
}

/** The workflow bundles, by their interceptors. All harnesses of a process share them. */
const bundles = new Map<string, ReturnType<typeof workflowBundle>>();

async function bundleOf(interceptors: readonly string[] = []): ReturnType<typeof workflowBundle> {
  const key = interceptors.join();
  const making = () => (interceptors.length === 0 ? workflowBundle() : bundleWorkflows(interceptors));
  const bundle = bundles.get(key) ?? making();
  bundles.set(key, bundle);
  return await bundle;
}

/**
 * Starts a harness for the tests of this file or `describe`. Hooks that are registered later can use the harness. The
 * harness is stopped after these hooks have run.
 * @param options.perTest if true, each test gets its own harness
 * @param later returns further options, which may depend on hooks that were registered earlier
 */
export function useHarness(
  { perTest = false, ...options }: HarnessOptions & { readonly perTest?: boolean } = {},
  later: () => HarnessOptions = () => ({}),
): Harness {
  const h = {} as Harness;
  let started: Harness | undefined;
  const [before, after] = perTest ? [beforeEach, afterEach] : [beforeAll, afterAll];
  before(async () => {
    started = await startHarness({ ...options, ...later() }, h);
  });
  after(async () => {
    await started?.stop();
    started = undefined;
  });
  return h;
}

/**
 * Starts a harness without hooks, so the caller must stop it.
 * @param h the object that becomes the harness
 */
export async function startHarness(options: HarnessOptions = {}, h: Partial<Harness> = {}): Promise<Harness> {
  // The caller can receive the log, because the errors that tests cause on purpose would flood the output.
  installRuntime(options.onLog);
  const env = await (options.environment ?? timeSkippingEnvironment)();
  const database = await freshDatabase();
  // No test crashes the database, so a commit need not wait for the disk.
  const databaseUrl = `${database.url}?options=${encodeURIComponent('-c synchronous_commit=off')}`;
  const unwatch = watchLedger(databaseUrl);
  const db = createLedgerClient(databaseUrl);
  const folder = mkdtempSync(join(tmpdir(), 'nodrop-harness-'));
  const secrets = {
    simulator: `whsec_${randomBytes(32).toString('base64')}`,
    simulator2: `whsec_${randomBytes(32).toString('base64')}`,
  };
  const server: Simulator = await startSimulator({
    secrets,
    folder,
    host: '127.0.0.1',
    port: 0,
    logger: pino({ level: 'silent' }),
  });
  const simulator = simulatorClient(server.url);
  const asked: { outTradeNo: string; at: number; really: number }[] = [];
  /** The real time at which each payment was created, by payment id. */
  const madeAt = new Map<string, number>();
  const channels = new Map<string, ChannelAdapter>();
  /** The adapters without the tests' wrappers. */
  const adapters = new Map<string, ChannelAdapter>();
  const asksFor = (outRefundNo: string) =>
    refundCalls.some((made) => made.outRefundNo === outRefundNo && made.call === 'refund');
  const refundCalls: { outRefundNo: string; call: 'refund' | 'query'; at: number }[] = [];
  const hooks: Pick<Harness, 'onAnswer' | 'onRefund'> = { onAnswer: undefined, onRefund: undefined };
  const harness = Object.assign(h, hooks);
  const simulators = (['simulator', 'simulator2'] as const).map((name) =>
    createSimulatorAdapter({ name, baseUrl: server.url, secret: secrets[name] }),
  );
  for (const direct of [...simulators, ...(options.others ?? [])]) {
    const { name } = direct.declaration;
    const adapter = options.between?.(direct) ?? direct;
    adapters.set(name, direct);
    channels.set(name, {
      ...adapter,
      async queryTrade(account, trade, signal) {
        const { outTradeNo } = trade;
        asked.push({ outTradeNo, at: await env.currentTimeMs(), really: Date.now() });
        const answer = await adapter.queryTrade(account, trade, signal);
        const hook = harness.onAnswer;
        harness.onAnswer = undefined;
        await hook?.(outTradeNo);
        return answer;
      },
      async refundTrade(account, trade, refund, signal) {
        const { outRefundNo } = refund;
        refundCalls.push({ outRefundNo, call: 'refund', at: await env.currentTimeMs() });
        const ask = () => adapter.refundTrade(account, trade, refund, signal);
        return await (harness.onRefund?.(ask) ?? ask());
      },
      async queryRefund(account, trade, refund, signal) {
        const { outRefundNo } = refund;
        refundCalls.push({ outRefundNo, call: 'query', at: await env.currentTimeMs() });
        const ask = () => adapter.queryRefund(account, trade, refund, signal);
        return await ((asksFor(outRefundNo) ? harness.onRefund?.(ask) : undefined) ?? ask());
      },
    });
  }
  const { merchant } = await ensureMerchant(db, 'shop', [...channels.keys()]);
  const workflows = new PaymentWorkflows(env.client, {
    queryScheduleMs: () => parseSchedule(options.querySchedule ?? DEFAULT_QUERY_SCHEDULE),
  });
  const refundWorkflows = new RefundWorkflows(env.client);
  const deliveryWorkflows = new DeliveryWorkflows(env.client);
  const now = async () => {
    const asked = Date.now();
    const said = await env.currentTimeMs();
    options.onClock?.({ said, asked, answered: Date.now() });
    return said;
  };
  const workersOptions: WorkersOptions = {
    connection: env.nativeConnection,
    namespace: env.namespace ?? 'default',
    client: env.client,
    workflows,
    refundWorkflows,
    deliveryWorkflows,
    orderServices: new OrderServiceClient({ allowPrivate: true, timeoutMs: 2_500 }),
    workflowBundle: await bundleOf(options.workflowInterceptors),
    db: options.beforeLedger?.(db) ?? db,
    channels,
    publicUrl: options.publicUrl ?? 'http://127.0.0.1:9',
    secret: SECRET,
    now: async () => new Date(await now()),
    ...(options.maxCachedWorkflows === undefined ? {} : { maxCachedWorkflows: options.maxCachedWorkflows }),
  };
  let main = await createMainWorker(workersOptions);
  const orderServices = await createOrderServiceWorker(workersOptions);
  const sweep = await createSweepWorker(workersOptions);
  let mainRunning = main.run();
  const othersRunning = Promise.all([orderServices.run(), sweep.run()]);
  let channelWorkers: readonly Worker[] = [];
  let channelsRunning: Promise<unknown> = Promise.resolve();
  const startChannelWorkers = async () => {
    channelWorkers = await Promise.all(createChannelWorkers(workersOptions));
    channelsRunning = Promise.all(channelWorkers.map((worker) => worker.run()));
  };
  const stopChannelWorkers = async () => {
    for (const worker of channelWorkers) worker.shutdown();
    await channelsRunning;
    channelWorkers = [];
  };
  await startChannelWorkers();
  let orders = 0;
  let refunds = 0;

  return Object.assign(harness, {
    env,
    channels,
    secrets,
    db,
    databaseUrl,
    simulator,
    merchant,
    workflows,
    refundWorkflows,
    deliveryWorkflows,
    now,
    async newPayment({
      merchantId = merchant.id,
      orderId,
      amount = 1990,
      currency = 'CNY',
      channel = 'simulator',
      method = 'wallet',
      expiresInMs = 1_800_000,
    } = {}) {
      orders += 1;
      const really = Date.now();
      const { payment } = await insertPayment(
        db,
        merchantId,
        {
          id: orderId ?? `order-${orders}`,
          amount,
          currency,
          subject: 'Coffee',
          metadata: {},
          expiresInSeconds: undefined,
        },
        {
          channel,
          method,
          payer: undefined,
          returnUrl: undefined,
          metadata: {},
          expiresInMs,
          // The harness treats all other attempts as already queried, as if none of their channels had answered in
          // time.
          askedAttempts: new Set((await db.payment.findMany({ select: { id: true } })).map(({ id }) => id)),
        },
        hashSecret,
        new Date(await now()),
      );
      madeAt.set(payment.id, really);
      return payment;
    },
    async start(payment: Payment) {
      await workflows.start(payment, true, NET_MS);
      const run = env.client.workflow.getHandle(paymentWorkflowId(payment.id));
      await eventually(async () => {
        if ((await this.row(payment.id)).status === 'created') return false;
        const { raw } = await run.describe();
        return !raw.pendingActivities?.some(
          (activity) => activity.activityType?.name === 'createAtChannel' && isUnderWay(activity),
        );
      });
      return run;
    },
    row: (paymentId: string) => db.payment.findUniqueOrThrow({ where: { id: paymentId } }),
    async until(paymentId: string, status: string) {
      await eventually(
        async () => (await db.payment.findUniqueOrThrow({ where: { id: paymentId } })).status === status,
      );
    },
    async orderStatus({ merchantId, orderId }: Payment) {
      return (await db.order.findUniqueOrThrow({ where: { merchantId_id: { merchantId, id: orderId } } }))
        .status;
    },
    async timeline(paymentId: string) {
      const entries = await db.timelineEntry.findMany({ where: { paymentId }, orderBy: { id: 'asc' } });
      return entries.map(({ kind, detail }) => `${kind}: ${detail}`);
    },
    async ask(payment: Payment) {
      const answered = await unlessOutOfTime(
        ADAPTER_LIMIT_MS,
        () => workflows.askChannel(payment, NET_MS),
        (hasAnswered) => !hasAnswered,
      );
      expect(answered, 'the channel gave no answer to the query').toBe(true);
    },
    askedAt: (payment: Payment) =>
      asked
        .filter(({ outTradeNo }) => outTradeNo === payment.id)
        .map(({ at }) => (at - payment.createdAt.getTime()) / 1000),
    reallyAskedAt: (payment: Payment) =>
      asked
        .filter(({ outTradeNo }) => outTradeNo === payment.id)
        .map(({ really }) => (really - (madeAt.get(payment.id) ?? really)) / 1000),
    refundCalls(refundId: string) {
      const first = refundCalls.find(({ outRefundNo }) => outRefundNo === refundId)?.at ?? 0;
      return refundCalls
        .filter(({ outRefundNo }) => outRefundNo === refundId)
        .map(({ call, at }) => ({ call, at: (at - first) / 1000 }));
    },
    async newPaid(options: { amount?: number } = {}) {
      const payment = await this.newPayment(options);
      const run = await this.start(payment);
      await simulator.pay(payment.id);
      await this.callback(payment);
      await run.result();
      return payment;
    },
    async refund(payment: Payment, amount?: number, idempotencyKey = `key-${++refunds}`) {
      const { refund } = await requestRefund(
        db,
        payment.id,
        { amount, note: undefined, idempotencyKey },
        new Date(await now()),
      );
      await refundWorkflows.start(toRefundSnapshot(refund, payment), NET_MS);
      return refund;
    },
    async owe(payment: Payment) {
      const { id: paymentId, merchantId, amount, currency } = payment;
      const id = automaticRefundId(paymentId);
      const reason = 'late_payment';
      const refund = await db.refund.create({
        data: { id, merchantId, paymentId, amount, currency, reason },
      });
      await refundWorkflows.start(toRefundSnapshot(refund, payment), NET_MS);
      return refund;
    },
    refundRow: (refundId: string) => db.refund.findUniqueOrThrow({ where: { id: refundId } }),
    async untilRefund(refundId: string, status: string) {
      await eventually(async () => {
        const row = await db.refund.findUniqueOrThrow({ where: { id: refundId } });
        return row.status === status;
      });
    },
    async refundElsewhere(payment: Payment, amount: number, outRefundNo = `elsewhere_${++refunds}`) {
      const { currency } = payment;
      const refund = {
        ...{ outRefundNo, channelRefundId: null, attempt: 1, amount, currency },
        total: Number(payment.amount),
      };
      await adapters.get(payment.channel)?.refundTrade(accountOf(payment), tradeOf(payment), refund);
    },
    async loseRefunds({ id: paymentId }: Payment) {
      await db.$transaction([
        db.delivery.deleteMany({ where: { paymentId, event: { type: { startsWith: 'refund.' } } } }),
        db.event.deleteMany({ where: { paymentId, type: { startsWith: 'refund.' } } }),
        db.timelineEntry.deleteMany({ where: { paymentId, kind: { in: ['refund', 'attention'] } } }),
        db.refund.deleteMany({ where: { paymentId } }),
        db.payment.update({
          where: { id: paymentId },
          data: { refundedAmount: 0, attention: null, attentionSince: null, attentionDetail: null },
        }),
      ]);
    },
    async lateCreate(payment: Payment) {
      const adapter = channels.get(payment.channel);
      await adapter?.createTrade(accountOf(payment), {
        ...tradeOf(payment),
        payer: {},
        subject: 'Coffee',
        notifyUrl: 'http://127.0.0.1:9/callbacks',
        returnUrl: 'http://127.0.0.1:9/return',
        // The simulated wallet uses the real clock.
        expiresAt: new Date(Date.now() + 3_600_000).toISOString(),
      });
    },
    pass: (seconds: number) => env.sleep(seconds * 1000),
    async pollCancelled(paymentId: string) {
      const run = env.client.workflow.getHandle(paymentWorkflowId(paymentId));
      await eventually(async () => {
        const { events } = await run.fetchHistory();
        return events?.some((event) => event.activityTaskCancelRequestedEventAttributes != null);
      });
    },
    async callback(
      payment: Payment,
      change: Partial<PaidAnswer> = {},
      notificationId = `n-${Math.random()}`,
      refund?: CallbackRefund,
    ) {
      const answer: PaidAnswer = {
        state: 'paid',
        channelPaymentId: `trx-${payment.id}`,
        amount: Number(payment.amount),
        currency: payment.currency,
        paidAt: new Date(await now()).toISOString(),
        ...change,
      };
      const row = await storeCallback(
        db,
        payment.channelAccountId,
        ofTrade({
          notificationId,
          outTradeNo: payment.id,
          answer,
          ...(refund === undefined ? {} : { refund }),
        }),
        Buffer.from('{}'),
        new Date(await now()),
      );
      await forwardStoredCallback(
        { db, workflows, refundWorkflows },
        row,
        payment,
        new Date(await now()),
        NET_MS,
      );
    },
    startChannelWorkers,
    stopChannelWorkers,
    async release(workflowInterceptors: readonly string[]) {
      main.shutdown();
      await mainRunning;
      const bundle = await bundleOf(workflowInterceptors);
      main = await createMainWorker({ ...workersOptions, workflowBundle: bundle });
      mainRunning = main.run();
    },
    isWorking: () =>
      [main, orderServices, sweep, ...channelWorkers].some((worker) => {
        const { numInFlightActivities, numInFlightWorkflowActivations, numInFlightLocalActivities } =
          worker.getStatus();
        return numInFlightActivities + numInFlightWorkflowActivations + numInFlightLocalActivities > 0;
      }),
    async stop() {
      unwatch();
      main.shutdown();
      orderServices.shutdown();
      sweep.shutdown();
      await Promise.all([mainRunning, othersRunning, stopChannelWorkers()]);
      await server.close();
      await db.$disconnect();
      await database.drop();
      await env.teardown();
      rmSync(folder, { recursive: true, force: true });
    },
  } satisfies Omit<Harness, 'onAnswer' | 'onRefund'>);
}
