import type { ChannelAnswer } from '../domain/channel.ts';
import type { CallbackNotice } from '../domain/payment.ts';
import { readCallback } from '../ledger/callbacks.ts';
import type { LedgerClient } from '../ledger/client.ts';
import type { Callback, Payment } from '../ledger/rows.ts';
import { toRefundSnapshot } from '../ledger/snapshot.ts';
import type { PaymentWorkflows } from './payment-workflows.ts';
import type { RefundWorkflows } from './refund-workflows.ts';

export interface DeliverDeps {
  readonly db: LedgerClient;
  readonly workflows: Pick<PaymentWorkflows, 'deliverCallback'>;
  readonly refundWorkflows: Pick<RefundWorkflows, 'deliverCallback'>;
}

/** What a callback's signal says of it; the money itself stays in the ledger. */
export function noticeOf(callbackId: string, answer: ChannelAnswer): CallbackNotice {
  if (answer.state !== 'paid' && answer.state !== 'refunded') return { callbackId, state: answer.state };
  const { state, amount, currency, refundedAmount = 0 } = answer;
  const refunded = state === 'refunded' ? amount : refundedAmount;
  return { callbackId, state, amount, currency, ...(refunded > 0 ? { refundedAmount: refunded } : {}) };
}

/**
 * Tells whoever waits for a stored callback: the refund it names, when that is one of ours, and else the payment.
 * @throws TemporalUnavailable
 */
export async function deliverStored(
  { db, workflows, refundWorkflows }: DeliverDeps,
  callback: Pick<Callback, 'id' | 'answer'>,
  payment: Payment,
  deadlineMs: number,
): Promise<void> {
  const { answer, refund } = readCallback(callback);
  const ours =
    refund?.outRefundNo === undefined
      ? null
      : await db.refund.findFirst({ where: { id: refund.outRefundNo, paymentId: payment.id } });
  if (ours === null) {
    await workflows.deliverCallback(payment, noticeOf(callback.id, answer), deadlineMs);
  } else {
    await refundWorkflows.deliverCallback(toRefundSnapshot(ours, payment), callback.id, deadlineMs);
  }
}
