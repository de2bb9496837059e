import type { Attention } from './attention.ts';
import type { PaidAnswer } from './channel.ts';
import { amountText, type CurrencyCode } from './money.ts';
import { isEnded, type OrderStatus, type PaymentStatus, type RefundReason } from './states.ts';

export const LATE_PAYMENTS = ['apply', 'refund', 'review'] as const;
export type LatePayment = (typeof LATE_PAYMENTS)[number];

/** Of money that the channel says has gone back, when no refund that is known explains it. */
export const SOME_WENT_BACK =
  'The channel says that some or all of it has gone back, and not how much; no refund is known here that explains it.';

export interface SuccessCase {
  readonly orderStatus: OrderStatus;
  readonly paymentStatus: PaymentStatus;
  /** What the order costs now, in minor units. */
  readonly amount: number;
  readonly currency: CurrencyCode;
  /** What the payment was made for: another amount when the order's was changed since. */
  readonly asked: { readonly amount: number; readonly currency: CurrencyCode };
  /** Epoch ms. */
  readonly expiresAt: number;
  readonly latePayment: LatePayment;
  /** The database had lost a payment of the order: nobody knows what else it lost, and a person decides over refunds. */
  readonly recovered: boolean;
  /** Its trade is the merchant's, who decides over refunds. Absent: it is nodrop's. */
  readonly isOnlyWatched?: boolean;
  readonly answer: PaidAnswer;
}

export type SuccessDecision =
  | { readonly orderUpdate: 'applied' }
  | { readonly orderUpdate: 'review'; readonly attention: Attention; readonly detail: string }
  | {
      readonly orderUpdate: 'conflict';
      readonly attention: Attention | null;
      readonly detail: string;
      readonly refund: RefundReason;
    };

/**
 * What money that came in does to its order (point 6 and 8 of the way of a payment). Pure: the ledger
 * calls it under the order's lock and writes what it says.
 */
export function decideSuccess(given: SuccessCase): SuccessDecision {
  const decision = decideAsUsual(given);
  if (decision.orderUpdate !== 'conflict' || decision.refund === 'external') return decision;
  const why = whyAPersonDecides(given);
  return why === null ? decision : reviewInstead(decision.refund, decision.detail, why);
}

type Money = SuccessCase['asked'];

const isSameMoney = (one: Money, other: Money): boolean =>
  one.amount === other.amount && one.currency === other.currency;

/** Why no refund of the payment is automatic, as a sentence; null when they are. */
export function whyAPersonDecides({
  recovered,
  isOnlyWatched = false,
}: Pick<SuccessCase, 'recovered' | 'isOnlyWatched'>): string | null {
  if (recovered) return 'The order was recovered after a loss of the database: a person decides.';
  return isOnlyWatched ? "The trade is the merchant's own, and only watched: a person decides." : null;
}

/** The money waits for a person instead. @param reason of the refund that is not made */
export function reviewInstead(
  reason: RefundReason,
  detail: string,
  why: string,
): SuccessDecision & { orderUpdate: 'review' } {
  return {
    orderUpdate: 'review',
    attention: reason === 'late_payment' ? 'late_payment_review' : 'order_conflict',
    detail: `${detail} ${why}`,
  };
}

function decideAsUsual(given: SuccessCase): SuccessDecision {
  const { answer, orderStatus } = given;
  if (answer.state === 'refunded') {
    return {
      orderUpdate: 'conflict',
      attention: null,
      detail: 'All of the money had already gone back at the channel when it was first seen.',
      refund: 'external',
    };
  }
  // Before what would owe it back: nobody knows how much is left to go back.
  if (answer.someWentBack === true) {
    const { asked } = given;
    const isAsked = isSameMoney(asked, answer);
    return {
      orderUpdate: 'review',
      attention: 'amount_mismatch',
      detail: `${amountText(answer.amount, answer.currency)} came in${isAsked ? '' : `, asked were ${amountText(asked.amount, asked.currency)}`}. ${SOME_WENT_BACK}`,
    };
  }
  if (orderStatus !== 'unpaid' && orderStatus !== 'paying') {
    const paidTwice = orderStatus === 'succeeded' || orderStatus === 'refunded';
    return {
      orderUpdate: 'conflict',
      attention: 'order_conflict',
      detail: paidTwice
        ? 'The order was already paid by another payment; this one is owed back.'
        : `The order was already ${orderStatus} when the money came in; it is owed back.`,
      refund: paidTwice ? 'duplicate_payment' : 'late_payment',
    };
  }
  const { asked } = given;
  if (!isSameMoney(asked, answer) || !isSameMoney(asked, given)) {
    const changed = isSameMoney(asked, given)
      ? ''
      : `, the order now costs ${amountText(given.amount, given.currency)}`;
    return {
      orderUpdate: 'review',
      attention: 'amount_mismatch',
      detail: `The channel received ${amountText(answer.amount, answer.currency)}, asked were ${amountText(asked.amount, asked.currency)}${changed}.`,
    };
  }
  const late = isEnded(given.paymentStatus) && Date.parse(answer.paidAt) >= given.expiresAt;
  if (!late || given.latePayment === 'apply') return { orderUpdate: 'applied' };
  if (given.latePayment === 'review') {
    return {
      orderUpdate: 'review',
      attention: 'late_payment_review',
      detail: 'The money came in after the payment had ended; the merchant wants to decide.',
    };
  }
  return {
    orderUpdate: 'conflict',
    attention: 'order_conflict',
    detail: 'The money came in after the payment had ended; the merchant refunds such payments.',
    refund: 'late_payment',
  };
}
