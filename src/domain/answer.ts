import type { ChannelAnswer, ChannelRefund, PaidAnswer } from './channel.ts';
import { isLive, type PaymentStatus, type SettledBy } from './states.ts';

/** Which answers of a channel go on record. Pure. */

/** The definite answer of the channel, with what brought it. Stored in `payments.channel_answer`. */
export type RecordedAnswer = Extract<ChannelAnswer, { state: 'paid' | 'refunded' | 'closed' | 'failed' }> & {
  readonly by: SettledBy;
};

export function recordedAnswer(payment: { readonly channelAnswer: unknown }): RecordedAnswer | null {
  return payment.channelAnswer as RecordedAnswer | null;
}

/** True for an answer that says that money came in, wherever it is now. */
export function isMoney(answer: ChannelAnswer | null): answer is PaidAnswer {
  return answer?.state === 'paid' || answer?.state === 'refunded';
}

/** What has gone back by this answer, in minor units. A list of refunds counts alone. */
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

/** Whether it tells of refunds at all, whatever became of them. */
export const reportsRefunds = (answer: PaidAnswer): boolean =>
  goneBackBy(answer) > 0 || (answer.refunds ?? []).length > 0 || answer.someWentBack === true;

/** The channel said of the money on record that some has gone back, and no refund that is known explains it. */
export const isBackUnexplained = (payment: { readonly channelAnswer: unknown }): boolean => {
  const recorded = recordedAnswer(payment);
  return isMoney(recorded) && recorded.someWentBack === true;
};

/** The same money as in the answer on record, of which more has gone back since. */
export function reportsMoreRefunded(known: PaidAnswer, answer: PaidAnswer): boolean {
  const isSame = answer.amount === known.amount && answer.currency === known.currency;
  const isFirst = answer.someWentBack === true && !reportsRefunds(known);
  return isSame && (isFirst || goneBackBy(answer) > goneBackBy(known));
}

/** Money on record is replaced only by word that more of it has gone back, and not once it is settled. */
const replacesMoney = (status: PaymentStatus, known: PaidAnswer, answer: ChannelAnswer): boolean =>
  status !== 'succeeded' && isMoney(answer) && reportsMoreRefunded(known, answer);

/** Whether an answer that the channel was asked for goes on record: a definite one does, and money replaces what is no money. */
export function isNewAnswer(
  status: PaymentStatus,
  known: RecordedAnswer | null,
  answer: ChannelAnswer,
): answer is Extract<ChannelAnswer, { state: RecordedAnswer['state'] }> {
  if (isMoney(known)) return replacesMoney(status, known, answer);
  return isMoney(answer) || (known === null && (answer.state === 'closed' || answer.state === 'failed'));
}

/**
 * Whether a verified callback goes on record: it is the channel's word when it is for exactly what was asked, or says of
 * the money on record that more of it has gone back, in whatever order they come. Any other only makes the channel be
 * asked (P2).
 * @param asked minor units
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

/** A channel that has not decided so long after the payment's expiry is shown to a person. */
const UNDECIDED_ALARM_MS = 86_400_000;

/** When the channel is to be shown as undecided, should it say `processing` from then on; epoch ms. */
export const undecidedAlarm = ({ expiresAt }: { readonly expiresAt: Date }): number =>
  expiresAt.getTime() + UNDECIDED_ALARM_MS;

/** The channel goes on deciding for longer than it should. */
export const isUndecidedTooLong = (
  payment: { readonly status: PaymentStatus; readonly expiresAt: Date },
  answer: ChannelAnswer,
  now: Date,
): boolean =>
  answer.state === 'processing' && isLive(payment.status) && now.getTime() >= undecidedAlarm(payment);
