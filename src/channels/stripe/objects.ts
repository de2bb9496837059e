import { z } from 'zod';
import type {
  ChannelAnswer,
  ChannelDispute,
  ChannelRefund,
  PaidAnswer,
  RefundAnswer,
} from '../../domain/channel.ts';
import { aboutFromStripe, fromStripe } from './amounts.ts';

/** Defines the parts of Stripe's objects that nodrop reads, and maps these objects to answers of the channel port. */

/**
 * nodrop stores its payment and refund numbers under these metadata keys, in every object that it creates at Stripe.
 */
export const PAYMENT_KEY = 'nodrop_payment';
export const REFUND_KEY = 'nodrop_refund';

const OUR_NUMBER = /^[0-9A-Za-z_-]{1,64}$/;

const count = z.int().nonnegative();
const metadataSchema = z.record(z.string(), z.string()).nullish();

/** Reads the id of a related object. Stripe sends either the id or the expanded object. */
const idOf = z.union([z.string(), z.object({ id: z.string() }).transform(({ id }) => id)]).nullish();

const chargeSchema = z.object({ created: count, disputed: z.boolean().optional() });

/** https://docs.stripe.com/payments/paymentintents/lifecycle */
export const intentSchema = z.object({
  id: z.string(),
  object: z.literal('payment_intent'),
  status: z.enum([
    'requires_payment_method',
    'requires_confirmation',
    'requires_action',
    'requires_capture',
    'processing',
    'succeeded',
    'canceled',
  ]),
  amount: count,
  amount_received: count.optional(),
  currency: z.string(),
  created: count,
  client_secret: z.string().nullish(),
  metadata: metadataSchema,
  next_action: z.object({ type: z.string() }).nullish(),
  latest_charge: z.union([z.string(), chargeSchema]).nullish(),
});
export type Intent = z.infer<typeof intentSchema>;

/** https://docs.stripe.com/api/checkout/sessions/object */
export const sessionSchema = z.object({
  id: z.string(),
  object: z.literal('checkout.session'),
  status: z.enum(['open', 'complete', 'expired']),
  payment_status: z.string(),
  mode: z.string().optional(),
  amount_total: count.nullish(),
  currency: z.string().nullish(),
  url: z.url({ protocol: /^https?$/ }).nullish(),
  expires_at: count,
  metadata: metadataSchema,
  payment_intent: z.union([z.string(), intentSchema]).nullish(),
});
export type Session = z.infer<typeof sessionSchema>;

/** https://docs.stripe.com/api/refunds/object */
export const refundSchema = z.object({
  id: z.string(),
  object: z.literal('refund'),
  amount: count,
  currency: z.string(),
  created: count,
  status: z.string().nullable(),
  payment_intent: idOf,
  metadata: metadataSchema,
  failure_reason: z.string().nullish(),
  failure_balance_transaction: idOf,
  pending_reason: z.string().nullish(),
});
export type Refund = z.infer<typeof refundSchema>;

/** https://docs.stripe.com/api/disputes/object */
export const disputeSchema = z.object({
  id: z.string(),
  object: z.literal('dispute'),
  amount: count,
  currency: z.string(),
  created: count,
  status: z.string(),
  reason: z.string().nullish(),
  payment_intent: idOf,
  evidence_details: z.object({ due_by: count.nullish() }).nullish(),
});
export type Dispute = z.infer<typeof disputeSchema>;

export const listOf = <T extends { readonly id: string }>(item: z.ZodType<T>) =>
  z.object({ object: z.literal('list'), has_more: z.boolean(), data: z.array(item) });

/** Converts epoch seconds to ISO 8601. */
export const timeOf = (seconds: number): string => new Date(seconds * 1000).toISOString();

/** The payment or refund number that nodrop has stored in one of its objects at Stripe. */
export const numberIn = (
  { metadata }: { readonly metadata?: Readonly<Record<string, string>> | null | undefined },
  key: typeof PAYMENT_KEY | typeof REFUND_KEY,
): string | undefined => {
  const no = metadata?.[key];
  return no !== undefined && OUR_NUMBER.test(no) ? no : undefined;
};

const STILL_OPEN: ReadonlySet<Intent['status']> = new Set([
  'requires_payment_method',
  'requires_confirmation',
  'requires_action',
]);

/**
 * The next actions of an intent if the payer has chosen to pay later outside the form. Examples are a voucher, a bank
 * transfer, and the confirmation of small test deposits. Every other next action takes place in the form
 * (https://docs.stripe.com/api/payment_intents/object).
 */
const PAID_ELSEWHERE = /(_display_details|^display_bank_transfer_instructions|^verify_with_microdeposits)$/;

const isPaidElsewhere = ({ status, next_action }: Intent): boolean =>
  status === 'requires_action' && PAID_ELSEWHERE.test(next_action?.type ?? '');

/**
 * Maps an intent to an answer, without its refunds and disputes. If a payment attempt is declined, the intent stays
 * open, because the payer may try another card.
 */
export function intentAnswer(intent: Intent): ChannelAnswer {
  if (intent.status === 'succeeded') return paid(intent);
  if (intent.status === 'canceled') return { state: 'closed' };
  const isOpen = STILL_OPEN.has(intent.status) && !isPaidElsewhere(intent);
  return { state: isOpen ? 'unpaid' : 'processing' };
}

