import type { Client } from '@temporalio/client';
import { isMoney, recordedAnswer } from '../domain/answer.ts';
import { deliveryWorkflowId, paymentIdOf, paymentWorkflowId, refundWorkflowId } from '../domain/names.ts';
import { markDelivered, matchCallbacks } from '../ledger/callbacks.ts';
import type { LedgerClient } from '../ledger/client.ts';
import { handOver, showOverdue, toDeliverySnapshot } from '../ledger/deliveries.ts';
import { findEndingOrders, releaseEndingOrder } from '../ledger/orders.ts';
import { toRefundSnapshot } from '../ledger/payment-facts.ts';
import { findDueRedeliveries } from '../ledger/redelivery.ts';
import { removeOld } from '../ledger/retention.ts';
import type { Payment } from '../ledger/rows.ts';
import { endStuck, findShownStuck, showStuck } from '../ledger/stuck-workflows.ts';
import {
  findUnseenDeliveries,
  postponeDelivery,
  postponePayment,
  postponeRefund,
  takeNoticed,
  takeOverdueDeliveries,
  takeStuckPayments,
  takeStuckRefunds,
  takeUndeliveredCallbacks,
  takeUnfinished,
} from '../ledger/sweep.ts';
import { note } from '../ledger/timeline.ts';
import type { DeliveryWorkflows } from '../temporal/delivery-workflows.ts';
import { forwardStoredCallback } from '../temporal/forward-callback.ts';
import type { PaymentWorkflows } from '../temporal/payment-workflows.ts';
import type { RefundWorkflows } from '../temporal/refund-workflows.ts';
import { readWorkflowState, type WorkflowState } from '../temporal/workflow-state.ts';
import { PAYMENT_WORKFLOW } from '../workflows/messages.ts';
import { settle } from './settle.ts';

const SIGNAL_DEADLINE_MS = 5_000;
/** A step leaves what it has not come to by then to the next sweep: less than its activity is given. */
const STEP_FOR_MS = 40_000;
/** How far back ended runs are looked at: longer than workers are ever all away unnoticed. */
const ABNORMAL_WINDOW_MS = 24 * 3_600_000;
/** So many ended runs are looked up in the ledger at once. */
const ABNORMAL_CHUNK = 1_000;
const ORDERS_AT_ONCE = 50;

/** Rows repaired one after another, for as long as there is time. */
class SweepStep {
  readonly #until = performance.now() + STEP_FOR_MS;
  readonly #failures: unknown[] = [];
  #repaired = 0;

  isOver(): boolean {
    return performance.now() >= this.#until;
  }

  /** Batch after batch, until there is nothing more. */
  async all<Row>(take: () => Promise<readonly Row[]>, repair: (row: Row) => Promise<boolean>): Promise<void> {
    while (!this.isOver()) {
      const rows = await take();
      if (rows.length === 0) return;
      await this.each(rows, repair);
    }
  }

  /** One row that cannot be repaired must not keep the others from it. */
  async each<Row>(rows: readonly Row[], repair: (row: Row) => Promise<boolean>): Promise<void> {
    for (const row of rows) {
      if (this.isOver()) return;
      try {
        if (await repair(row)) this.#repaired += 1;
      } catch (error) {
        this.#failures.push(error);
      }
    }
  }

  /** @returns how many were repaired. @throws Error when some could not be. */
  end(): number {
    const [first] = this.#failures;
    if (first === undefined) return this.#repaired;
    throw new Error(`${this.#repaired} repaired, ${this.#failures.length} not, the first: ${first}`, {
      cause: first,
    });
  }
}

/** Since when the payment's workflow has an unfinished task; it is looked at until it has none. */
function busySince({ workflowBusySince }: Payment, state: WorkflowState, now: Date): Date | null {
  return state === 'busy' || state === 'stuck' ? (workflowBusySince ?? now) : null;
}

/**
 * The workflow was told at an earlier look, and still has an unfinished task. Each signal makes the server count the
 * task's attempts anew: a workflow that is told at every look would never be seen to be stuck.
 */
function isSignalledAlready({ workflowBusySince }: Payment, state: WorkflowState): boolean {
  return workflowBusySince !== null && (state === 'busy' || state === 'stuck');
}

async function repairAll<Row>(
  take: () => Promise<readonly Row[]>,
  repair: (row: Row) => Promise<boolean>,
): Promise<number> {
  const step = new SweepStep();
  await step.all(take, repair);
  return step.end();
}

export interface SweepDeps {
  readonly db: LedgerClient;
  readonly client: Client;
  readonly workflows: PaymentWorkflows;
  readonly refundWorkflows: RefundWorkflows;
  readonly deliveryWorkflows: Pick<DeliveryWorkflows, 'start' | 'wake' | 'redeliverWaiting'>;
  /** See ActivityDeps. */
  readonly orderUnknownForMs?: number;
  readonly now: () => Promise<Date>;
}

