import { isFree, severityOf } from '../domain/attention.ts';
import { deliveryWorkflowId, paymentWorkflowId, refundWorkflowId } from '../domain/names.ts';
import { OPEN_REFUND_STATUSES, REASONS_OF_OTHERS } from '../domain/states.ts';
import type { LedgerClient } from './client.ts';
import { cleared, raised, underOrderLock, update } from './order-lock.ts';
import type { Payment } from './rows.ts';
import { note } from './timeline.ts';

/** Workflows whose task fails again and again: the sweep shows them, and stops showing them once they get on. */

const BATCH = 200;
const IS_OVER = 'workflow_stuck is over.';

/** Shows the payment to a person because of this workflow of its own, its refunds' or its deliveries'. What was dismissed stays hidden. */
export async function showStuck(
  db: LedgerClient,
  paymentId: string,
  workflowId: string,
  now: Date,
): Promise<void> {
  await underOrderLock(db, paymentId, now, async ({ tx, payment }) => {
    const { attention } = payment;
    // A stuck workflow keeps what waits from ending; it is raised again when it is still true afterwards.
    if (attention !== null && !isFree(attention) && severityOf(attention) !== 'wait') return;
    const detail = `The task of workflow ${workflowId} fails again and again; the Temporal Web UI says why.`;
    const said = `workflow_stuck: ${detail}`;
    const last = await tx.timelineEntry.findFirst({
      where: { paymentId, kind: 'attention', detail: { in: [said, IS_OVER] } },
      orderBy: { id: 'desc' },
    });
    if (last?.detail === said) return;
    await note(tx, paymentId, 'attention', said, now);
    await update(tx, paymentId, raised('workflow_stuck', detail, now));
  });
}

/** A payment that is shown as stuck, with the workflows that may be. */
export interface ShownStuck {
  readonly payment: Payment;
  readonly workflowIds: readonly string[];
}

/** The payments that are shown as stuck, in pages by id. */
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

/** None of its workflows is stuck any more. */
export async function endStuck(db: LedgerClient, paymentId: string, now: Date): Promise<void> {
  await underOrderLock(db, paymentId, now, async ({ tx, payment }) => {
    const over = cleared(payment, 'tasks_done');
    if (over.attention === undefined) return;
    await note(tx, paymentId, 'attention', IS_OVER, now);
    await update(tx, paymentId, over);
  });
}
