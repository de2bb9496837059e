import { isMoney, recordedAnswer } from './answer.ts';
import { type ChannelAnswer, FIRST_ACCOUNT } from './channel.ts';
import { Refusal } from './refusal.ts';
import { type Adoption, isLive, type OrderStatus, type OrderUpdate, type PaymentStatus } from './states.ts';

/** Whether an order takes a new attempt, and which one is handed out instead. Pure. */

/** The columns of a payment that decide. */
export interface PaymentAttempt {
  readonly id: string;
  readonly channel: string;
  readonly method: string;
  /** The account's name; null in rows that are older than accounts' names. */
  readonly account: string | null;
  readonly status: PaymentStatus;
  readonly orderUpdate: OrderUpdate | null;
  readonly channelState: string | null;
  /** A RecordedAnswer. */
  readonly channelAnswer: unknown;
  /** Who pays, with the `id` when it is known. */
  readonly payer: unknown;
  readonly createdAt: Date;
  readonly expiresAt: Date;
  readonly cancelRequestedAt: Date | null;
  /** The channel closes it no earlier than this. */
  readonly closeNotBefore?: Date | null;
  /** The merchant's own code has made its trade. */
  readonly adopted?: Adoption | null;
}

/** The columns of an order that decide; a new one has been neither paid nor cancelled. */
export interface OrderToPay {
  readonly id: string;
  readonly status: OrderStatus;
  readonly expiresAt: Date | null;
  readonly paidPaymentId?: string | null;
  readonly cancelRequestedAt?: Date | null;
}

/** What of a request for a payment decides. */
export interface AskedFor {
  readonly channel: string;
  readonly method: string;
  /** The account's name; absent: a live attempt of any is handed out. */
  readonly account?: string | undefined;
  readonly payer: { readonly id?: string } | undefined;
  readonly expiresInMs: number;
  /** How many attempts the order may have had; absent: any number. */
  readonly attemptsAtMost?: number;
  /** The order's live attempts that the channel was asked about for this one. */
  readonly askedAttempts: ReadonlySet<string>;
  /** Of a trade that is there; whoever adopts one that is adopted already does not come to this decision. */
  readonly adopt?: { readonly reference: string } | undefined;
}

/**
 * An attempt with less time left is not handed out again when a new one would end later: a payer needs about as long to
 * open the wallet and to pay. Of an attempt that had less than twice that from the start, it is half of its time: it
 * would never be handed out, and pressing pay twice would be two payments.
 */
const TIME_TO_PAY_MS = 30_000;

/** Money is on record, and the order update that decides over it has not run yet. */
export function hasUnsettledMoney(payment: Pick<PaymentAttempt, 'status' | 'channelAnswer'>): boolean {
  return payment.status !== 'succeeded' && isMoney(recordedAnswer(payment));
}

/**
 * Money or a decision is on its way by this attempt: the payer has acted, or money is here that nobody has decided
 * over. Until then nobody is to pay its order again.
 */
export function isUndecided(payment: PaymentAttempt): boolean {
  const { status, orderUpdate, channelState } = payment;
  if (orderUpdate === 'pending' || orderUpdate === 'review' || hasUnsettledMoney(payment)) return true;
  return isLive(status) && channelState !== null && PAYER_HAS_ACTED.has(channelState);
}

const PAYER_HAS_ACTED: ReadonlySet<string> = new Set<ChannelAnswer['state']>([
  'processing',
  'paid',
  'refunded',
]);

/** Why the order takes no new attempt now, whatever its attempts are; null when it takes one. */
export function refusesAttempts(order: OrderToPay, now: Date): Refusal | null {
  const { id, status, paidPaymentId, cancelRequestedAt = null, expiresAt } = order;
  if (status === 'succeeded' || status === 'refunded')
    return new Refusal('order_already_paid', `Order ${id} was paid by payment ${paidPaymentId}.`);
  if (status === 'cancelled' || status === 'closed')
    return new Refusal('order_not_payable', `Order ${id} is ${status}.`);
  if (cancelRequestedAt !== null) return new Refusal('order_not_payable', `Order ${id} is being cancelled.`);
  if (expiresAt !== null && expiresAt <= now)
    return new Refusal('order_not_payable', `Order ${id} expired at ${expiresAt.toISOString()}.`);
  return null;
}

/** Why this attempt forbids another one, or null when it does not. */
export function forbidsAnother(attempt: PaymentAttempt): Refusal | null {
  const { id, orderUpdate, channel } = attempt;
  if (!isUndecided(attempt)) return null;
  if (orderUpdate === 'pending' || orderUpdate === 'review')
    return new Refusal('attempt_unresolved', `Payment ${id} has brought money that waits for a decision.`);
  if (hasUnsettledMoney(attempt)) {
    // It is decided over in a moment.
    return new Refusal('attempt_unresolved', `Payment ${id} has brought money that is being settled.`, {
      retryAfterSeconds: 5,
    });
  }
  return new Refusal(
    'attempt_unresolved',
    `${channel} is still deciding on payment ${id}: the payer has acted.`,
  );
}

/** When an attempt made now would end. Its order's end comes first. @param expiresInMs how long the payer is to have. */
export const expiryOf = (order: Pick<OrderToPay, 'expiresAt'>, expiresInMs: number, now: Date): Date =>
  new Date(Math.min(now.getTime() + expiresInMs, order.expiresAt?.getTime() ?? Number.POSITIVE_INFINITY));

