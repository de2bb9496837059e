import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { WorkflowNotFoundError } from '@temporalio/client';
import { tsToMs } from '@temporalio/common/lib/time.js';
import { pino } from 'pino';
import { sweepActivities } from '../../src/activities/sweep.ts';
import { createApp } from '../../src/api/app.ts';
import { Changes } from '../../src/api/changes.ts';
import { createMetrics } from '../../src/api/metrics.ts';
import { type ChannelAdapter, type ChannelAnswer, ChannelError } from '../../src/domain/channel.ts';
import { LATE_PAYMENTS, type LatePayment } from '../../src/domain/decision.ts';
import { deliveryWorkflowId, paymentWorkflowId, refundWorkflowId } from '../../src/domain/names.ts';
import type { LedgerClient } from '../../src/ledger/client.ts';
import { createApiKey, ensureMerchant, setMerchant } from '../../src/ledger/merchants.ts';
import { NO_FAULTS } from '../../src/simulator/faults.ts';
import { TemporalUnavailable } from '../../src/temporal/payment-workflows.ts';
import { eventually } from '../support/progress.ts';
import { type Harness, isUnderWay, SECRET, startHarness } from '../workflows/harness.ts';
import { LISTS, ListedRefunds } from './listed-refunds.ts';
import { Shop } from './shop.ts';
import { SkippedTime } from './skipped-time.ts';

/**
 * The environment of the model's cases. It contains the harness of the workflow tests and the real API. The simulator
 * sends its callbacks to this API over HTTP. A simulated network between all parts can lose, hold and repeat messages.
 */
export interface World extends Pick<Harness, 'env' | 'db' | 'simulator' | 'secrets'> {
  readonly network: Network;
  readonly apiUrl: string;
  readonly merchants: Readonly<Record<LatePayment, { readonly id: string; readonly key: string }>>;
  /** The merchants that have an order service, which is the shop. */
  readonly merchantsWithShop: World['merchants'];
  readonly shop: Shop;
  now(): Promise<number>;
  /** Computes how much time the test's clock skipped between two of its readings. */
  readonly skipped: SkippedTime;
  /** A text that changes while the order's workflows make progress. */
  progress(orderId: string): Promise<string>;
  /** Ends all faults and empties the channel's ledger. */
  begin(): Promise<void>;
  /**
   * Resolves when no part of the system has work to do. Time may be skipped only then. The server also skips time while
   * a task is on its way to a worker, and then treats the task as lost.
   */
  quiet(orderId: string): Promise<void>;
  /** Lets time pass. Call this only after `quiet` has resolved. */
  pass(orderId: string, seconds: number): Promise<void>;
  /** Runs the sweep once. */
  sweep(): Promise<void>;
  stopWorkers(): Promise<void>;
  /** Starts the workers again. Has no effect if they are running. */
  startWorkers(): Promise<void>;
  stop(): Promise<void>;
}

export type Call = 'create' | 'query' | 'close' | 'refund' | 'queryRefund';

/**
 * - `request lost`: the channel does not get the request, or gets it much later (see `lateRequests`).
 * - `answer lost`: the channel carries out the request, but nodrop does not get the answer.
 * - `slow`: the answer takes a while.
 */
export type Loss = 'none' | 'request lost' | 'answer lost' | 'slow';

const SLOW_MS = 25;

