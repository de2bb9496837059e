import type { ChannelAnswer, ChannelRefund, PaidAnswer } from './channel.ts';
import { isLive, type PaymentStatus, type SettledBy } from './states.ts';

/** Decides which answers of a channel the ledger records. All functions in this file are pure. */

/** A definite answer of the channel, with its source. It is stored in `payments.channel_answer`. */
export type RecordedAnswer = Extract<ChannelAnswer, { state: 'paid' | 'refunded' | 'closed' | 'failed' }> & {
  readonly by: SettledBy;
};

export function recordedAnswer(payment: { readonly channelAnswer: unknown }): RecordedAnswer | null {
  return payment.channelAnswer as RecordedAnswer | null;
}

/** True for an answer that reports received money. It stays true if the money was refunded afterwards. */
export function isMoney(answer: ChannelAnswer | null): answer is PaidAnswer {
  return answer?.state === 'paid' || answer?.state === 'refunded';
}

/**
 * The amount that was refunded according to this answer, in minor units. If the answer lists the refunds, the amount is
 * the sum of the succeeded ones.
 */
export function goneBackBy({
  state,
  amount,
  refunds,
  refundedAmount = 0,
}: Pick<PaidAnswer, 'state' | 'amount'> & {
  readonly refunds?: readonly Pick<ChannelRefund, 'state' | 'amount'>[] | undefined;
  readonly refundedAmount?: number | undefined;
}): number {
  if (refunds === undefined) return state === 'refunded' ? amount : refundedAmount;
  return refunds.reduce((sum, refund) => (refund.state === 'succeeded' ? sum + refund.amount : sum), 0);
}

/** True if the answer reports any refund, whatever the state of the refund is. */
export const reportsRefunds = (answer: PaidAnswer): boolean =>
  goneBackBy(answer) > 0 || (answer.refunds ?? []).length > 0 || answer.someWentBack === true;

/** True if the recorded answer says that some money was refunded, but nodrop knows no refund that explains this. */
export const isBackUnexplained = (payment: { readonly channelAnswer: unknown }): boolean => {
  const recorded = recordedAnswer(payment);
  return isMoney(recorded) && recorded.someWentBack === true;
};

/** True if the new answer reports the same received money as the recorded answer, but a larger refunded amount. */
export function reportsMoreRefunded(known: PaidAnswer, answer: PaidAnswer): boolean {
  const isSame = answer.amount === known.amount && answer.currency === known.currency;
  const isFirst = answer.someWentBack === true && !reportsRefunds(known);
  return isSame && (isFirst || goneBackBy(answer) > goneBackBy(known));
}

/**
 * A new answer replaces recorded money only if it reports a larger refunded amount, and only before the money is
 * settled.
 */
const replacesMoney = (status: PaymentStatus, known: PaidAnswer, answer: ChannelAnswer): boolean =>
  status !== 'succeeded' && isMoney(answer) && reportsMoreRefunded(known, answer);

/**
 * True if nodrop must record this answer to a query. nodrop records the first definite answer. An answer that reports
 * money replaces a recorded answer without money.
 */
export function isNewAnswer(
  status: PaymentStatus,
  known: RecordedAnswer | null,
  answer: ChannelAnswer,
): answer is Extract<ChannelAnswer, { state: RecordedAnswer['state'] }> {
  if (isMoney(known)) return replacesMoney(status, known, answer);
  return isMoney(answer) || (known === null && (answer.state === 'closed' || answer.state === 'failed'));
}

/**
 * True if nodrop must record a verified callback as the channel's answer. The callback must report exactly the
 * requested amount, or a larger refunded amount than the recorded answer. Callbacks can arrive in any order, so after
 * any other callback nodrop only queries the channel (P2).
 * @param asked the requested amount in minor units
 */
export function isVerifiedAnswer(
  status: PaymentStatus,
  asked: { readonly amount: bigint; readonly currency: string },
  known: RecordedAnswer | null,
  answer: ChannelAnswer,
): answer is PaidAnswer {
  if (!isMoney(answer) || status === 'succeeded') return false;
  if (isMoney(known)) return replacesMoney(status, known, answer);
  return BigInt(answer.amount) === asked.amount && answer.currency === asked.currency;
}

/**
 * If the channel has not decided within this time after the payment's expiry, the attention `channel_undecided` is
 * raised.
 */
const UNDECIDED_ALARM_MS = 86_400_000;

/** The time (epoch ms) after which an answer `processing` raises the attention `channel_undecided`. */
export const undecidedAlarm = ({ expiresAt }: { readonly expiresAt: Date }): number =>
  expiresAt.getTime() + UNDECIDED_ALARM_MS;

/** True if the channel still says `processing` one day after the payment's expiry. */
export const isUndecidedTooLong = (
  payment: { readonly status: PaymentStatus; readonly expiresAt: Date },
  answer: ChannelAnswer,
  now: Date,
): boolean =>
  answer.state === 'processing' && isLive(payment.status) && now.getTime() >= undecidedAlarm(payment);
