import type { Attention } from './attention.ts';
import type { PaidAnswer } from './channel.ts';
import { amountText, type CurrencyCode } from './money.ts';
import { isEnded, type OrderStatus, type PaymentStatus, type RefundReason } from './states.ts';

export const LATE_PAYMENTS = ['apply', 'refund', 'review'] as const;
export type LatePayment = (typeof LATE_PAYMENTS)[number];

/**
 * The detail of an attention for this case: the channel reports a refund without its amount, and nodrop knows no refund
 * that explains the report.
 */
export const SOME_WENT_BACK =
  'The channel reports that some or all of the money was refunded, but not how much, and no known refund explains it.';

export interface SuccessCase {
  readonly orderStatus: OrderStatus;
  readonly paymentStatus: PaymentStatus;
  /** The current amount of the order, in minor units. */
  readonly amount: number;
  readonly currency: CurrencyCode;
  /** The amount of the payment. If the order's amount changed after the payment was created, the two amounts differ. */
  readonly asked: { readonly amount: number; readonly currency: CurrencyCode };
  /** Epoch ms. */
  readonly expiresAt: number;
  readonly latePayment: LatePayment;
  /**
   * True if the database had lost a payment of the order. The database may have lost other payments of the order as
   * well, so a person decides about refunds.
   */
  readonly recovered: boolean;
  /**
   * True if the merchant owns the trade. The merchant then decides about refunds. Absent if nodrop created the trade.
   */
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
 * Decides the effect of received money on its order (steps 6 and 8 in docs/architecture.md). The function is pure. The
 * ledger calls it while it holds the order's lock, and then writes the decision.
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

/**
 * The reason why nodrop never refunds the payment automatically, as a sentence. Null if nodrop may refund it
 * automatically.
 */
export function whyAPersonDecides({
  recovered,
  isOnlyWatched = false,
}: Pick<SuccessCase, 'recovered' | 'isOnlyWatched'>): string | null {
  if (recovered) return 'The order was recovered after a loss of the database: a person decides.';
  return isOnlyWatched ? "The trade is the merchant's own and only watched: a person decides." : null;
}

/**
 * Leaves the decision to a person, and does not refund the money automatically.
 * @param reason the reason of the automatic refund that nodrop would otherwise make
 */
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
      detail: 'The channel had already refunded all of the money when nodrop first learned of the payment.',
      refund: 'external',
    };
  }
  // nodrop checks this case before the cases in which it owes a refund, because in this case nodrop does not know how
  // much is left to refund.
  if (answer.someWentBack === true) {
    const { asked } = given;
    const isAsked = isSameMoney(asked, answer);
    return {
      orderUpdate: 'review',
      attention: 'amount_mismatch',
      detail: `The channel received ${amountText(answer.amount, answer.currency)}${isAsked ? '' : `, but the payment was made for ${amountText(asked.amount, asked.currency)}`}. ${SOME_WENT_BACK}`,
    };
  }
  if (orderStatus !== 'unpaid' && orderStatus !== 'paying') {
    const paidTwice = orderStatus === 'succeeded' || orderStatus === 'refunded';
    return {
      orderUpdate: 'conflict',
      attention: 'order_conflict',
      detail: paidTwice
        ? 'The order was already paid by another payment: this one must be refunded.'
        : `The order was already ${orderStatus} when the money arrived: the payment must be refunded.`,
      refund: paidTwice ? 'duplicate_payment' : 'late_payment',
    };
  }
  const { asked } = given;
  if (!isSameMoney(asked, answer) || !isSameMoney(asked, given)) {
    const received = `The channel received ${amountText(answer.amount, answer.currency)}`;
    const madeFor = `the payment was made for ${amountText(asked.amount, asked.currency)}`;
    const detail = isSameMoney(asked, given)
      ? `${received}, but ${madeFor}.`
      : `${received}, ${madeFor}, and the order now costs ${amountText(given.amount, given.currency)}.`;
    return { orderUpdate: 'review', attention: 'amount_mismatch', detail };
  }
  const late = isEnded(given.paymentStatus) && Date.parse(answer.paidAt) >= given.expiresAt;
  if (!late || given.latePayment === 'apply') return { orderUpdate: 'applied' };
  if (given.latePayment === 'review') {
    return {
      orderUpdate: 'review',
      attention: 'late_payment_review',
      detail: 'The money arrived after the payment had ended; the merchant wants to decide.',
    };
  }
  return {
    orderUpdate: 'conflict',
    attention: 'order_conflict',
    detail: 'The money arrived after the payment had ended; the merchant refunds such payments.',
    refund: 'late_payment',
  };
}
