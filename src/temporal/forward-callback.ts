import { goneBackBy, reportsRefunds } from '../domain/answer.ts';
import type { ChannelAnswer } from '../domain/channel.ts';
import type { CallbackNotice } from '../domain/payment.ts';
import { readCallback } from '../ledger/callbacks.ts';
import type { LedgerClient } from '../ledger/client.ts';
import { recordDisputeOfCallback } from '../ledger/disputes.ts';
import { recordNotice } from '../ledger/hints.ts';
import { toRefundSnapshot } from '../ledger/payment-facts.ts';
import { findNamedRefund } from '../ledger/refunds.ts';
import type { Callback, Payment } from '../ledger/rows.ts';
import type { PaymentWorkflows } from './payment-workflows.ts';
import type { RefundWorkflows } from './refund-workflows.ts';

export interface ForwardDeps {
  readonly db: LedgerClient;
  readonly workflows: Pick<PaymentWorkflows, 'deliverCallback' | 'notice' | 'wake'>;
  readonly refundWorkflows: Pick<RefundWorkflows, 'deliverCallback'>;
}

/**
 * The argument of the signal that forwards a callback to a workflow. The workflow does not settle with the amounts in
 * this argument. It uses the amounts in the ledger's row.
 */
export function noticeOf(callbackId: string, answer: ChannelAnswer): CallbackNotice {
  if (answer.state !== 'paid' && answer.state !== 'refunded') return { callbackId, state: answer.state };
  const { state, amount, currency } = answer;
  const refunds = reportsRefunds(answer) ? { refundedAmount: goneBackBy(answer) } : {};
  return { callbackId, state, amount, currency, ...refunds };
}

/**
 * Handles a stored callback of a known payment. The function records a dispute that the callback reports. If the
 * callback names a refund that nodrop made, the function signals the refund's workflow. Otherwise, if the callback
 * reports the trade's state, the function signals the payment's workflow. If the callback is a notice, or reports only
 * a refund that nodrop did not request, the function makes the payment's workflow query the channel. Handling a
 * callback twice has no further effect.
 * @throws TemporalUnavailable
 */
export async function forwardStoredCallback(
  { db, workflows, refundWorkflows }: ForwardDeps,
  callback: Pick<Callback, 'id' | 'kind' | 'answer'>,
  payment: Payment,
  now: Date,
  deadlineMs: number,
): Promise<void> {
  const { answer, refund, dispute } = readCallback(callback);
  const ask = async (reason: string) => {
    await recordNotice(db, payment.id, true, reason, now);
    await workflows.notice(payment, deadlineMs);
  };
  const disputed = dispute === undefined ? null : await recordDisputeOfCallback(db, payment.id, dispute, now);
  if (disputed?.isToBeAsked) await ask('A callback reported a dispute: the channel is queried.');
  // Wake the payment's workflow, which shows the attention `disputed` as a search attribute.
  else if (disputed !== null && answer === null) await workflows.wake(disputed.payment, deadlineMs);
  const ours = refund === undefined ? null : await findNamedRefund(db, payment.id, refund);
  if (ours !== null) {
    await refundWorkflows.deliverCallback(toRefundSnapshot(ours, payment), callback.id, deadlineMs);
  } else if (answer !== null) {
    await workflows.deliverCallback(payment, noticeOf(callback.id, answer), deadlineMs);
  } else if (callback.kind === 'refund') {
    await ask('A callback reported a refund that nodrop did not request: the channel is queried.');
  } else if (callback.kind === 'notice') {
    await ask('The channel sent a notice: nodrop queries the channel.');
  }
}
