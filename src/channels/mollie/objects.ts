import { z } from 'zod';
import {
  type ChannelAnswer,
  type ChannelDispute,
  ChannelError,
  type ChannelRefund,
  type PaidAnswer,
  type RefundAnswer,
} from '../../domain/channel.ts';
import { type CurrencyCode, fromDecimal, isCurrency } from '../../domain/money.ts';

/** Mollie's objects as far as they are read, and what they say in nodrop's words. */

/** In the metadata of everything that is made here: our numbers. */
export const PAYMENT_KEY = 'nodrop_payment';
export const REFUND_KEY = 'nodrop_refund';

const OUR_NUMBER = /^[0-9A-Za-z_-]{1,64}$/;

export const PAYMENT_ID = /^tr_[0-9A-Za-z]{1,64}$/;

const time = z.iso.datetime({ offset: true });
const amountSchema = z.object({ currency: z.string(), value: z.string() });
const link = z.object({ href: z.url({ protocol: /^https?$/ }) }).nullish();

/** https://docs.mollie.com/reference/get-payment */
export const paymentSchema = z.object({
  resource: z.literal('payment'),
  id: z.string().regex(PAYMENT_ID),
  mode: z.enum(['test', 'live']),
  status: z.enum(['open', 'pending', 'authorized', 'paid', 'canceled', 'expired', 'failed']),
  amount: amountSchema,
  createdAt: time,
  paidAt: time.nullish(),
  expiresAt: time.nullish(),
  isCancelable: z.boolean().nullish(),
  metadata: z.unknown(),
  details: z.object({ failureReason: z.string().nullish() }).nullish(),
  _links: z.object({ checkout: link }),
});
export type Payment = z.infer<typeof paymentSchema>;

/** As much of a payment as it is found by: one of somebody else's, of whatever kind, keeps no listing unreadable. */
export const listedPaymentSchema = paymentSchema.pick({
  id: true,
  mode: true,
  createdAt: true,
  metadata: true,
});
export type ListedPayment = z.infer<typeof listedPaymentSchema>;

/** https://docs.mollie.com/reference/get-refund */
export const refundSchema = z.object({
  resource: z.literal('refund'),
  id: z.string().regex(/^re_[0-9A-Za-z]{1,64}$/),
  amount: amountSchema,
  status: z.string(),
  paymentId: z.string(),
  metadata: z.unknown(),
});
export type Refund = z.infer<typeof refundSchema>;

/** https://docs.mollie.com/reference/get-chargeback */
export const chargebackSchema = z.object({
  resource: z.literal('chargeback'),
  id: z.string().regex(/^chb_[0-9A-Za-z]{1,64}$/),
  amount: amountSchema,
  paymentId: z.string(),
  reason: z.object({ description: z.string().nullish() }).nullish(),
  reversedAt: time.nullish(),
});
export type Chargeback = z.infer<typeof chargebackSchema>;

/** A page: https://docs.mollie.com/reference/pagination. @param name what the objects are called in `_embedded` */
export const pageOf = <T>(name: string, item: z.ZodType<T>) =>
  z
    .object({
      _embedded: z.object({ [name]: z.array(item) }),
      _links: z.object({ next: z.object({ href: z.url() }).nullable() }),
    })
    .transform(({ _embedded, _links: { next } }, { issues }) => {
      /** The id that the next page starts from. No address of an answer is ever called. */
      const from = next === null ? null : new URL(next.href).searchParams.get('from');
      // There is another page: this is not the end of the listing.
      if (next !== null && !from)
        issues.push({ code: 'custom', message: 'it does not tell where the next page starts', input: next });
      return { items: _embedded[name] as readonly T[], from };
    });

/** Our number of an object that was made here. */
export function numberIn(
  { metadata }: { readonly metadata?: unknown },
  key: typeof PAYMENT_KEY | typeof REFUND_KEY,
): string | undefined {
  const no = z.object({ [key]: z.string().regex(OUR_NUMBER) }).safeParse(metadata);
  return no.data?.[key];
}

/** What Mollie says, as an amount of ours: minor units. @throws ChannelError `garbage` for what is none */
export function amountOf({ value, currency }: z.infer<typeof amountSchema>): {
  readonly amount: number;
  readonly currency: CurrencyCode;
} {
  try {
    if (isCurrency(currency)) return { amount: fromDecimal(value, currency), currency };
  } catch {
    // Not an amount.
  }
  throw new ChannelError('garbage', `mollie gave an amount that is none: ${value} ${currency}`);
}