/**
 * A payer who gets this attempt now has less than `TIME_TO_PAY_MS`, and would have longer with a new one: it is closed
 * instead of handed out. One that ends with its order is as good as any.
 * @param renewedUntil when a new one would end.
 */
export function runsOut(
  { createdAt, expiresAt }: Pick<PaymentAttempt, 'createdAt' | 'expiresAt'>,
  renewedUntil: Date,
  now: Date,
): boolean {
  const timeToPay = Math.min(TIME_TO_PAY_MS, (expiresAt.getTime() - createdAt.getTime()) / 2);
  return expiresAt.getTime() - now.getTime() < timeToPay && renewedUntil > expiresAt;
}

/** Nobody is sent to pay it any more: it is over, or is to be cancelled. */
const isEnding = ({ expiresAt, cancelRequestedAt }: PaymentAttempt, now: Date): boolean =>
  expiresAt <= now || cancelRequestedAt !== null;

/** One that is to be at another account is another attempt: the live one is closed first. */
const isAtAccount = (live: PaymentAttempt, { account }: AskedFor): boolean =>
  account === undefined || account === (live.account ?? FIRST_ACCOUNT);

/** An adopted trade gives nobody anything to pay with, and is no other trade. */
const isHandedOut = (live: PaymentAttempt, { adopt }: AskedFor): boolean =>
  adopt === undefined && (live.adopted ?? null) === null;

/** @throws Refusal `payer_differs` when both name a payer, and not the same one. */
function refuseOtherPayer(live: PaymentAttempt, payer: { readonly id?: string } | undefined): void {
  const known = (live.payer as { readonly id?: string } | null)?.id;
  if (payer?.id === undefined || known === undefined || payer.id === known) return;
  throw new Refusal(
    'payer_differs',
    `Payment ${live.id} of the same order, channel and method is live, and another payer's. Cancel it first.`,
    { errors: [{ path: 'payer.id', message: `payment ${live.id} has a different one` }] },
  );
}

/** The channel closes it only later: for another channel's attempt it counts as closed, and a second success goes back. */
export const isClosedLater = (
  { closeNotBefore }: Pick<PaymentAttempt, 'closeNotBefore'>,
  now: Date,
): boolean => closeNotBefore != null && closeNotBefore > now;

function isEndingOf(same: PaymentAttempt, now: Date): Refusal {
  const { id, channel, closeNotBefore } = same;
  if (closeNotBefore == null || !isClosedLater(same, now)) {
    return new Refusal(
      'attempt_unresolved',
      `Payment ${id} is ending, and ${channel} has not closed it yet.`,
      {
        retryAfterSeconds: 5,
      },
    );
  }
  return new Refusal(
    'attempt_unresolved',
    `Payment ${id} is ending, and ${channel} closes it no earlier than ${closeNotBefore.toISOString()}: ask again then, or pay by another channel.`,
    { retryAfterSeconds: Math.ceil((closeNotBefore.getTime() - now.getTime()) / 1000) },
  );
}

export type AttemptDecision<A> =
  | { readonly handedOut: A }
  | { readonly expiresAt: Date }
  /** Live ones that are to be asked about before a new one is made. */
  | { readonly unasked: readonly A[] };

/**
 * Whether a new attempt is made, and until when it lives, or which one is handed out. Pure.
 * @param attempts all of the order
 * @throws Refusal `order_already_paid`, `order_not_payable`, `attempt_unresolved`, `payer_differs`
 */
export function decideAttempt(
  order: OrderToPay,
  attempts: readonly [],
  given: AskedFor,
  now: Date,
): { readonly expiresAt: Date };
export function decideAttempt<A extends PaymentAttempt>(
  order: OrderToPay,
  attempts: readonly A[],
  given: AskedFor,
  now: Date,
): AttemptDecision<A>;
export function decideAttempt<A extends PaymentAttempt>(
  order: OrderToPay,
  attempts: readonly A[],
  given: AskedFor,
  now: Date,
): AttemptDecision<A> {
  const refusal = refusesAttempts(order, now);
  if (refusal !== null) throw refusal;
  const live = attempts.filter(({ status }) => isLive(status));
  const isFull = attempts.length >= (given.attemptsAtMost ?? Number.POSITIVE_INFINITY);
  const expiresAt = expiryOf(order, given.expiresInMs, now);
  const same = live.find(({ channel, method }) => channel === given.channel && method === given.method);
  const isUsable = (one: PaymentAttempt) =>
    !isEnding(one, now) && isAtAccount(one, given) && isHandedOut(one, given);
  const usable = same !== undefined && isUsable(same) ? same : undefined;
  if (usable !== undefined) refuseOtherPayer(usable, given.payer);
  const handedOut = usable !== undefined && (isFull || !runsOut(usable, expiresAt, now)) ? usable : undefined;
  const unasked = handedOut === undefined ? live.filter(({ id }) => !given.askedAttempts.has(id)) : [];
  for (const attempt of attempts) {
    // Also by one that has ended: whoever pays again now would pay twice.
    const forbidden = attempt === handedOut || unasked.includes(attempt) ? null : forbidsAnother(attempt);
    if (forbidden !== null) throw forbidden;
  }
  if (handedOut !== undefined) return { handedOut };
  if (same !== undefined && (isFull || given.askedAttempts.has(same.id))) {
    throw isEndingOf(same, now);
  }
  if (isFull)
    throw new Refusal('order_not_payable', `Order ${order.id} has had ${attempts.length} attempts.`);
  if (unasked.length > 0) return { unasked };
  return { expiresAt };
}
