import type { Client } from '@temporalio/client';
import {
  type NativeConnection,
  Worker,
  type WorkerOptions,
  type WorkflowBundleOption,
} from '@temporalio/worker';
import type { ActivityDeps } from '../activities/activity-deps.ts';
import { channelActivities } from '../activities/channel.ts';
import { type DeliverEventDeps, deliverEventActivities } from '../activities/deliver-event.ts';
import { lostRows } from '../activities/failures.ts';
import { ledgerActivities } from '../activities/ledger.ts';
import { CHANNEL_SLOTS, limitedChannel } from '../activities/limited-channel.ts';
import { redeliveryActivities } from '../activities/redelivery.ts';
import { refundChannelActivities, refundLedgerActivities } from '../activities/refund.ts';
import { sweepActivities } from '../activities/sweep.ts';
import {
  channelTaskQueue,
  MAIN_TASK_QUEUE,
  ORDER_SERVICE_TASK_QUEUE,
  pollTaskQueue,
  SWEEP_TASK_QUEUE,
} from '../domain/names.ts';
import { limitWaiting } from '../ledger/transaction-limits.ts';
import { ORDER_SERVICE_SLOTS } from '../order-service/merchant-concurrency.ts';
import type { DeliveryWorkflows } from '../temporal/delivery-workflows.ts';
import type { PaymentWorkflows } from '../temporal/payment-workflows.ts';
import type { RefundWorkflows } from '../temporal/refund-workflows.ts';

export interface WorkersOptions extends ActivityDeps {
  readonly connection: NativeConnection;
  readonly namespace: string;
  readonly client: Client;
  readonly workflows: PaymentWorkflows;
  readonly refundWorkflows: RefundWorkflows;
  readonly deliveryWorkflows: DeliveryWorkflows;
  readonly orderServices: DeliverEventDeps['orderServices'];
  readonly workflowBundle: WorkflowBundleOption;
  /**
   * How many workflows the worker keeps in memory. Each takes about 450 KB. If a workflow is not in memory, its next
   * task replays it from its history.
   * @default 150
   */
  readonly maxCachedWorkflows?: number;
}

/**
 * Creates all workers of a process: one for workflows and ledger activities, one for the sweep, one for the order
 * services, and two for each channel. One of a channel's two workers only sends scheduled queries, so that a backlog of
 * them never delays a payer. The two workers of a channel share the channel's rate limit, which the Temporal server
 * enforces over all processes.
 */
export async function createWorkers(options: WorkersOptions): Promise<Worker[]> {
  return await Promise.all([
    createMainWorker(options),
    createSweepWorker(options),
    createOrderServiceWorker(options),
    ...createChannelWorkers(options),
  ]);
}

/**
 * The default number of workflows that a worker keeps in memory. It limits the worker's memory, however many workflows
 * wait. Far fewer workflows are active at the same time.
 */
const CACHED_WORKFLOWS = 150;

/**
 * How many transactions of one merchant may wait. Each waiting transaction holds one of the 100 activity slots of the
 * task queue.
 */
const TRANSACTIONS_WAITING = 40;

/** Usually one sweep runs at a time. More sweeps run only if a person starts them. */
const SWEEPS_AT_ONCE = 5;

const sharedOptions = ({ connection, namespace }: WorkersOptions) =>
  ({
    connection,
    namespace,
    // When the worker shuts down, running attempts may finish. Otherwise another worker would repeat them after their
    // timeout.
    shutdownGraceTime: '10 s',
    interceptors: { activity: [() => ({ inbound: lostRows })] },
  }) satisfies Partial<WorkerOptions>;

/** Creates the worker for workflows and ledger activities. */
export async function createMainWorker(options: WorkersOptions): Promise<Worker> {
  limitWaiting(options.db, TRANSACTIONS_WAITING);
  return await Worker.create({
    ...sharedOptions(options),
    taskQueue: MAIN_TASK_QUEUE,
    workflowBundle: options.workflowBundle,
    activities: {
      ...ledgerActivities(options),
      ...refundLedgerActivities(options),
      ...redeliveryActivities(options),
    },
    // A workflow task waits at most this time for the worker that has the workflow in memory. With the default of 10 s,
    // a callback that arrives after an idle worker was killed would be delayed by 7 to 10 s.
    stickyQueueScheduleToStartTimeout: '3 s',
    maxCachedWorkflows: options.maxCachedWorkflows ?? CACHED_WORKFLOWS,
  });
}

/**
 * Creates the worker for the sweep's workflow and activities. The worker is separate, because the sweep repairs
 * conditions that can block the other workers.
 */
export async function createSweepWorker(options: WorkersOptions): Promise<Worker> {
  return await Worker.create({
    ...sharedOptions(options),
    taskQueue: SWEEP_TASK_QUEUE,
    workflowBundle: options.workflowBundle,
    activities: sweepActivities(options),
    maxCachedWorkflows: SWEEPS_AT_ONCE,
    maxConcurrentWorkflowTaskExecutions: SWEEPS_AT_ONCE,
  });
}

/** Creates the worker for deliveries to order services. */
export async function createOrderServiceWorker(options: WorkersOptions): Promise<Worker> {
  return await Worker.create({
    ...sharedOptions(options),
    taskQueue: ORDER_SERVICE_TASK_QUEUE,
    activities: deliverEventActivities(options),
    // Deliveries to order services mostly wait for an answer, so one worker can run many of them at the same time.
    maxConcurrentActivityTaskExecutions: ORDER_SERVICE_SLOTS,
  });
}

/** Returns the same worker options, but with channel adapters that limit the concurrent calls of each merchant. */
function fairly(options: WorkersOptions): WorkersOptions {
  const channels = [...options.channels].map(([name, adapter]) => [name, limitedChannel(adapter)] as const);
  return { ...options, channels: new Map(channels) };
}

/** Creates two workers for each channel: one for scheduled queries, one for everything else. */
export function createChannelWorkers(options: WorkersOptions): Promise<Worker>[] {
  const shared = sharedOptions(options);
  return [...options.channels.values()].flatMap((channel) => {
    // Each worker has its own activity slots. Therefore each also gets its own limits for a merchant's concurrent
    // calls.
    const calls = fairly(options);
    const polls = fairly(options);
    const { queryChannel: _query, ...payments } = channelActivities(calls);
    const { queryRefund: _queryRefund, ...refunds } = refundChannelActivities(calls);
    const { queryChannel } = channelActivities(polls);
    const { queryRefund } = refundChannelActivities(polls);
    const limits = {
      maxTaskQueueActivitiesPerSecond: channel.declaration.rateLimit.perSecond / 2,
      maxConcurrentActivityTaskExecutions: CHANNEL_SLOTS,
    };
    return [
      Worker.create({
        ...shared,
        taskQueue: channelTaskQueue(channel.declaration.name),
        activities: { ...payments, ...refunds },
        ...limits,
      }),
      Worker.create({
        ...shared,
        taskQueue: pollTaskQueue(channel.declaration.name),
        activities: { queryChannel, queryRefund },
        ...limits,
      }),
    ];
  });
}
