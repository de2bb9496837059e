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
/**
 * After this time a step leaves its remaining rows to the next sweep. The time is shorter than the activity's timeout.
 */
const STEP_FOR_MS = 40_000;
/**
 * The sweep looks for workflows that ended abnormally within this time. While no worker runs, the sweep does not run
 * either. The time is long enough, because an operator notices such an outage sooner.
 */
const ABNORMAL_WINDOW_MS = 24 * 3_600_000;
/** The number of ended workflows whose payments one ledger query looks up. */
const ABNORMAL_CHUNK = 1_000;
const ORDERS_AT_ONCE = 50;

/** Repairs rows one after another until the step's time is over, and counts the repaired rows. */
class SweepStep {
  readonly #until = performance.now() + STEP_FOR_MS;
  readonly #failures: unknown[] = [];
  #repaired = 0;

  isOver(): boolean {
    return performance.now() >= this.#until;
  }

  /** Repairs one batch after another until no batch is left. */
  async all<Row>(take: () => Promise<readonly Row[]>, repair: (row: Row) => Promise<boolean>): Promise<void> {
    while (!this.isOver()) {
      const rows = await take();
      if (rows.length === 0) return;
      await this.each(rows, repair);
    }
  }

  /** Repairs each row. If a row cannot be repaired, the function continues with the next row. */
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

  /** @returns how many rows were repaired. @throws Error if some could not be repaired. */
  end(): number {
    const [first] = this.#failures;
    if (first === undefined) return this.#repaired;
    throw new Error(`${this.#repaired} repaired, ${this.#failures.length} failed, the first with: ${first}`, {
      cause: first,
    });
  }
}

/** The time since which a task of the payment's workflow has been pending. Null if no task is pending. */
function busySince({ workflowBusySince }: Payment, state: WorkflowState, now: Date): Date | null {
  return state === 'busy' || state === 'stuck' ? (workflowBusySince ?? now) : null;
}

/**
 * True if an earlier sweep has signalled the workflow, and its workflow task is still pending. Each signal makes the
 * server reset the task's attempt count. If every sweep sent a signal, a stuck workflow would never be detected.
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
  /** See `ActivityDeps`. */
  readonly orderUnknownForMs?: number;
  readonly now: () => Promise<Date>;
}