/**
 * Maps a session to an answer, without its refunds and disputes. `intent` is null until the payer begins to pay. If a
 * session is complete but not paid, an asynchronous payment method is in progress. If the intent then requires a
 * payment method, the asynchronous method has failed, and the session accepts no further method
 * (https://docs.stripe.com/payments/checkout/fulfill-orders).
 */
export function sessionAnswer(session: Session, intent: Intent | null): ChannelAnswer {
  if (intent?.status === 'succeeded') return paid(intent);
  if (intent?.status === 'processing' || intent?.status === 'requires_capture')
    return { state: 'processing' };
  if (session.status === 'open') return { state: 'unpaid' };
  if (session.status === 'expired') return { state: 'closed' };
  if (intent?.status === 'canceled') return { state: 'closed' };
  return intent?.status === 'requires_payment_method'
    ? { state: 'failed', reason: 'declined' }
    : { state: 'processing' };
}

/** The answer contains the received amount, not the session's total. */
const paid = (intent: Intent): PaidAnswer => ({
  state: 'paid',
  channelPaymentId: intent.id,
  ...fromStripe(intent.amount_received ?? intent.amount, intent.currency),
  paidAt: timeOf(
    typeof intent.latest_charge === 'object' && intent.latest_charge !== null
      ? intent.latest_charge.created
      : intent.created,
  ),
});

/**
 * Adds the refunds and disputes to the answer about a paid trade. The state of the answer becomes `refunded` once the
 * whole amount was refunded.
 */
export function withMoneyBack(
  answer: PaidAnswer,
  refunds: readonly Refund[],
  disputes: readonly Dispute[],
): PaidAnswer {
  const listed = refunds.map(listedRefund);
  const back = listed
    .filter(({ state }) => state === 'succeeded')
    .reduce((sum, { amount }) => sum + amount, 0);
  return {
    ...answer,
    state: back >= answer.amount ? 'refunded' : 'paid',
    refunds: listed,
    ...(disputes.length === 0 ? {} : { disputes: disputes.map(disputeOf) }),
  };
}

/**
 * If a refund fails for one of these reasons, the money has not left the merchant's balance. For any other reason, the
 * money left the balance and the bank has returned it: https://docs.stripe.com/refunds#failed-refunds.
 */
const NEVER_LEFT: ReadonlySet<string> = new Set([
  'charge_for_pending_refund_disputed',
  'insufficient_funds',
  'merchant_request',
]);

/** @param hadSucceeded true if the caller already knows that the refund had succeeded */
export function refundAnswer(refund: Refund, hadSucceeded = false): RefundAnswer {
  const channelRefundId = refund.id;
  switch (refund.status) {
    case 'succeeded':
      return {
        state: 'succeeded',
        channelRefundId,
        amount: aboutFromStripe(refund.amount, refund.currency).amount,
        refundedAt: timeOf(refund.created),
      };
    case 'failed': {
      const reason = refund.failure_reason ?? 'unknown';
      const isReversed =
        hadSucceeded || (isPresent(refund.failure_balance_transaction) && !NEVER_LEFT.has(reason));
      return { state: isReversed ? 'reversed' : 'failed', reason, channelRefundId };
    }
    case 'canceled':
      return { state: hadSucceeded ? 'reversed' : 'failed', reason: 'canceled at Stripe', channelRefundId };
    case 'requires_action':
      return {
        state: 'needs_person',
        reason: 'Stripe has asked the payer by e-mail where to send the money',
        channelRefundId,
      };
    case 'pending':
      return refund.pending_reason === 'insufficient_funds'
        ? {
            state: 'needs_person',
            reason: 'the balance at Stripe is too low: add funds to it',
            channelRefundId,
          }
        : { state: 'processing', channelRefundId };
    default:
      // nodrop treats a refund with an unknown status as not decided yet.
      return { state: 'processing', channelRefundId };
  }
}

const isPresent = <T>(value: T | null | undefined): value is T => value !== null && value !== undefined;

function listedRefund(refund: Refund): ChannelRefund {
  const { state } = refundAnswer(refund);
  const outRefundNo = numberIn(refund, REFUND_KEY);
  return {
    id: refund.id,
    ...(outRefundNo === undefined ? {} : { outRefundNo }),
    amount: aboutFromStripe(refund.amount, refund.currency).amount,
    state: state === 'succeeded' || state === 'failed' || state === 'reversed' ? state : 'processing',
  };
}

/** An inquiry: https://docs.stripe.com/disputes/how-disputes-work#inquiries. */
const INQUIRY = /^warning_/;
/**
 * The statuses of disputes that ended without a loss. `warning_closed` means that an inquiry was closed and never
 * became a chargeback.
 */
const WON: ReadonlySet<string> = new Set(['won', 'warning_closed']);
/** The statuses of lost disputes. `prevented` is one of them, because the payer was refunded before a dispute began. */
const LOST: ReadonlySet<string> = new Set(['lost', 'prevented']);

export function disputeOf(dispute: Dispute): ChannelDispute {
  const dueBy = dispute.evidence_details?.due_by;
  const { amount, currency } = aboutFromStripe(dispute.amount, dispute.currency);
  const state = WON.has(dispute.status) ? 'won' : LOST.has(dispute.status) ? 'lost' : 'open';
  return {
    id: dispute.id,
    amount,
    currency,
    state,
    ...(INQUIRY.test(dispute.status) ? { isInquiry: true } : {}),
    ...(isPresent(dispute.reason) ? { reason: dispute.reason } : {}),
    ...(isPresent(dueBy) && state === 'open' ? { respondBy: timeOf(dueBy) } : {}),
  };
}
