import { z } from 'zod';
import { goneBackBy } from '../domain/answer.ts';
import { CallbackError, type ChannelAdapter, ChannelError } from '../domain/channel.ts';
import { isAmount, isCurrency } from '../domain/money.ts';
import { isStorable } from '../domain/text.ts';

/**
 * Checks that the ledger can store the data that a channel reports. Without this check, one value that cannot be stored
 * would keep a paid order unpaid forever.
 */

const text = z.string().min(1).max(200).refine(isStorable);
/** The maximum number of refunds or disputes in one answer. No trade of nodrop has more refunds or disputes. */
const LISTED_AT_MOST = 1_000;
/** The maximum size of the data that an adapter may store with a trade's reference. */
const REFERENCE_DATA_AT_MOST_BYTES = 4_096;

const reason = z.string().refine(isStorable);
const amount = z.number().refine(isAmount);
const sum = z.int().nonnegative();
/** The UTC offset of a valid time can move the time to a year that the database cannot store. */
const time = z.iso.datetime({ offset: true }).refine((value) => {
  const year = new Date(value).getUTCFullYear();
  return year >= 1970 && year <= 9999;
});

const nextActionSchema = z.object({
  type: text,
  url: z.string().refine(isStorable).optional(),
  qr: z.string().refine(isStorable).optional(),
  params: z.record(z.string().refine(isStorable), z.string().refine(isStorable)).optional(),
  expiresAt: time.optional(),
});

const referenceSchema = z.object({
  id: text,
  data: z
    .record(
      z.string().refine(isStorable),
      z.union([z.string().refine(isStorable), z.number(), z.boolean(), z.null()]),
    )
    .refine(
      (data) => Buffer.byteLength(JSON.stringify(data)) <= REFERENCE_DATA_AT_MOST_BYTES,
      'more than 4 KiB',
    )
    .optional(),
});

const createdSchema = z.union([
  z.literal('not_renewable'),
  z.object({ action: nextActionSchema, reference: referenceSchema.optional() }),
]);

const closeSchema = z.discriminatedUnion('state', [
  z.object({ state: z.enum(['closed', 'already_paid', 'processing', 'unknown_trade']) }),
  z.object({ state: z.literal('not_yet'), until: time }),
]);

const listedRefundSchema = z.object({
  id: text,
  outRefundNo: text.optional(),
  amount,
  state: z.enum(['processing', 'succeeded', 'failed', 'reversed']),
});

const disputeSchema = z.object({
  id: text,
  amount,
  currency: z.string().refine(isCurrency),
  state: z.enum(['open', 'won', 'lost']),
  isInquiry: z.boolean().optional(),
  reason: reason.optional(),
  respondBy: time.optional(),
});

const paidSchema = z
  .object({
    state: z.enum(['paid', 'refunded']),
    channelPaymentId: text,
    amount,
    currency: z.string().refine(isCurrency),
    paidAt: time,
    payerAmount: sum.optional(),
    refundedAmount: sum.optional(),
    refunds: z.array(listedRefundSchema).max(LISTED_AT_MOST).optional(),
    someWentBack: z.literal(true).optional(),
    disputes: z.array(disputeSchema).max(LISTED_AT_MOST).optional(),
  })
  // If an answer has a list of refunds, nodrop relies on the list. So the state of the answer must agree with the list.
  .refine(
    (answer) =>
      answer.state === 'paid' || answer.refunds === undefined || goneBackBy(answer) >= answer.amount,
    'the state is refunded, but the refunds add up to less',
  )
  .refine(
    ({ state, someWentBack, refunds, refundedAmount }) =>
      someWentBack === undefined ||
      (state === 'paid' && refunds === undefined && refundedAmount === undefined),
    'someWentBack is set, but the refunded amount is known, or the state is not paid',
  );

const answerSchema = z.discriminatedUnion('state', [
  z.object({ state: z.enum(['unpaid', 'processing', 'unknown_trade', 'closed']) }),
  z.object({ state: z.literal('failed'), reason: reason.optional() }),
  paidSchema,
]);

const foundSchema = z.object({
  reference: text,
  method: text.optional(),
  terms: z.object({ amount, currency: z.string().refine(isCurrency) }).optional(),
  answer: answerSchema,
  isOurs: z.literal(true).optional(),
  unfit: reason.optional(),
});