/** The steps of the sweep. Each step returns how many rows it repaired. The steps' task queue is `nodrop-sweep`. */
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

  /**
   * Settles recorded money instead of the payment's workflow, and signals the other workflows that this affects. If a
   * signal fails, other steps of the sweep send it later.
   */
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

  /**
   * Raises `workflow_stuck`. If the payment waits for the delivery of an event, the delivery gets its own workflow,
   * because the payment's workflow is stuck.
   */
  const dealWithStuck = async (paymentId: string): Promise<void> => {
    await showStuck(db, paymentId, paymentWorkflowId(paymentId), await now());
    const delivery = await handOver(db, paymentId, await now());
    if (delivery !== null) await deliveryWorkflows.wake(delivery, SIGNAL_DEADLINE_MS);
  };

  const wake = (why: string) => async (payment: Payment) => {
    const isUnsettled = payment.status !== 'succeeded' && isMoney(recordedAnswer(payment));
    // The recorded money is settled first, because this does not need Temporal. If settling fails, the sweep wakes the
    // payment's workflow anyway.
    const [settled] = await Promise.allSettled([isUnsettled ? settleInstead(payment) : undefined]);
    const state = await stateOf(paymentWorkflowId(payment.id));
    // An earlier sweep may have settled the payment, and the payment's workflow may have ended. In that case no
    // workflow is woken.
    const isOver = payment.status === 'succeeded' && payment.orderUpdate !== 'pending';
    const isDead = state === 'gone' && !isOver;
    // A running workflow makes progress without the sweep. The sweep signals it only if it may have missed a requested
    // cancellation or recorded money.
    const mayHaveMissed = state !== 'gone' && !isOver && (payment.cancelRequestedAt !== null || isUnsettled);
    if (isDead || (mayHaveMissed && !isSignalledAlready(payment, state)))
      await workflows.wake(payment, SIGNAL_DEADLINE_MS);
    if (state === 'stuck') await dealWithStuck(payment.id);
    const at = await now();
    await postponePayment(db, payment.id, busySince(payment, state, at), at);
    if (isDead) await note(db, payment.id, 'sweep', why, at);
    if (settled.status === 'rejected') throw settled.reason;
    return isDead || isUnsettled;
  };

  return {
    /**
     * Repairs payments without a workflow, overdue payments, unsettled money, and cancellations that were not
     * signalled.
     */
    async sweepPayments(): Promise<number> {
      return await repairAll(
        async () => await takeStuckPayments(db, await now()),
        wake('The sweep found the payment without a running workflow and started one.'),
      );
    },

    /** Clears `workflow_stuck` from payments whose workflows are no longer stuck. */
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
          // The woken workflow updates its search attribute for attentions.
          if (states[0] === 'running') await workflows.wake(payment, SIGNAL_DEADLINE_MS);
          return true;
        },
      );
      return step.end();
    },

    /**
     * Ends expired or cancelled orders that have no live payment. An order with a live payment ends when that payment
     * ends.
     */
    async sweepOrders(): Promise<number> {
      return await repairAll(
        async () => await findEndingOrders(db, ORDERS_AT_ONCE, await now()),
        async (order) => await releaseEndingOrder(db, order, await now()),
      );
    },

    /** Restarts workflows that were terminated, failed, timed out or cancelled although their payment has not ended. */
    async sweepAbnormalEnds(): Promise<number> {
      const at = await now();
      const since = new Date(at.getTime() - ABNORMAL_WINDOW_MS).toISOString();
      const ended = client.workflow.list({
        query: `WorkflowType = '${PAYMENT_WORKFLOW}' AND ExecutionStatus IN ('Terminated', 'Failed', 'TimedOut', 'Canceled') AND CloseTime > '${since}'`,
      });
      const step = new SweepStep();
      const repair = wake(
        "The sweep found that the payment's workflow had ended abnormally, and restarted it.",
      );
      const look = async (ids: ReadonlySet<string>) =>
        await step.each(await takeUnfinished(db, [...ids], at), repair);
      const ids = new Set<string>();
      for await (const { workflowId } of ended) {
        ids.add(paymentIdOf(workflowId));
        if (ids.size < ABNORMAL_CHUNK) continue;
        await look(ids);
        ids.clear();
        // No time is left. The next sweep skips the payments that this sweep has checked, and so reaches the remaining
        // payments.
        if (step.isOver()) break;
      }
      await look(ids);
      return step.end();
    },

    /**
     * Matches stored callbacks to their payments if the callbacks arrived before the payments existed. The next step,
     * `sweepCallbacks`, forwards the callbacks.
     */
    async sweepUnmatched(): Promise<number> {
      return await matchCallbacks(db, await now());
    },

    /**
     * Forwards callbacks that were stored and acknowledged while Temporal could not be reached. If a channel sent a
     * notice about a payment and no query was answered since, the payment's workflow gets the notice again.
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
          await note(db, payment.id, 'sweep', 'The sweep forwarded a stored callback to the workflow.', at);
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

    /** Starts a workflow for each refund that has no running workflow. */
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
          // A running workflow needs no repair, even if the channel has not answered for some time (for example during
          // a dispute).
          if (state !== 'gone') return false;
          const detail = `The sweep started the workflow of refund ${refund.id}.`;
          await note(db, refund.paymentId, 'sweep', detail, at, { refundId: refund.id });
          return true;
        },
      );
    },

    /**
     * Wakes the workflows of overdue deliveries, raises the attention for deliveries that have failed for long, and
     * starts redeliveries that are due.
     */
    async sweepDeliveries(): Promise<number> {
      const step = new SweepStep();
      await step.each(await findDueRedeliveries(db, await now()), async (merchantId) => {
        await deliveryWorkflows.redeliverWaiting(merchantId, SIGNAL_DEADLINE_MS);
        return false;
      });
      await step.each(await findUnseenDeliveries(db, await now()), async (deliveryId) => {
        const { paymentId, attention } = await showOverdue(db, deliveryId, await now(), orderUnknownForMs);
        // The woken workflow shows the attention in its search attribute. If no workflow runs, none is started for
        // `delivery_failing`, because the payment does not wait for that delivery.
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
          const detail = `The sweep restarted the delivery of ${delivery.type} (${row.eventId}) to the order service.`;
          await note(db, row.paymentId, 'sweep', detail, at, { deliveryId: row.id });
          return true;
        },
      );
      return step.end();
    },

    /** Deletes old rows whose retention has ended. */
    async sweepOld(): Promise<number> {
      return await removeOld(db, await now());
    },
  };
}

export type SweepActivities = ReturnType<typeof sweepActivities>;
