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
   * How many workflows the worker keeps in memory, where one takes some 450 KB: payments beyond that wait without it,
   * and their histories are read anew when something happens to them.
   * @default 150
   */
  readonly maxCachedWorkflows?: number;
}

/**
 * One worker for workflows and ledger, one for the sweep, one for the order services, and two for each channel: a backlog
 * of polls must never delay a payer. The two share the channel's rate limit, which the server enforces over all workers.
 */
export async function createWorkers(options: WorkersOptions): Promise<Worker[]> {
  return await Promise.all([
    createMainWorker(options),
    createSweepWorker(options),
    createOrderServiceWorker(options),
    ...createChannelWorkers(options),
  ]);
}

/** Far more than have something to do at a time, and an upper bound of memory however many wait. */
const CACHED_WORKFLOWS = 150;

/** Of a merchant's transactions, each in an activity: fewer than a task queue has slots (100). */
const TRANSACTIONS_WAITING = 40;

/** One runs at a time, unless somebody starts more by hand. */
const SWEEPS_AT_ONCE = 5;

const sharedOptions = ({ connection, namespace }: WorkersOptions) =>
  ({
    connection,
    namespace,
    // An attempt under way at shutdown finishes instead of being repeated elsewhere after its time-out.
    shutdownGraceTime: '10 s',
    interceptors: { activity: [() => ({ inbound: lostRows })] },
  }) satisfies Partial<WorkerOptions>;

/** Workflows and ledger. */
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
    // With the default of 10 s a killed idle worker delays a callback by 7 to 10 s.
    stickyQueueScheduleToStartTimeout: '3 s',
    maxCachedWorkflows: options.maxCachedWorkflows ?? CACHED_WORKFLOWS,
  });
}

/** The sweep, with its workflow and its activities: it heals what keeps the others from getting on. */
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

/** Tells the order services. */
export async function createOrderServiceWorker(options: WorkersOptions): Promise<Worker> {
  return await Worker.create({
    ...sharedOptions(options),
    taskQueue: ORDER_SERVICE_TASK_QUEUE,
    activities: deliverEventActivities(options),
    // Mostly waiting for somebody else's answer.
    maxConcurrentActivityTaskExecutions: ORDER_SERVICE_SLOTS,
  });
}

/** The same, with channels of which no merchant takes every place. */
function fairly(options: WorkersOptions): WorkersOptions {
  const channels = [...options.channels].map(([name, adapter]) => [name, limitedChannel(adapter)] as const);
  return { ...options, channels: new Map(channels) };
}

/** Two for each channel. */
export function createChannelWorkers(options: WorkersOptions): Promise<Worker>[] {
  const shared = sharedOptions(options);
  return [...options.channels.values()].flatMap((channel) => {
    // Of each worker its own, as each has its own places.
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
