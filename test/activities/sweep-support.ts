import { WorkflowNotFoundError } from '@temporalio/client';
import { afterEach, beforeAll, beforeEach, vi } from 'vitest';
import { type SweepActivities, type SweepDeps, sweepActivities } from '../../src/activities/sweep.ts';
import { newPaymentId } from '../../src/domain/ids.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import type { PaymentWorkflows } from '../../src/temporal/payment-workflows.ts';
import type { RefundWorkflows } from '../../src/temporal/refund-workflows.ts';
import { useDatabase } from '../support/stack.ts';

/**
 * Support for tests of the sweep's steps: a real database, and a fake Temporal client that records which workflows are
 * started.
 */

export const [MINUTE, HOUR, DAY] = [60_000, 3_600_000, 86_400_000];

export const { db } = useDatabase();
export let merchantId: string;
let channelAccountId: string;
export let sweep: SweepActivities;
export const clock = { now: 0 };
/** The ids of running workflows. */
export let running: Set<string>;
/** For each workflow id, how often the pending workflow task was attempted. */
export let attempts: Map<string, number>;
export const temporal = { endedAbnormally: [] as string[], onDescribe: () => {} };
export let woken: string[];
export let started: string[];
/** The ids of deliveries whose workflow the sweep signalled. */
export let told: string[];
/** The merchants for which a redelivery was started. */
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

export const ago = (ms: number) => new Date(clock.now - ms);
let orders = 0;
export async function newPayments(count: number, of: object): Promise<string[]> {
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
export const payment = (id: string) => db.payment.findUniqueOrThrow({ where: { id } });
export const swept = async (paymentId: string) =>
  (await db.timelineEntry.findMany({ where: { paymentId, kind: 'sweep' } })).map(({ detail }) => detail);
