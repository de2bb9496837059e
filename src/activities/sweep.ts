import type { Client } from '@temporalio/client';
import type { ChannelAnswer } from '../domain/channel.ts';
import { paymentIdOf } from '../domain/names.ts';
import type { CallbackNotice } from '../domain/payment.ts';
import { LATE_WATCH_MS } from '../domain/schedule.ts';
import type { Payment } from '../generated/prisma/client.ts';
import { markDelivered, matchCallbacks } from '../ledger/callbacks.ts';
import { removeOld } from '../ledger/cleanup.ts';
import type { LedgerClient } from '../ledger/client.ts';
import { restPayment, takeStuckPayments, takeUndeliveredCallbacks, takeUnfinished } from '../ledger/sweep.ts';
import { note } from '../ledger/timeline.ts';
import { PAYMENT_WORKFLOW } from '../workflows/messages.ts';
import type { PaymentWorkflows } from './payment-workflows.ts';

const SIGNAL_DEADLINE_MS = 5_000;
/** How far back ended runs are looked at: longer than workers are ever all away unnoticed. */
const ABNORMAL_WINDOW_MS = 24 * 3_600_000;
const ABNORMAL_AT_MOST = 1_000;
const LATE_WATCH_TOTAL_MS = Math.max(...LATE_WATCH_MS);

export interface SweepDeps {
  readonly db: LedgerClient;
  readonly client: Client;
  readonly workflows: PaymentWorkflows;
  readonly now: () => Promise<Date>;
}

/** What a callback's signal says of it; the money itself stays in the ledger. */
export function noticeOf(callbackId: string, answer: ChannelAnswer): CallbackNotice {
  if (answer.state !== 'paid' && answer.state !== 'refunded') return { callbackId, state: answer.state };
  return { callbackId, state: answer.state, amount: answer.amount, currency: answer.currency };
}

/** The safety net's hauls; each returns how many it healed. Task queue `nodrop`. */
export function sweepActivities({ db, client, workflows, now }: SweepDeps) {
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

    /** Callbacks that came before their payment was there; the next haul delivers them. */
    async sweepUnmatched(): Promise<number> {
      return await matchCallbacks(db, await now());
    },

    /** Callbacks that were stored, and acknowledged, while Temporal could not be told. */
    async sweepCallbacks(): Promise<number> {
      const callbacks = await takeUndeliveredCallbacks(db, await now());
      for (const callback of callbacks) {
        if (callback.payment === null) continue;
        const notice = noticeOf(callback.id, callback.answer as unknown as ChannelAnswer);
        await workflows.deliverCallback(callback.payment, notice, SIGNAL_DEADLINE_MS);
        const at = await now();
        await markDelivered(db, callback.id, at);
        await note(db, callback.payment.id, 'sweep', 'The sweep delivered a stored callback.', at);
      }
      return callbacks.length;
    },

    /** What is kept for a while only. */
    async sweepOld(): Promise<number> {
      return await removeOld(db, await now());
    },
  };
}

export type SweepActivities = ReturnType<typeof sweepActivities>;
