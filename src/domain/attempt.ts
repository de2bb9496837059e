import { isMoney, recordedAnswer } from './answer.ts';
import { type ChannelAnswer, FIRST_ACCOUNT } from './channel.ts';
import { Refusal } from './refusal.ts';
import { type Adoption, isLive, type OrderStatus, type OrderUpdate, type PaymentStatus } from './states.ts';

/**
 * Decides whether an order accepts a new payment attempt, or which live attempt is returned instead. All functions in
 * this file are pure.
 */

/** The columns of a payment that are needed to decide whether its order accepts another attempt. */
export interface PaymentAttempt {
  readonly id: string;
  readonly channel: string;
  readonly method: string;
  /** The name of the channel account. Null in rows that were written before accounts had names. */
  readonly account: string | null;
  readonly status: PaymentStatus;
  readonly orderUpdate: OrderUpdate | null;
  readonly channelState: string | null;
  /** The recorded answer of the channel: a `RecordedAnswer`, as JSON. */
  readonly channelAnswer: unknown;
  /** The payer, with `id` if it is known. */
  readonly payer: unknown;
  readonly createdAt: Date;
  readonly expiresAt: Date;
  readonly cancelRequestedAt: Date | null;
  /** The channel does not close the trade before this time. */
  readonly closeNotBefore?: Date | null;
  /** Set if nodrop has adopted the trade, which the merchant's own code created. */
  readonly adopted?: Adoption | null;
}

/**
 * The columns of an order that are needed to decide whether it accepts another attempt. The optional columns may be
 * absent for a new order.
 */
export interface OrderToPay {
  readonly id: string;
  readonly status: OrderStatus;
  readonly expiresAt: Date | null;
  readonly paidPaymentId?: string | null;
  readonly cancelRequestedAt?: Date | null;
}

/** The parts of a payment request that are needed to decide whether nodrop creates a new attempt. */
export interface AskedFor {
  readonly channel: string;
  readonly method: string;
  /** The name of the channel account. If it is absent, a live attempt of any account can be returned. */
  readonly account?: string | undefined;
  readonly payer: { readonly id?: string } | undefined;
  readonly expiresInMs: number;
  /** The maximum number of attempts of the order. If it is absent, there is no limit. */
  readonly attemptsAtMost?: number;
  /** The ids of the order's live attempts that nodrop has already queried for this request. */
  readonly askedAttempts: ReadonlySet<string>;
  /** Set if the request adopts an existing trade that is not adopted yet. */
  readonly adopt?: { readonly reference: string } | undefined;
}

/**
 * The time that a payer needs to open the wallet and pay. nodrop does not return a live attempt that has less time left
 * if a new attempt would end later. For a very short attempt, half of its lifetime is the limit instead. Otherwise
 * nodrop would never return such an attempt, and pressing "pay" twice would create two payments.
 */
const TIME_TO_PAY_MS = 30_000;

/** True if the recorded answer reports received money, but nodrop has not settled the payment yet. */
export function hasUnsettledMoney(payment: Pick<PaymentAttempt, 'status' | 'channelAnswer'>): boolean {
  return payment.status !== 'succeeded' && isMoney(recordedAnswer(payment));
}

/**
 * True if the payer has acted and the channel has not decided yet. Also true if money has arrived and nodrop or a
 * person must still decide whether the order keeps the money. While this is true, nodrop must not let a payer pay the
 * order again.
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

/**
 * The reason why the order's own state allows no new attempt now. The existing attempts are not considered. Null if
 * there is no such reason.
 */
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

/** Returns a refusal if this attempt is undecided, because the order then accepts no other attempt. Null otherwise. */
export function forbidsAnother(attempt: PaymentAttempt): Refusal | null {
  const { id, orderUpdate, channel } = attempt;
  if (!isUndecided(attempt)) return null;
  if (orderUpdate === 'pending' || orderUpdate === 'review')
    return new Refusal('attempt_unresolved', `Payment ${id} has received money that waits for a decision.`);
  if (hasUnsettledMoney(attempt)) {
    // nodrop settles the received money within seconds.
    return new Refusal('attempt_unresolved', `Payment ${id} has received money that is being settled.`, {
      retryAfterSeconds: 5,
    });
  }
  return new Refusal(
    'attempt_unresolved',
    `${channel} is still deciding on payment ${id}: the payer has acted.`,
  );
}