export interface ReceivedCallback {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** A lost connection, as the database client reports it. nodrop retries after this error. */
const connectionLost = () =>
  Object.assign(new Error('the connection to the database is lost'), { code: 'ECONNRESET' });

/**
 * The simulated network between nodrop and its channels, its own database and Temporal. It also carries the
 * callbacks.
 */
export class Network {
  losses: Record<Call, Loss> = untroubled();
  /** The faults of the API's calls to Temporal. */
  temporal: Loss = 'none';
  /**
   * The faults of the next transactions of the API and the workers. A transaction with `answer lost` commits,
   * but its caller gets an error.
   */
  readonly ledgerLosses: ('request lost' | 'answer lost')[] = [];
  /** Ids of the notifications that the API acknowledged. */
  readonly acknowledged = new Set<string>();
  /**
   * Payments for which the API acknowledged a notice, which cannot be verified and only says that something
   * changed.
   */
  readonly noticed = new Set<string>();
  /** Ids of the notifications that could not be verified. */
  readonly unverifiable = new Set<string>();
  /** The channel accepts an amount that differs from the requested amount by this many minor units. */
  otherAmount = 0;
  /** While this is true, callbacks are held. They can be released later. */
  holding = false;
  readonly held: ReceivedCallback[] = [];
  /** Every callback that reached the API, so that it can be sent again. */
  readonly received: ReceivedCallback[] = [];
  /** Requests that were lost on their way to the channel. They may arrive later. */
  readonly lateRequests: (() => Promise<unknown>)[] = [];
  /**
   * When the payer paid, on the test's clock. The wallet cannot record this, because it uses the real clock.
   * Epoch ms, by out-trade-no.
   */
  readonly paidAt = new Map<string, number>();
  /**
   * Trades for which a query did not report the true state, because the payer had just acted or another refund was in
   * process.
   */
  readonly hidden = new Set<string>();
  /**
   * When the channel accepted the payer's action. After that, the trade is paid immediately, or the channel
   * decides later. Epoch ms, by out-trade-no.
   */
  readonly actedAt = new Map<string, number>();
  /** The refunds of the channel that lists its refunds. */
  readonly listed = new ListedRefunds();

  /** Ends all faults, but does not deliver messages that are held or were lost. */
  heal(): void {
    this.losses = untroubled();
    this.temporal = 'none';
    this.ledgerLosses.length = 0;
    this.otherAmount = 0;
    this.holding = false;
    this.listed.needPerson = false;
  }

  /** Resets the network for a new case. */
  reset(): void {
    this.heal();
    for (const list of [this.held, this.received, this.lateRequests]) list.length = 0;
    this.paidAt.clear();
    this.actedAt.clear();
    this.hidden.clear();
    this.acknowledged.clear();
    this.noticed.clear();
    this.unverifiable.clear();
    this.listed.reset();
  }

  /** Delivers a callback to the API. @returns the status of the answer */
  async passOn(apiUrl: string, { path, headers, body }: ReceivedCallback): Promise<number> {
    const names = ['content-type', 'webhook-id', 'webhook-timestamp', 'webhook-signature'];
    const kept = names.flatMap((name) => {
      const value = headers[name];
      return typeof value === 'string' ? [[name, value] as [string, string]] : [];
    });
    const response = await fetch(`${apiUrl}${path}`, {
      method: 'POST',
      headers: { ...Object.fromEntries(kept), 'x-model': 'passed on' },
      body: new Uint8Array(body),
    });
    await response.body?.cancel();
    const id = String(headers['webhook-id']);
    if (response.status === 200 && this.unverifiable.has(id)) this.noticed.add(path.split('/').at(-2) ?? '');
    else if (response.status === 200) this.acknowledged.add(id);
    return response.status;
  }

  /** The database client. All its calls go through this network. */
  beforeLedger(db: LedgerClient): LedgerClient {
    const transaction = async (...given: Parameters<LedgerClient['$transaction']>) => {
      const loss = this.ledgerLosses.shift();
      if (loss === 'request lost') throw connectionLost();
      const result = await db.$transaction(...given);
      if (loss === 'answer lost') throw connectionLost();
      return result;
    };
    return new Proxy(db, {
      get: (target, name) => (name === '$transaction' ? transaction : Reflect.get(target, name)),
    });
  }

  /** A client of Temporal. All its calls go through this network. */
  beforeTemporal<Workflows extends object>(workflows: Workflows): Workflows {
    return new Proxy(workflows, {
      get: (target, name) => {
        const call = Reflect.get(target, name);
        if (typeof call !== 'function') return call;
        return async (...given: unknown[]) => {
          const loss = this.temporal;
          if (loss === 'request lost') throw new TemporalUnavailable('Temporal hears nothing');
          const answer = await call.apply(target, given);
          if (loss === 'slow') await sleep(SLOW_MS);
          if (loss === 'answer lost') throw new TemporalUnavailable("Temporal's answer is lost");
          return answer;
        };
      },
    });
  }

  async carry<T>(call: Call, ask: () => Promise<T>): Promise<T> {
    const loss = this.losses[call];
    if (loss === 'request lost') {
      this.lateRequests.push(ask);
      throw new ChannelError('unreachable', 'the request got lost');
    }
    const answer = await ask();
    if (loss === 'slow') await sleep(SLOW_MS);
    if (loss === 'answer lost') throw new ChannelError('unreachable', 'the answer got lost');
    return answer;
  }

