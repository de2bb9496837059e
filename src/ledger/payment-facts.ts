import { recordedAnswer } from '../domain/answer.ts';
import type { NextAction } from '../domain/channel.ts';
import type { PaymentSnapshot } from '../domain/payment.ts';
import type { RefundSnapshot } from '../domain/refund.ts';
import { isEnded } from '../domain/states.ts';
import type { Prisma } from '../generated/prisma/client.ts';
import type { Payment, Refund } from './rows.ts';

export function nextActionOf(payment: Payment): NextAction | null {
  return payment.nextAction as NextAction | null;
}

/** True while the payer can still use the stored next action. */
export function hasUsableAction(payment: Payment, now: Date): boolean {
  const action = nextActionOf(payment);
  return action !== null && (action.expiresAt === undefined || Date.parse(action.expiresAt) > now.getTime());
}

export function toSnapshot(payment: Payment, now: Date): PaymentSnapshot {
  const { status } = payment;
  return {
    id: payment.id,
    orderId: payment.orderId,
    channel: payment.channel,
    amount: Number(payment.amount),
    currency: payment.currency,
    status,
    orderUpdate: payment.orderUpdate,
    createdAt: payment.createdAt.getTime(),
    expiresAt: payment.expiresAt.getTime(),
    endedAt: isEnded(status) ? (payment.endedAt?.getTime() ?? null) : null,
    cancelRequested: payment.cancelRequestedAt !== null,
    ...(payment.noActionSince === null ? {} : { noAction: true }),
    ...(payment.closeNotBefore === null ? {} : { closeNotBefore: payment.closeNotBefore.getTime() }),
    nextActionReady: hasUsableAction(payment, now),
    channelState: payment.channelState,
    channelAnsweredAt: payment.channelAnsweredAt?.getTime() ?? null,
    channelErrorSince: payment.channelErrorSince?.getTime() ?? null,
    answer: recordedAnswer(payment)?.state ?? null,
    attention: payment.attention,
  };
}

export function toRefundSnapshot(
  refund: Refund,
  payment: Pick<Payment, 'orderId' | 'channel'>,
): RefundSnapshot {
  return {
    id: refund.id,
    paymentId: refund.paymentId,
    orderId: payment.orderId,
    channel: payment.channel,
    amount: Number(refund.amount),
    currency: refund.currency,
    status: refund.status,
    reason: refund.reason,
    createdAt: refund.createdAt.getTime(),
    unknownSince: refund.unknownSince?.getTime() ?? null,
  };
}

/** True if all money that the payment received has been given back. */
export const isAllBack = ({ receivedAmount, refundedAmount }: Payment): boolean =>
  receivedAmount !== null && refundedAmount >= receivedAmount;

/** `hasUnsettledMoney` of src/domain/attempt.ts, as a condition on rows. */
export const UNSETTLED_MONEY = {
  status: { not: 'succeeded' },
  OR: ['paid', 'refunded'].map((state) => ({ channelAnswer: { path: ['state'], equals: state } })),
} satisfies Prisma.PaymentWhereInput;