/**
 * The expiry of an attempt that is created now. It is never later than the order's expiry.
 * @param expiresInMs the requested lifetime of the attempt, in ms
 */
export const expiryOf = (order: Pick<OrderToPay, 'expiresAt'>, expiresInMs: number, now: Date): Date =>
  new Date(Math.min(now.getTime() + expiresInMs, order.expiresAt?.getTime() ?? Number.POSITIVE_INFINITY));

/**
 * True if the payer has less than `TIME_TO_PAY_MS` to pay the attempt and a new attempt would end later. nodrop closes
 * such an attempt instead of returning it. False if the attempt expires together with its order, because a new attempt
 * would not end later.
 * @param renewedUntil when a new attempt would end
 */
export function runsOut(
  { createdAt, expiresAt }: Pick<PaymentAttempt, 'createdAt' | 'expiresAt'>,
  renewedUntil: Date,
  now: Date,
): boolean {
  const timeToPay = Math.min(TIME_TO_PAY_MS, (expiresAt.getTime() - createdAt.getTime()) / 2);
  return expiresAt.getTime() - now.getTime() < timeToPay && renewedUntil > expiresAt;
}

/**
 * True if the attempt has expired or its cancellation was requested. nodrop no longer sends payers to such an attempt.
 */
const isEnding = ({ expiresAt, cancelRequestedAt }: PaymentAttempt, now: Date): boolean =>
  expiresAt <= now || cancelRequestedAt !== null;

/**
 * True if the live attempt uses the account that the request names. nodrop closes a live attempt at another account
 * before it creates a new attempt.
 */
const isAtAccount = (live: PaymentAttempt, { account }: AskedFor): boolean =>
  account === undefined || account === (live.account ?? FIRST_ACCOUNT);

/**
 * True if the live attempt can be returned. An adopted attempt cannot be returned, because it has no next action. If
 * the request adopts a trade, no live attempt is returned, because a live attempt belongs to another trade.
 */
const isHandedOut = (live: PaymentAttempt, { adopt }: AskedFor): boolean =>
  adopt === undefined && (live.adopted ?? null) === null;

/** @throws Refusal `payer_differs` if the live attempt and the request name different payers. */
function refuseOtherPayer(live: PaymentAttempt, payer: { readonly id?: string } | undefined): void {
  const known = (live.payer as { readonly id?: string } | null)?.id;
  if (payer?.id === undefined || known === undefined || payer.id === known) return;
  throw new Refusal(
    'payer_differs',
    `Payment ${live.id} of the same order, channel and method is live and has another payer. Cancel it first.`,
    { errors: [{ path: 'payer.id', message: `payment ${live.id} has another payer` }] },
  );
}

/**
 * True if the channel does not close the trade yet. nodrop then creates a new attempt on another channel as if this
 * attempt were closed. If the payer pays both attempts, nodrop refunds the second payment.
 */
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
    `Payment ${id} is ending, and ${channel} does not close it before ${closeNotBefore.toISOString()}: repeat the request then, or use another channel.`,
    { retryAfterSeconds: Math.ceil((closeNotBefore.getTime() - now.getTime()) / 1000) },
  );
}

export type AttemptDecision<A> =
  | { readonly handedOut: A }
  | { readonly expiresAt: Date }
  /** The live attempts that nodrop must query before it creates a new attempt. */
  | { readonly unasked: readonly A[] };

/**
 * Decides whether nodrop returns a live attempt or creates a new one, and when a new attempt expires. The function is
 * pure.
 * @param attempts all attempts of the order
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
    // An ended attempt that is undecided also forbids a new attempt. Otherwise the payer could pay twice.
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
