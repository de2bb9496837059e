import { isFree, severityOf } from '../domain/attention.ts';
import { deliveryWorkflowId, paymentWorkflowId, refundWorkflowId } from '../domain/names.ts';
import { OPEN_REFUND_STATUSES, REASONS_OF_OTHERS } from '../domain/states.ts';
import type { LedgerClient } from './client.ts';
import { cleared, raised, underOrderLock, update } from './order-lock.ts';
import type { Payment } from './rows.ts';
import { note } from './timeline.ts';

/**
 * Handles stuck workflows, whose tasks fail repeatedly. The sweep raises an attention for a stuck workflow, and
 * clears the attention once the workflow's tasks succeed.
 */

const BATCH = 200;
const IS_CLEARED = 'workflow_stuck was cleared.';

/**
 * Raises `workflow_stuck` because the workflow of the payment, or of one of its refunds or deliveries, is stuck. A
 * dismissed attention is not raised again.
 */
export async function showStuck(
  db: LedgerClient,
  paymentId: string,
  workflowId: string,
  now: Date,
): Promise<void> {
  await underOrderLock(db, paymentId, now, async ({ tx, payment }) => {
    const { attention } = payment;
    // An attention of severity `wait` cannot end while the workflow is stuck. Therefore `workflow_stuck` replaces such
    // an attention. If the replaced attention's cause still exists later, the replaced attention is raised again.
    if (attention !== null && !isFree(attention) && severityOf(attention) !== 'wait') return;
    const detail = `The task of workflow ${workflowId} fails repeatedly; the Temporal Web UI shows the error.`;
    const said = `workflow_stuck: ${detail}`;
    const last = await tx.timelineEntry.findFirst({
      where: { paymentId, kind: 'attention', detail: { in: [said, IS_CLEARED] } },
      orderBy: { id: 'desc' },
    });
    if (last?.detail === said) return;
    await note(tx, paymentId, 'attention', said, now);
    await update(tx, paymentId, raised('workflow_stuck', detail, now));
  });
}

/** A payment with the attention `workflow_stuck`, and the workflows that may have caused the attention. */
export interface ShownStuck {
  readonly payment: Payment;
  readonly workflowIds: readonly string[];
}

/** Lists the payments with the attention `workflow_stuck`, in pages sorted by id. */
export async function findShownStuck(db: LedgerClient, after: string): Promise<ShownStuck[]> {
  const rows = await db.payment.findMany({
    where: { attention: 'workflow_stuck', id: { gt: after } },
    include: {
      refunds: {
        where: { status: { in: [...OPEN_REFUND_STATUSES] }, reason: { notIn: [...REASONS_OF_OTHERS] } },
        select: { id: true },
      },
      deliveries: { where: { status: 'pending' }, select: { id: true } },
    },
    orderBy: { id: 'asc' },
    take: BATCH,
  });
  return rows.map(({ refunds, deliveries, ...payment }) => ({
    payment,
    workflowIds: [
      paymentWorkflowId(payment.id),
      ...refunds.map(({ id }) => refundWorkflowId(id)),
      ...deliveries.map(({ id }) => deliveryWorkflowId(id)),
    ],
  }));
}

/** Clears `workflow_stuck`. Called when the payment's workflows are no longer stuck. */
export async function endStuck(db: LedgerClient, paymentId: string, now: Date): Promise<void> {
  await underOrderLock(db, paymentId, now, async ({ tx, payment }) => {
    const over = cleared(payment, 'tasks_done');
    if (over.attention === undefined) return;
    await note(tx, paymentId, 'attention', IS_CLEARED, now);
    await update(tx, paymentId, over);
  });
}