  /** The channel's adapter. All its calls go through this network. */
  between(direct: ChannelAdapter): ChannelAdapter {
    const adapter = direct.declaration.name === LISTS ? this.listed.over(direct) : direct;
    const onOurClock = <Answer extends ChannelAnswer>(outTradeNo: string, answer: Answer): Answer => {
      if (answer.state === 'unpaid' && this.actedAt.has(outTradeNo)) this.hidden.add(outTradeNo);
      const paidAt = this.paidAt.get(outTradeNo);
      if ((answer.state !== 'paid' && answer.state !== 'refunded') || paidAt === undefined) return answer;
      return { ...answer, paidAt: new Date(paidAt).toISOString() };
    };
    return {
      ...adapter,
      createTrade: (account, trade, signal) => {
        const amount = trade.amount + this.otherAmount;
        return this.carry('create', () => adapter.createTrade(account, { ...trade, amount }, signal));
      },
      queryTrade: async (account, trade, signal) =>
        onOurClock(
          trade.outTradeNo,
          await this.carry('query', () => adapter.queryTrade(account, trade, signal)),
        ),
      closeTrade: (account, trade, signal) =>
        this.carry('close', () => adapter.closeTrade(account, trade, signal)),
      refundTrade: async (account, trade, refund, signal) => {
        const request = () => adapter.refundTrade(account, trade, refund, signal);
        const forgets = adapter.declaration.repeatableForMs.refund !== null;
        return await this.carry(
          'refund',
          forgets ? this.listed.arriving(request, await this.listed.now()) : request,
        );
      },
      queryRefund: (account, trade, refund, signal) =>
        this.carry('queryRefund', () => adapter.queryRefund(account, trade, refund, signal)),
      verifyCallback: async (account, request) => {
        const id = String(request.headers['webhook-id']);
        this.unverifiable.add(id);
        const callback = await adapter.verifyCallback(account, request);
        this.unverifiable.delete(id);
        if (callback.kind !== 'trade') return callback;
        return { ...callback, answer: onOurClock(callback.about.outTradeNo ?? '', callback.answer) };
      },
    };
  }
}

const untroubled = (): Record<Call, Loss> => ({
  create: 'none',
  query: 'none',
  close: 'none',
  refund: 'none',
  queryRefund: 'none',
});

/**
 * The pause between two checks whether all parts wait. After every `CALM_LOOKS_A_LOOK` such checks, the progress is
 * checked once.
 */
const CALM_EVERY_MS = 5;
const CALM_LOOKS_A_LOOK = 200;
const LOOK_EVERY_MS = 1_000;
/**
 * The clock has stopped if it does not move during this many checks. A check is counted only if this process ran and
 * the server answered.
 */
const STILL_LOOKS = 10;
/**
 * While work is left, the clock has stopped only if it does not move during this many checks. If a worker stops just
 * when it is given an attempt, the attempt is lost until its timeout, which is at most 60 s. Until then the server
 * skips no time.
 */
const PATIENT_LOOKS = 120;
/** Work is endless if it continues for this many checks without a pause in which time can pass. */
const ENDLESS_LOOKS = 240;

/**
 * A bug of the time-skipping server, and not of nodrop. So the case is run again. The server does not know an activity
 * that is open in its own history, or waits for an activity of a workflow that has ended. Or its clock stops while all
 * parts wait.
 */
export class ServerFault extends Error {
  override readonly name = 'ServerFault';
}

type Event = NonNullable<
  Awaited<ReturnType<ReturnType<World['env']['client']['workflow']['getHandle']>['fetchHistory']>>['events']
>[number];

/** Ids of the activities that were scheduled and have not ended. */
function openActivities(events: readonly Event[]): string[] {
  const open = new Map<string, string>();
  for (const event of events) {
    const scheduled = event.activityTaskScheduledEventAttributes;
    if (scheduled != null) open.set(String(event.eventId), scheduled.activityId ?? '');
    const closed =
      event.activityTaskCompletedEventAttributes ??
      event.activityTaskFailedEventAttributes ??
      event.activityTaskTimedOutEventAttributes ??
      event.activityTaskCanceledEventAttributes;
    if (closed != null) open.delete(String(closed.scheduledEventId));
  }
  return [...open.values()];
}

/** Repeats a step that Temporal did not confirm in time, as the sweep's workflow does. */
async function confirmed(step: () => Promise<unknown>): Promise<boolean> {
  try {
    await step();
    return true;
  } catch (error) {
    if (error instanceof Error && error.cause instanceof TemporalUnavailable) return false;
    throw error;
  }
}

/** Errors that the Temporal SDK has reported. One runtime serves all worlds of the process. */
const sdkErrors: string[] = [];

export async function startWorld(): Promise<World> {
  const network = new Network();
  const skipped = new SkippedTime();
  let sdkErrorsBefore = sdkErrors.length;
  let app: ReturnType<typeof createApp> | undefined;
  let refreshClock = async () => {};
  const server: Server = createServer(async (request, response) => {
    if (app === undefined) return void response.writeHead(503).end();
    await refreshClock();
    if (!request.url?.startsWith('/callbacks/')) return void app(request, response);
    const { url: path, headers } = request;
    if (headers['x-model'] !== undefined) return void app(request, response);
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const callback = { path, headers, body: Buffer.concat(chunks) };
    if (network.holding) {
      network.held.push(callback);
      return void response.writeHead(504).end();
    }
    network.received.push(callback);
    const status = await network.passOn(apiUrl, callback);
    // The API did not store the callback, so the channel sends it again.
    if (status === 503) network.held.push(callback);
    response.writeHead(status).end();
  });
  // The API's own timeout is used, so that connections are still open after a process was frozen.
  server.keepAliveTimeout = 65_000;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const apiUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  const h = await startHarness({
    publicUrl: apiUrl,
    // A schedule with few queries, so that the queries of half an hour cost less than a second of computing.
    querySchedule: '10s*2,1m,10m',
    // The cache is small, so that some workflows are evicted and rebuilt from their histories. With a cache for
    // two workflows, tasks sometimes got lost.
    maxCachedWorkflows: 10,
    workflowInterceptors: ['late-cancellation.ts', 'children-left-to-the-sweep.ts'].map((name) =>
      fileURLToPath(new URL(name, import.meta.url)),
    ),
    between: (adapter) => network.between(adapter),
    beforeLedger: (db) => network.beforeLedger(db),
    onLog: ({ message, meta }) => void sdkErrors.push(`${message} ${JSON.stringify(meta ?? {})}`),
    onClock: (read) => skipped.add(read),
  });
  network.listed.now = () => h.now();
  /**
   * The API needs a clock that it can read synchronously. Whenever a request arrives, this clock is set to the
   * server's time.
   */
  let ahead = 0;
  refreshClock = async () => {
    ahead = (await h.now()) - Date.now();
  };
  const log = pino({ level: 'silent' });
  const changes = new Changes(h.databaseUrl, log);
  changes.start();
  app = createApp({
    config: {
      mode: 'test',
      embeddedDatabase: false,
      secret: SECRET,
      temporal: { address: '127.0.0.1:1', namespace: 'default', uiUrl: 'http://127.0.0.1:1' },
      api: { host: '127.0.0.1', port: 1, publicUrl: apiUrl, trustedProxies: [] },
      paymentExpiryMs: 1_800_000,
    },
    db: network.beforeLedger(h.db),
    workflows: network.beforeTemporal(h.workflows),
    refundWorkflows: network.beforeTemporal(h.refundWorkflows),
    deliveryWorkflows: h.deliveryWorkflows,
    isTemporalReachable: async () => true,
    channels: h.channels,
    changes,
    log,
    metrics: createMetrics(),
    now: () => new Date(Date.now() + ahead),
  });

  const shop = new Shop(h.now);
  const orderServiceUrl = await shop.listen();
  const newMerchants = async (withShop: boolean) => {
    const merchants: Record<string, { id: string; key: string }> = {};
    for (const latePayment of LATE_PAYMENTS) {
      const name = withShop ? `${latePayment}-told` : latePayment;
      const { merchant } = await ensureMerchant(h.db, name, [...h.channels.keys()]);
      const settings = { latePayment, ...(withShop ? { orderServiceUrl } : {}) };
      await setMerchant(h.db, name, settings, SECRET, new Date());
      const { key } = await createApiKey(h.db, merchant.id, 'operator');
      merchants[latePayment] = { id: merchant.id, key };
    }
    return merchants as World['merchants'];
  };
  const merchants = await newMerchants(false);
  const merchantsWithShop = await newMerchants(true);

  const steps = sweepActivities({
    db: h.db,
    client: h.env.client,
    workflows: h.workflows,
    refundWorkflows: h.refundWorkflows,
    deliveryWorkflows: h.deliveryWorkflows,
    now: async () => new Date(await h.now()),
  });
  let working = true;

  /** All started workflows of the order, with their status on the server. */
  const runs = async (orderId: string) => {
    const ids = await h.db.$queryRaw<{ payment: string; refund: string | null; delivery: string | null }[]>`
      SELECT payments.id AS payment, refunds.id AS refund, deliveries.id AS delivery
      FROM payments LEFT JOIN refunds ON refunds.payment_id = payments.id AND refunds.reason <> 'external'
        LEFT JOIN deliveries ON deliveries.payment_id = payments.id
      WHERE payments.order_id = ${orderId}`;
    const workflows = new Set(
      ids.flatMap(({ payment, refund, delivery }) => [
        paymentWorkflowId(payment),
        ...(refund === null ? [] : [refundWorkflowId(refund)]),
        ...(delivery === null ? [] : [deliveryWorkflowId(delivery)]),
      ]),
    );
    const found = await Promise.all(
      [...workflows].map(async (id) => {
        const handle = h.env.client.workflow.getHandle(id);
        try {
          return [{ id, handle, run: await handle.describe() }];
        } catch (error) {
          if (error instanceof WorkflowNotFoundError) return [];
          throw error;
        }
      }),
    );
    return found.flat();
  };
  const isBusy = async (orderId: string) => {
    if (h.isWorking()) return true;
    for (const { run } of await runs(orderId)) {
      if (run.raw.pendingActivities?.some(isUnderWay)) return true;
    }
    return h.isWorking();
  };
  /** A text that changes while workers work on the order's workflows. */
  const progress = async (orderId: string): Promise<string> => {
    const found = await runs(orderId);
    return JSON.stringify(
      found.map(({ id, run }) => [
        id,
        run.status.name,
        run.historyLength,
        (run.raw.pendingActivities ?? []).map(({ activityId, attempt }) => [activityId, attempt]),
      ]),
    );
  };
  /**
   * Returns a text that shows the progress of the order's workflows. Returns undefined while one of them has work.
   */
  const resting = async (orderId: string): Promise<string | undefined> => {
    if (await isBusy(orderId)) return undefined;
    const lengths: number[] = [];
    for (const { handle } of await runs(orderId)) {
      const { events } = await handle.fetchHistory();
      const isTask = (event: Event) =>
        event.workflowTaskScheduledEventAttributes != null ||
        event.workflowTaskStartedEventAttributes != null ||
        event.workflowTaskCompletedEventAttributes != null;
      const last = (events ?? []).findLast(isTask);
      if (last === undefined || last.workflowTaskCompletedEventAttributes == null) return undefined;
      lengths.push(events?.length ?? 0);
    }
    return lengths.join();
  };
  /** The error that is reported when the clock does not move. */
  const standstill = async (orderId: string): Promise<Error> => {
    const before = await resting(orderId);
    await sleep(LOOK_EVERY_MS);
    const after = await resting(orderId);
    if (before !== undefined && before === after) {
      return new ServerFault('everybody only waits for time to pass, and the server does not let it');
    }
    const lines: string[] = [];
    const found = await runs(orderId);
    // Leaves out errors that concern workflows of other worlds.
    const reported = sdkErrors
      .slice(sdkErrorsBefore)
      .filter((error) => !error.includes('workflowId') || found.some(({ id }) => error.includes(id)));
    for (const { id, handle, run } of found) {
      const { status, raw } = run;
      const { events } = await handle.fetchHistory();
      const pending = new Set((raw.pendingActivities ?? []).map(({ activityId }) => activityId));
      if (status.name !== 'RUNNING' && (raw.pendingActivities ?? []).length > 0) {
        return new ServerFault(`${id} has ended, and the server still waits for an activity of it`);
      }
      const lost =
        status.name === 'RUNNING' ? openActivities(events ?? []).filter((it) => !pending.has(it)) : [];
      if (lost.length > 0) {
        return new ServerFault(`${id}: activity ${lost} is open in its history, and the server has none`);
      }
      const isHandedOut = (events ?? []).at(-1)?.workflowTaskStartedEventAttributes != null;
      if (status.name === 'RUNNING' && isHandedOut && reported.length === 0) {
        // If workflow code never yields, the SDK logs an error at every retry.
        return new ServerFault(
          `${id}: a workflow task was handed out and lost, and the SDK reported nothing`,
        );
      }
      lines.push(`${id} ${status.name}, pending: ${JSON.stringify(raw.pendingActivities)}`);
      for (const event of (events ?? []).slice(-8)) {
        const kind = Object.keys(event).find((name) => name.endsWith('EventAttributes'));
        lines.push(`  ${event.eventId} ${new Date(tsToMs(event.eventTime)).toISOString()} ${kind}`);
      }
    }
    return new Error(`Time stands still.\n${lines.join('\n')}\n${reported.join('\n')}`);
  };
  /**
   * Waits until all work has ended, however slow the machine is. Stops waiting if the server's clock has
   * stopped.
   */
  const inTime = async (orderId: string, work: Promise<void>) => {
    let before = { at: Date.now(), to: await h.now(), progress: '' };
    for (let still = 0, looks = 0; still < PATIENT_LOOKS && looks < ENDLESS_LOOKS; looks++) {
      const late = new AbortController();
      const look = sleep(LOOK_EVERY_MS, 'look' as const, { signal: late.signal }).catch(() => undefined);
      const first = await Promise.race([work, look]);
      late.abort();
      if (first !== 'look') return;
      const now = { at: Date.now(), to: await h.now(), progress: await progress(orderId) };
      // If the clock does not skip time, it runs like a real clock.
      const hasSkipped = now.to - before.to > 2 * (now.at - before.at);
      still = hasSkipped || now.progress !== before.progress ? 0 : still + 1;
      if (hasSkipped) looks = 0;
      before = now;
      if (still >= STILL_LOOKS && !(await isBusy(orderId))) break;
    }
    work.catch(() => undefined);
    throw await standstill(orderId);
  };
  const quiet = async (orderId: string) => {
    let still = 0;
    let before = '';
    for (let calm = 0, look = 1; calm < 2; look++) {
      calm = (await isBusy(orderId)) ? 0 : calm + 1;
      await sleep(CALM_EVERY_MS);
      if (look % CALM_LOOKS_A_LOOK !== 0) continue;
      const now = await progress(orderId);
      still = now === before ? still + 1 : 0;
      before = now;
      if (still > PATIENT_LOOKS || look > ENDLESS_LOOKS * CALM_LOOKS_A_LOOK) throw await standstill(orderId);
    }
  };
  return {
    env: h.env,
    db: h.db,
    simulator: h.simulator,
    secrets: h.secrets,
    network,
    apiUrl,
    merchants,
    merchantsWithShop,
    shop,
    now: h.now,
    skipped,
    progress,
    async begin() {
      network.reset();
      shop.reset();
      skipped.clear();
      sdkErrorsBefore = sdkErrors.length;
      await fetch(`${h.simulator.url}/_control/ledger`, { method: 'DELETE' });
      await h.simulator.setFaults(NO_FAULTS);
    },
    quiet,
    async pass(orderId, seconds) {
      await quiet(orderId);
      await inTime(orderId, h.pass(seconds));
    },
    async sweep() {
      // `sweepAbnormalEnds` is left out, because this server cannot list workflows.
      for (const step of [
        steps.sweepUnmatched,
        steps.sweepCallbacks,
        steps.sweepPayments,
        steps.sweepStuck,
        steps.sweepRefunds,
        steps.sweepDeliveries,
        steps.sweepOrders,
      ])
        await eventually(() => confirmed(step));
    },
    async stopWorkers() {
      if (!working) return;
      working = false;
      await h.stopChannelWorkers();
    },
    async startWorkers() {
      if (working) return;
      await h.startChannelWorkers();
      working = true;
    },
    async stop() {
      await changes.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await h.stop();
      await shop.close();
    },
  };
}

/** Settings of the simulator that turn off all faults. */
export const UNTROUBLED_SIMULATOR = NO_FAULTS;
