import type { Client } from '@temporalio/client';
import { paymentIdOf } from '../domain/names.ts';
import { LATE_WATCH_MS } from '../domain/schedule.ts';
import type { Payment } from '../generated/prisma/client.ts';
import { markDelivered } from '../ledger/callbacks.ts';
import type { LedgerClient } from '../ledger/client.ts';
import { toRefundSnapshot } from '../ledger/refunds.ts';
import {
  restPayment,
  restRefund,
  takeStuckPayments,
  takeStuckRefunds,
  takeUndeliveredCallbacks,
  takeUnfinished,
} from '../ledger/sweep.ts';
import { note } from '../ledger/timeline.ts';
import { PAYMENT_WORKFLOW } from '../workflows/messages.ts';
import { deliverStored } from './deliver.ts';
import type { PaymentWorkflows } from './payment-workflows.ts';
import type { RefundWorkflows } from './refund-workflows.ts';

const SIGNAL_DEADLINE_MS = 5_000;
/** How far back ended runs are looked at: longer than workers are ever all away unnoticed. */
const ABNORMAL_WINDOW_MS = 24 * 3_600_000;
const ABNORMAL_AT_MOST = 1_000;
const LATE_WATCH_TOTAL_MS = Math.max(...LATE_WATCH_MS);

export interface SweepDeps {
  readonly db: LedgerClient;
  readonly client: Client;
  readonly workflows: PaymentWorkflows;
  readonly refundWorkflows: RefundWorkflows;
  readonly now: () => Promise<Date>;
}

/** The safety net's hauls; each returns how many it healed. Task queue `nodrop`. */
export function sweepActivities({ db, client, workflows, refundWorkflows, now }: SweepDeps) {
  const wake = async (payments: readonly Payment[], why: string): Promise<number> => {
    for (const payment of payments) {
      await workflows.wake(payment, SIGNAL_DEADLINE_MS);
      const at = await now();
      await restPayment(db, payment.id, at);
      await note(db, payment.id, 'sweep', why, at);
    }
    return payments.length;
  };

  return {
    /** Rows without a workflow, overdue payments, forgotten cancels. */
    async sweepPayments(): Promise<number> {
      return await wake(
        await takeStuckPayments(db, await now()),
        'The sweep found it stuck and woke its workflow.',
      );
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
      return await wake(unfinished, 'The sweep found its workflow ended abnormally and started it again.');
    },

    /** Callbacks that were stored, and acknowledged, while Temporal could not be told. */
    async sweepCallbacks(): Promise<number> {
      const callbacks = await takeUndeliveredCallbacks(db, await now());
      for (const callback of callbacks) {
        if (callback.payment === null) continue;
        await deliverStored(
          { db, workflows, refundWorkflows },
          callback,
          callback.payment,
          SIGNAL_DEADLINE_MS,
        );
        const at = await now();
        await markDelivered(db, callback.id, at);
        await note(db, callback.payment.id, 'sweep', 'The sweep delivered a stored callback.', at);
      }
      return callbacks.length;
    },

    /** Refunds whose workflow was never started, or is gone. */
    async sweepRefunds(): Promise<number> {
      const refunds = await takeStuckRefunds(db, await now());
      for (const refund of refunds) {
        await refundWorkflows.start(toRefundSnapshot(refund, refund.payment), SIGNAL_DEADLINE_MS);
        const at = await now();
        await restRefund(db, refund.id, at);
        const detail = `The sweep made sure that the workflow of refund ${refund.id} runs.`;
        await note(db, refund.paymentId, 'sweep', detail, at, { refundId: refund.id });
      }
      return refunds.length;
    },
  };
}

export type SweepActivities = ReturnType<typeof sweepActivities>;
