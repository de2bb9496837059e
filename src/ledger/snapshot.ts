import type { Attention } from '../domain/attention.ts';
import type { ChannelAnswer, NextAction, PaidAnswer } from '../domain/channel.ts';
import type { PaymentSnapshot } from '../domain/payment.ts';
import { isEnded, isLive, type OrderUpdate, type PaymentStatus, type SettledBy } from '../domain/states.ts';
import type { Payment, Prisma } from '../generated/prisma/client.ts';

/** The definite answer of the channel, with what brought it. Stored in `payments.channel_answer`. */
export type RecordedAnswer = Extract<ChannelAnswer, { state: 'paid' | 'refunded' | 'closed' | 'failed' }> & {
  readonly by: SettledBy;
};

export function recordedAnswer(payment: Payment): RecordedAnswer | null {
  return payment.channelAnswer as RecordedAnswer | null;
}

export function nextActionOf(payment: Payment): NextAction | null {
  return payment.nextAction as NextAction | null;
}

/** True while the payer can still use the stored next action. */
export function hasUsableAction(payment: Payment, now: Date): boolean {
  const action = nextActionOf(payment);
  return action !== null && (action.expiresAt === undefined || Date.parse(action.expiresAt) > now.getTime());
}

export function toSnapshot(payment: Payment, now: Date): PaymentSnapshot {
  const status = payment.status as PaymentStatus;
  return {
    id: payment.id,
    orderId: payment.orderId,
    channel: payment.channel,
    amount: Number(payment.amount),
    currency: payment.currency,
    status,
    orderUpdate: payment.orderUpdate as OrderUpdate | null,
    createdAt: payment.createdAt.getTime(),
    expiresAt: payment.expiresAt.getTime(),
    endedAt: isEnded(status) ? (payment.endedAt?.getTime() ?? null) : null,
    cancelRequested: payment.cancelRequestedAt !== null,
    nextActionReady: hasUsableAction(payment, now),
    channelState: payment.channelState,
    channelAnsweredAt: payment.channelAnsweredAt?.getTime() ?? null,
    channelErrorSince: payment.channelErrorSince?.getTime() ?? null,
    answer: recordedAnswer(payment)?.state ?? null,
    attention: payment.attention as Attention | null,
  };
}

/** True for an answer that says that money came in, wherever it is now. */
export function isMoney(answer: ChannelAnswer | null): answer is PaidAnswer {
  return answer?.state === 'paid' || answer?.state === 'refunded';
}

/** Money is on record, and the order update that decides over it has not run yet. */
export function hasUnsettledMoney(payment: Payment): boolean {
  return payment.status !== 'succeeded' && isMoney(recordedAnswer(payment));
}

/** `hasUnsettledMoney` as a condition on rows. */
export const UNSETTLED_MONEY = {
  status: { not: 'succeeded' },
  OR: ['paid', 'refunded'].map((state) => ({ channelAnswer: { path: ['state'], equals: state } })),
} satisfies Prisma.PaymentWhereInput;

/**
 * Money or a decision is on its way by this attempt: the payer has acted, or money is here that nobody has decided
 * over. Until then nobody is to pay its order again.
 */
export function isUndecided(payment: Payment): boolean {
  const { status, orderUpdate, channelState } = payment;
  if (orderUpdate === 'pending' || orderUpdate === 'review' || hasUnsettledMoney(payment)) return true;
  return isLive(status as PaymentStatus) && channelState !== null && PAYER_HAS_ACTED.has(channelState);
}

const PAYER_HAS_ACTED: ReadonlySet<string> = new Set<ChannelAnswer['state']>([
  'processing',
  'paid',
  'refunded',
]);

/** The same money as in the answer on record, of which more has gone back since. */
export function tellsMoreOf(known: PaidAnswer, answer: PaidAnswer): boolean {
  const back = ({ state, amount, refundedAmount = 0 }: PaidAnswer) =>
    state === 'refunded' ? amount : refundedAmount;
  return answer.amount === known.amount && answer.currency === known.currency && back(answer) > back(known);
}