/** The safety net's steps; each returns how many it repaired. Task queue `nodrop-sweep`. */
export function sweepActivities({
  db,
  client,
  workflows,
  refundWorkflows,
  deliveryWorkflows,
  orderUnknownForMs,
  now,
}: SweepDeps) {
  const stateOf = (workflowId: string) => readWorkflowState(client, workflowId, SIGNAL_DEADLINE_MS);

  /** All that the payment's workflow does with money on record. Of what is not told here other steps tell. */
  const settleInstead = async (payment: Payment): Promise<void> => {
    const { id: paymentId, merchantId, orderId } = payment;
    const owned = { paymentId, merchantId, orderId };
    const { cancelled, refund } = await settle({ db, deliveryWorkflows }, owned, await now());
    await note(db, payment.id, 'sweep', 'The sweep settled the money on record.', await now());
    const others = await db.payment.findMany({ where: { id: { in: cancelled } } });
    const owed = refund === null ? null : await db.refund.findUniqueOrThrow({ where: { id: refund } });
    await Promise.allSettled([
      ...others.map((other) => workflows.cancel(other, SIGNAL_DEADLINE_MS)),
      owed && refundWorkflows.start(toRefundSnapshot(owed, payment), SIGNAL_DEADLINE_MS),
    ]);
  };

  /** The payment's workflow is stuck: it is shown, and the event on which the payment waits is told without it. */
  const dealWithStuck = async (paymentId: string): Promise<void> => {
    await showStuck(db, paymentId, paymentWorkflowId(paymentId), await now());
    const delivery = await handOver(db, paymentId, await now());
    if (delivery !== null) await deliveryWorkflows.wake(delivery, SIGNAL_DEADLINE_MS);
  };

  const wake = (why: string) => async (payment: Payment) => {
    const isUnsettled = payment.status !== 'succeeded' && isMoney(recordedAnswer(payment));
    // First, as it needs no Temporal. What it could not do, its workflow may be able to, and a person has to know.
    const [settled] = await Promise.allSettled([isUnsettled ? settleInstead(payment) : undefined]);
    const state = await stateOf(paymentWorkflowId(payment.id));
    // Settled at an earlier look: its workflow may have ended since then.
    const isOver = payment.status === 'succeeded' && payment.orderUpdate !== 'pending';
    const isDead = state === 'gone' && !isOver;
    // A workflow that runs goes on by itself; all it may have missed is the wish to cancel, and money on record.
    const isUnheard = state !== 'gone' && !isOver && (payment.cancelRequestedAt !== null || isUnsettled);
    if (isDead || (isUnheard && !isSignalledAlready(payment, state)))
      await workflows.wake(payment, SIGNAL_DEADLINE_MS);
    if (state === 'stuck') await dealWithStuck(payment.id);
    const at = await now();
    await postponePayment(db, payment.id, busySince(payment, state, at), at);
    if (isDead) await note(db, payment.id, 'sweep', why, at);
    if (settled.status === 'rejected') throw settled.reason;
    return isDead || isUnsettled;
  };

  return {
    /** Rows without a workflow, overdue payments, forgotten cancels. */
    async sweepPayments(): Promise<number> {
      return await repairAll(
        async () => await takeStuckPayments(db, await now()),
        wake('The sweep found it stuck and started its workflow.'),
      );
    },

    /** Payments that are shown because a workflow of theirs was stuck, and none is any more. */
    async sweepStuck(): Promise<number> {
      const step = new SweepStep();
      let after = '';
      await step.all(
        async () => {
          const page = await findShownStuck(db, after);
          after = page.at(-1)?.payment.id ?? after;
          return page;
        },
        async ({ payment, workflowIds }) => {
          const states = await Promise.all(workflowIds.map(stateOf));
          if (states.includes('stuck') || states.includes('busy')) return false;
          await endStuck(db, payment.id, await now());
          // It shows its attention where workflows are listed.
          if (states[0] === 'running') await workflows.wake(payment, SIGNAL_DEADLINE_MS);
          return true;
        },
      );
      return step.end();
    },

    /** Expired or cancelled orders that no payment will end. */
    async sweepOrders(): Promise<number> {
      return await repairAll(
        async () => await findEndingOrders(db, ORDERS_AT_ONCE, await now()),
        async (order) => await releaseEndingOrder(db, order, await now()),
      );
    },

    /** Terminated, failed or timed-out runs of payments that are not over. */
    async sweepAbnormalEnds(): Promise<number> {
      const at = await now();
      const since = new Date(at.getTime() - ABNORMAL_WINDOW_MS).toISOString();
      const ended = client.workflow.list({
        query: `WorkflowType = '${PAYMENT_WORKFLOW}' AND ExecutionStatus IN ('Terminated', 'Failed', 'TimedOut', 'Canceled') AND CloseTime > '${since}'`,
      });
      const step = new SweepStep();
      const repair = wake('The sweep found its workflow ended abnormally and started it again.');
      const look = async (ids: ReadonlySet<string>) =>
        await step.each(await takeUnfinished(db, [...ids], at), repair);
      const ids = new Set<string>();
      for await (const { workflowId } of ended) {
        ids.add(paymentIdOf(workflowId));
        if (ids.size < ABNORMAL_CHUNK) continue;
        await look(ids);
        ids.clear();
        // The next sweep passes over what has its rest, and comes further.
        if (step.isOver()) break;
      }
      await look(ids);
      return step.end();
    },

    /** Callbacks that came before their payment was there; the next step delivers them. */
    async sweepUnmatched(): Promise<number> {
      return await matchCallbacks(db, await now());
    },

    /**
     * Callbacks that were stored, and acknowledged, while Temporal could not be told; and payments of which the channel
     * has news that nobody could ask for, or that it was silent on.
     */
    async sweepCallbacks(): Promise<number> {
      const step = new SweepStep();
      await step.all(
        async () => await takeUndeliveredCallbacks(db, await now()),
        async ({ payment, ...callback }) => {
          const at = await now();
          await forwardStoredCallback(
            { db, workflows, refundWorkflows },
            callback,
            payment,
            at,
            SIGNAL_DEADLINE_MS,
          );
          await markDelivered(db, callback.id, at);
          await note(db, payment.id, 'sweep', 'The sweep delivered a stored callback.', at);
          return true;
        },
      );
      await step.all(
        async () => await takeNoticed(db, await now()),
        async (payment) => {
          await workflows.notice(payment, SIGNAL_DEADLINE_MS);
          return true;
        },
      );
      return step.end();
    },

    /** Refunds whose workflow was never started, or is gone. */
    async sweepRefunds(): Promise<number> {
      return await repairAll(
        async () => await takeStuckRefunds(db, await now()),
        async (refund) => {
          const workflowId = refundWorkflowId(refund.id);
          const state = await stateOf(workflowId);
          if (state === 'stuck') await showStuck(db, refund.paymentId, workflowId, await now());
          if (state === 'gone')
            await refundWorkflows.start(toRefundSnapshot(refund, refund.payment), SIGNAL_DEADLINE_MS);
          const at = await now();
          await postponeRefund(db, refund.id, at);
          // One that runs and is silent, say held back by a dispute, goes on by itself.
          if (state !== 'gone') return false;
          const detail = `The sweep started the workflow of refund ${refund.id}.`;
          await note(db, refund.paymentId, 'sweep', detail, at, { refundId: refund.id });
          return true;
        },
      );
    },

    /**
     * Events that are not told though it is time: their workflows were never started, or are gone. Payments of which
     * one is not told for long are shown. Redeliveries that are due are made sure to run.
     */
    async sweepDeliveries(): Promise<number> {
      const step = new SweepStep();
      await step.each(await findDueRedeliveries(db, await now()), async (merchantId) => {
        await deliveryWorkflows.redeliverWaiting(merchantId, SIGNAL_DEADLINE_MS);
        return false;
      });
      await step.each(await findUnseenDeliveries(db, await now()), async (deliveryId) => {
        const { paymentId, attention } = await showOverdue(db, deliveryId, await now(), orderUnknownForMs);
        // It shows its attention where workflows are listed; for an event on which it does not wait none is started.
        if (
          attention !== null &&
          (attention !== 'delivery_failing' || (await stateOf(paymentWorkflowId(paymentId))) === 'running')
        )
          await workflows.wake(
            await db.payment.findUniqueOrThrow({ where: { id: paymentId } }),
            SIGNAL_DEADLINE_MS,
          );
        return attention !== null;
      });
      await step.all(
        async () => await takeOverdueDeliveries(db, await now()),
        async (row) => {
          const delivery = toDeliverySnapshot(row);
          const workflowId = delivery.toldByPayment
            ? paymentWorkflowId(row.paymentId)
            : deliveryWorkflowId(row.id);
          const state = await stateOf(workflowId);
          const isStuck = state === 'stuck';
          if (delivery.toldByPayment) {
            if (isStuck) await dealWithStuck(row.paymentId);
            else if (!isSignalledAlready(row.payment, state))
              await workflows.wake(row.payment, SIGNAL_DEADLINE_MS);
            const at = await now();
            await postponePayment(db, row.paymentId, busySince(row.payment, state, at), at);
          } else {
            if (isStuck) await showStuck(db, row.paymentId, workflowId, await now());
            await deliveryWorkflows.wake(delivery, SIGNAL_DEADLINE_MS);
          }
          const at = await now();
          await postponeDelivery(db, row.id, at);
          const detail = `The sweep has the order service told of ${delivery.type} (${row.eventId}).`;
          await note(db, row.paymentId, 'sweep', detail, at, { deliveryId: row.id });
          return true;
        },
      );
      return step.end();
    },

    /** What is kept for a while only. */
    async sweepOld(): Promise<number> {
      return await removeOld(db, await now());
    },
  };
}

export type SweepActivities = ReturnType<typeof sweepActivities>;
