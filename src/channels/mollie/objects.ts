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

/** Defines the parts of Mollie's objects that nodrop reads, and maps these objects to answers of the channel port. */

/**
 * nodrop stores its payment and refund numbers under these metadata keys, in every object that it creates at Mollie.
 */
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

/**
 * The fields of a listed payment that a search needs. nodrop does not check other fields, because one unusual payment
 * of the merchant would then make the whole listing unreadable.
 */
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

/**
 * The schema of one page of Mollie's listing: https://docs.mollie.com/reference/pagination. @param name the key of the
 * objects in `_embedded`
 */
export const pageOf = <T>(name: string, item: z.ZodType<T>) =>
  z
    .object({
      _embedded: z.object({ [name]: z.array(item) }),
      _links: z.object({ next: z.object({ href: z.url() }).nullable() }),
    })
    .transform(({ _embedded, _links: { next } }, { issues }) => {
      /**
       * The id of the object with which the next page starts. nodrop reads only this id from the link, because it never
       * calls a URL from an answer.
       */
      const from = next === null ? null : new URL(next.href).searchParams.get('from');
      // The listing has another page, but the link to it contains no valid id. So nodrop cannot read the listing to its
      // end.
      if (next !== null && !from)
        issues.push({
          code: 'custom',
          message: 'the answer does not say where the next page starts',
          input: next,
        });
      return { items: _embedded[name] as readonly T[], from };
    });

/** The payment or refund number that nodrop has stored in one of its objects at Mollie. */
export function numberIn(
  { metadata }: { readonly metadata?: unknown },
  key: typeof PAYMENT_KEY | typeof REFUND_KEY,
): string | undefined {
  const no = z.object({ [key]: z.string().regex(OUR_NUMBER) }).safeParse(metadata);
  return no.data?.[key];
}

/** Converts Mollie's amount to minor units. @throws ChannelError `garbage` if the text is not an amount */
export function amountOf({ value, currency }: z.infer<typeof amountSchema>): {
  readonly amount: number;
  readonly currency: CurrencyCode;
} {
  try {
    if (isCurrency(currency)) return { amount: fromDecimal(value, currency), currency };
  } catch {
    // Not an amount.
  }
  throw new ChannelError('garbage', `mollie answered with an invalid amount: ${value} ${currency}`);
}

/** The state of the payment, without its refunds and chargebacks. */
export function paymentAnswer(payment: Payment): ChannelAnswer {
  switch (payment.status) {
    case 'open':
      return { state: 'unpaid' };
    // At Mollie, `authorized` means that the payer has approved the payment, but Mollie does not have the money yet.
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

/** @throws ChannelError `garbage` if Mollie does not report when the payment was paid */
function paid({ id, amount, paidAt }: Payment): PaidAnswer {
  if (typeof paidAt !== 'string')
    throw new ChannelError('garbage', `mollie reports ${id} as paid without a payment time`);
  return {
    state: 'paid',
    channelPaymentId: id,
    ...amountOf(amount),
    paidAt: new Date(paidAt).toISOString(),
  };
}

/**
 * Adds the refunds and chargebacks to the answer about a paid payment. The state of the answer becomes `refunded` once
 * the whole amount was refunded.
 */
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

/**
 * The refund's amount in the payment's currency, minor units. @throws ChannelError `garbage` for a refund in
 * another currency
 */
function refundedBy({ id, amount: given }: Refund, currency: CurrencyCode): number {
  const { amount, currency: its } = amountOf(given);
  if (its === currency) return amount;
  throw new ChannelError(
    'garbage',
    `mollie reports the refund ${id} in ${its}, for a payment in ${currency}`,
  );
}

/**
 * Maps a refund at Mollie to an answer of the port: https://docs.mollie.com/docs/refunds.
 * @param currency the currency of the payment
 * @throws ChannelError `garbage` for a refund in another currency
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
        reason: 'the refund failed at Mollie, and the money is on your Mollie balance',
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
      // Mollie has not decided a refund with status `pending` or `processing`. nodrop treats a status that it does not
      // know in the same way.
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
 * Mollie takes the money from the merchant before it reports a chargeback. Only a later decision can return the money.
 * So nodrop reports a chargeback as lost until Mollie reverses it: docs/decisions/0035.
 */
export function disputeOf({ id, amount, reason, reversedAt }: Chargeback): ChannelDispute {
  return {
    id,
    ...amountOf(amount),
    state: typeof reversedAt === 'string' ? 'won' : 'lost',
    ...(typeof reason?.description === 'string' ? { reason: reason.description } : {}),
  };
}