/** Without the refunds and the chargebacks. */
export function paymentAnswer(payment: Payment): ChannelAnswer {
  switch (payment.status) {
    case 'open':
      return { state: 'unpaid' };
    // Of `authorized` Mollie has the payer's word and not the money yet.
    case 'pending':
    case 'authorized':
      return { state: 'processing' };
    case 'canceled':
    case 'expired':
      return { state: 'closed' };
    case 'failed': {
      const reason = payment.details?.failureReason;
      return { state: 'failed', ...(typeof reason === 'string' ? { reason } : {}) };
    }
    case 'paid':
      return paid(payment);
  }
}

/** @throws ChannelError `garbage` when it was paid at no time */
function paid({ id, amount, paidAt }: Payment): PaidAnswer {
  if (typeof paidAt !== 'string')
    throw new ChannelError('garbage', `mollie gave ${id}, which is paid at no time`);
  return {
    state: 'paid',
    channelPaymentId: id,
    ...amountOf(amount),
    paidAt: new Date(paidAt).toISOString(),
  };
}

/** The payment with what became of its money. `refunded` once all of it has gone back. */
export function withMoneyBack(
  answer: PaidAnswer,
  refunds: readonly Refund[],
  chargebacks: readonly Chargeback[],
): PaidAnswer {
  const listed = refunds.map((refund) => listedRefund(refund, answer.currency));
  const back = listed
    .filter(({ state }) => state === 'succeeded')
    .reduce((sum, { amount }) => sum + amount, 0);
  return {
    ...answer,
    state: back >= answer.amount ? 'refunded' : 'paid',
    refunds: listed,
    ...(chargebacks.length === 0 ? {} : { disputes: chargebacks.map(disputeOf) }),
  };
}

/** In the payment's currency, minor units. @throws ChannelError `garbage` for one in another */
function refundedBy({ id, amount: given }: Refund, currency: CurrencyCode): number {
  const { amount, currency: its } = amountOf(given);
  if (its === currency) return amount;
  throw new ChannelError('garbage', `mollie gave ${id} in ${its}, of a payment in ${currency}`);
}

/**
 * https://docs.mollie.com/docs/refunds
 * @param currency the payment's
 * @throws ChannelError `garbage` for a refund in another one
 */
export function refundAnswer(refund: Refund, currency: CurrencyCode): RefundAnswer {
  const channelRefundId = refund.id;
  const amount = refundedBy(refund, currency);
  switch (refund.status) {
    case 'refunded':
      return { state: 'succeeded', channelRefundId, amount };
    case 'failed':
      return {
        state: 'failed',
        reason: 'it failed at Mollie, and the money is on your balance there',
        channelRefundId,
      };
    case 'canceled':
      return { state: 'failed', reason: 'canceled at Mollie', channelRefundId };
    case 'queued':
      return {
        state: 'needs_person',
        reason:
          'the balance at Mollie is too low: the refund waits until there is enough, or funds are added',
        channelRefundId,
      };
    default:
      // `pending` and `processing`; and one that Mollie has added since: not decided as far as we can tell.
      return { state: 'processing', channelRefundId };
  }
}

function listedRefund(refund: Refund, currency: CurrencyCode): ChannelRefund {
  const { state } = refundAnswer(refund, currency);
  const outRefundNo = numberIn(refund, REFUND_KEY);
  return {
    id: refund.id,
    ...(outRefundNo === undefined ? {} : { outRefundNo }),
    amount: refundedBy(refund, currency),
    state: state === 'succeeded' || state === 'failed' ? state : 'processing',
  };
}

/**
 * A chargeback has taken the money when Mollie tells of it; what is decided later is whether it comes back. So it is lost
 * until it is reversed: docs/decisions/0035.
 */
export function disputeOf({ id, amount, reason, reversedAt }: Chargeback): ChannelDispute {
  return {
    id,
    ...amountOf(amount),
    state: typeof reversedAt === 'string' ? 'won' : 'lost',
    ...(typeof reason?.description === 'string' ? { reason: reason.description } : {}),
  };
}