const refundSchema = z.discriminatedUnion('state', [
  z.object({ state: z.literal('succeeded'), channelRefundId: text, amount, refundedAt: time.optional() }),
  z.object({ state: z.literal('processing'), channelRefundId: text.optional() }),
  z.object({
    state: z.enum(['failed', 'reversed', 'needs_person', 'ask_again']),
    reason,
    channelRefundId: text.optional(),
  }),
  z.object({ state: z.literal('unknown_refund') }),
]);

const subjectSchema = z
  .object({
    outTradeNo: text.optional(),
    reference: text.optional(),
    channelPaymentId: text.optional(),
  })
  .refine((about) => Object.values(about).some((named) => named !== undefined), 'names no trade');
const callbackRefundSchema = z
  .object({ outRefundNo: text.optional(), channelRefundId: text.optional(), answer: refundSchema })
  .refine(
    (refund) => refund.outRefundNo !== undefined || refund.channelRefundId !== undefined,
    'names no refund',
  );
const callbackSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('trade'),
    notificationId: text,
    about: subjectSchema,
    answer: answerSchema,
    refund: callbackRefundSchema.optional(),
  }),
  z.object({
    kind: z.literal('refund'),
    notificationId: text,
    about: subjectSchema,
    refund: callbackRefundSchema,
  }),
  z.object({
    kind: z.literal('dispute'),
    notificationId: text,
    about: subjectSchema,
    dispute: disputeSchema,
  }),
  z.object({
    kind: z.literal('notice'),
    notificationId: text,
    about: subjectSchema,
    isProven: z.literal(true).optional(),
  }),
  z.object({ kind: z.literal('ignored'), notificationId: text, reason, about: subjectSchema.optional() }),
]);

/**
 * Wraps an adapter. The wrapped adapter returns only answers that the ledger can store. For any other answer it throws
 * an error, and nodrop queries the channel again. If a callback cannot be stored, nodrop rejects the callback as
 * malformed.
 */
export function validated(adapter: ChannelAdapter): ChannelAdapter {
  const readable = <Answer>(schema: z.ZodType, answer: Answer, no: string): Answer => {
    const { error } = schema.safeParse(answer);
    if (error === undefined) return answer;
    const why = `${adapter.declaration.name} answered about ${no} with a value that cannot be stored`;
    throw new ChannelError('garbage', `${why}: ${z.prettifyError(error)}`, { cause: error });
  };
  const { findTrade, readTrade } = adapter;
  return {
    ...adapter,
    async createTrade(account, trade, signal) {
      return readable(createdSchema, await adapter.createTrade(account, trade, signal), trade.outTradeNo);
    },
    ...(findTrade === undefined
      ? {}
      : {
          async findTrade(account, trade, signal) {
            const found = await findTrade(account, trade, signal);
            return readable(z.union([z.literal('absent'), referenceSchema]), found, trade.outTradeNo);
          },
        }),
    ...(readTrade === undefined
      ? {}
      : {
          async readTrade(account, reference, signal) {
            return readable(foundSchema, await readTrade(account, reference, signal), reference);
          },
        }),
    async queryTrade(account, trade, signal) {
      return readable(answerSchema, await adapter.queryTrade(account, trade, signal), trade.outTradeNo);
    },
    async closeTrade(account, trade, signal) {
      return readable(closeSchema, await adapter.closeTrade(account, trade, signal), trade.outTradeNo);
    },
    async refundTrade(account, trade, refund, signal) {
      const answer = await adapter.refundTrade(account, trade, refund, signal);
      return readable(refundSchema, answer, refund.outRefundNo);
    },
    async queryRefund(account, trade, refund, signal) {
      const answer = await adapter.queryRefund(account, trade, refund, signal);
      return readable(refundSchema, answer, refund.outRefundNo);
    },
    async verifyCallback(account, request) {
      const callback = await adapter.verifyCallback(account, request);
      const { error } = callbackSchema.safeParse(callback);
      if (error !== undefined) throw new CallbackError('malformed', z.prettifyError(error));
      return callback;
    },
  };
}
