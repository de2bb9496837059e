import { type Client, WorkflowNotFoundError } from '@temporalio/client';
import { paymentIdOf, paymentWorkflowId } from '../domain/names.ts';
import { LATE_WATCH_MS } from '../domain/schedule.ts';
import type { Payment } from '../generated/prisma/client.ts';
import { markDelivered, matchCallbacks } from '../ledger/callbacks.ts';
import { removeOld } from '../ledger/cleanup.ts';
import type { LedgerClient } from '../ledger/client.ts';
import { toDeliverySnapshot } from '../ledger/deliveries.ts';
import { releaseEndingOrders } from '../ledger/orders.ts';
import { toRefundSnapshot } from '../ledger/refunds.ts';
import {
  restDelivery,
  restPayment,
  restRefund,
  takeOverdueDeliveries,
  takeStuckPayments,
  takeStuckRefunds,
  takeUndeliveredCallbacks,
  takeUnfinished,
} from '../ledger/sweep.ts';
import { note } from '../ledger/timeline.ts';
import { PAYMENT_WORKFLOW } from '../workflows/messages.ts';
import { deliverStored } from './deliver.ts';
import type { DeliveryWorkflows } from './delivery-workflows.ts';
import type { PaymentWorkflows } from './payment-workflows.ts';
import type { RefundWorkflows } from './refund-workflows.ts';

const SIGNAL_DEADLINE_MS = 5_000;
/** How far back ended runs are looked at: longer than workers are ever all away unnoticed. */
const ABNORMAL_WINDOW_MS = 24 * 3_600_000;
const ABNORMAL_AT_MOST = 1_000;
const ORDERS_AT_MOST = 200;
const LATE_WATCH_TOTAL_MS = Math.max(...LATE_WATCH_MS);

export interface SweepDeps {
  readonly db: LedgerClient;
  readonly client: Client;
  readonly workflows: PaymentWorkflows;
  readonly refundWorkflows: RefundWorkflows;
  readonly deliveryWorkflows: Pick<DeliveryWorkflows, 'wake'>;
  readonly now: () => Promise<Date>;
}

/** The safety net's hauls; each returns how many it healed. Task queue `nodrop`. */
export function sweepActivities({
  db,
  client,
  workflows,
  refundWorkflows,
  deliveryWorkflows,
  now,
}: SweepDeps) {
  const isRunning = async (payment: Payment): Promise<boolean> => {
    try {
      const run = await client.workflow.getHandle(paymentWorkflowId(payment.id)).describe();
      return run.status.name === 'RUNNING';
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return false;
      throw error;
    }
  };

  /** One row that cannot be healed must not keep the others from it. @throws Error when some could not. */
  const each = async <Row>(rows: readonly Row[], heal: (row: Row) => Promise<boolean>): Promise<number> => {
    let healed = 0;
    const failures: unknown[] = [];
    for (const row of rows) {
      try {
        if (await heal(row)) healed += 1;
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) {
      throw new Error(`${healed} healed, ${failures.length} not, the first: ${failures[0]}`, {
        cause: failures[0],
      });
    }
    return healed;
  };

  const wake = (why: string) => async (payment: Payment) => {
    // A workflow that runs goes on by itself; all it may have missed is the wish to cancel.
    const running = await isRunning(payment);
    if (!running || payment.cancelRequestedAt !== null) await workflows.wake(payment, SIGNAL_DEADLINE_MS);
    const at = await now();
    await restPayment(db, payment.id, at);
    if (!running) await note(db, payment.id, 'sweep', why, at);
    return !running;
  };

  return {
    /** Rows without a workflow, overdue payments, forgotten cancels. */
    async sweepPayments(): Promise<number> {
      const stuck = await takeStuckPayments(db, await now());
      return await each(stuck, wake('The sweep found it stuck and started its workflow.'));
    },

    /** Expired or cancelled orders that no payment will end. */
    async sweepOrders(): Promise<number> {
      return await releaseEndingOrders(db, ORDERS_AT_MOST, await now());
    },

    /** Terminated, failed or timed-out runs of payments that are not over. */
    async sweepAbnormalEnds(): Promise<number> {
      const at = await now();
      const since = new Date(at.getTime() - ABNORMAL_WINDOW_MS).toISOString();
      const ended = client.workflow.list({
        query: `WorkflowType = '${PAYMENT_WORKFLOW}' AND ExecutionStatus IN ('Terminated', 'Failed', 'TimedOut', 'Canceled') AND CloseTime > '${since}'`,
      });
      const ids = new Set<string>();
      for await (const { workflowId } of ended) {
        ids.add(paymentIdOf(workflowId));
        if (ids.size >= ABNORMAL_AT_MOST) break;
      }
      if (ids.size === 0) return 0;
      const unfinished = await takeUnfinished(db, [...ids], LATE_WATCH_TOTAL_MS, at);
      return await each(
        unfinished,
        wake('The sweep found its workflow ended abnormally and started it again.'),
      );
    },

    /** Callbacks that came before their payment was there; the next haul delivers them. */
    async sweepUnmatched(): Promise<number> {
      return await matchCallbacks(db, await now());
    },

    /** Callbacks that were stored, and acknowledged, while Temporal could not be told. */
    async sweepCallbacks(): Promise<number> {
      return await each(await takeUndeliveredCallbacks(db, await now()), async ({ payment, ...callback }) => {
        await deliverStored({ db, workflows, refundWorkflows }, callback, payment, SIGNAL_DEADLINE_MS);
        const at = await now();
        await markDelivered(db, callback.id, at);
        await note(db, payment.id, 'sweep', 'The sweep delivered a stored callback.', at);
        return true;
      });
    },

    /** Refunds whose workflow was never started, or is gone. */
    async sweepRefunds(): Promise<number> {
      return await each(await takeStuckRefunds(db, await now()), async (refund) => {
        await refundWorkflows.start(toRefundSnapshot(refund, refund.payment), SIGNAL_DEADLINE_MS);
        const at = await now();
        await restRefund(db, refund.id, at);
        const detail = `The sweep made sure that the workflow of refund ${refund.id} runs.`;
        await note(db, refund.paymentId, 'sweep', detail, at, { refundId: refund.id });
        return true;
      });
    },

    /** Events that are not told though it is time: their workflows were never started, or are gone. */
    async sweepDeliveries(): Promise<number> {
      return await each(await takeOverdueDeliveries(db, await now()), async (row) => {
        const delivery = toDeliverySnapshot(row);
        if (delivery.toldByPayment) await workflows.wake(row.payment, SIGNAL_DEADLINE_MS);
        else await deliveryWorkflows.wake(delivery, SIGNAL_DEADLINE_MS);
        const at = await now();
        await restDelivery(db, row.id, at);
        const detail = `The sweep has the order service told of ${delivery.type} (${row.eventId}).`;
        await note(db, row.paymentId, 'sweep', detail, at, { deliveryId: row.id });
        return true;
      });
    },

    /** What is kept for a while only. */
    async sweepOld(): Promise<number> {
      return await removeOld(db, await now());
    },
  };
}

export type SweepActivities = ReturnType<typeof sweepActivities>;
