import { z } from 'zod';
import { CallbackError, type ChannelAdapter, ChannelError } from '../domain/channel.ts';
import { isAmount, isCurrency } from '../domain/money.ts';
import { isStorable } from '../domain/text.ts';

/** What the ledger can keep of what a channel says: one value it cannot would keep a paid order unpaid for ever. */

const text = z.string().min(1).max(200).refine(isStorable);
const reason = z.string().refine(isStorable);
const amount = z.number().refine(isAmount);
const sum = z.int().nonnegative();
/** An offset may move a time of the years that can be written out of those that can be stored. */
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

const answerSchema = z.discriminatedUnion('state', [
  z.object({ state: z.enum(['unpaid', 'processing', 'unknown_trade', 'closed']) }),
  z.object({ state: z.literal('failed'), reason: reason.optional() }),
  z.object({
    state: z.enum(['paid', 'refunded']),
    channelPaymentId: text,
    amount,
    currency: z.string().refine(isCurrency),
    paidAt: time,
    payerAmount: sum.optional(),
    refundedAmount: sum.optional(),
  }),
]);

const refundSchema = z.discriminatedUnion('state', [
  z.object({ state: z.literal('succeeded'), channelRefundId: text, amount, refundedAt: time.optional() }),
  z.object({ state: z.enum(['processing', 'unknown_refund']) }),
  z.object({ state: z.literal('failed'), reason }),
]);

const callbackSchema = z.object({
  notificationId: text,
  outTradeNo: text,
  answer: answerSchema,
  refund: z.object({ outRefundNo: text, answer: refundSchema }).optional(),
});

/**
 * The adapter, believed only what can be kept: to a query such an answer is none and the channel is asked again, and
 * such a callback is malformed.
 */
export function checked(adapter: ChannelAdapter): ChannelAdapter {
  const readable = <Answer>(schema: z.ZodType, answer: Answer, no: string): Answer => {
    const { error } = schema.safeParse(answer);
    if (error === undefined) return answer;
    const why = `${adapter.name} gave an answer on ${no} that cannot be kept`;
    throw new ChannelError('garbage', `${why}: ${z.prettifyError(error)}`, { cause: error });
  };
  return {
    ...adapter,
    async createTrade(account, trade, signal) {
      return readable(nextActionSchema, await adapter.createTrade(account, trade, signal), trade.outTradeNo);
    },
    async queryTrade(account, outTradeNo, signal) {
      return readable(answerSchema, await adapter.queryTrade(account, outTradeNo, signal), outTradeNo);
    },
    async refundTrade(account, refund, signal) {
      return readable(refundSchema, await adapter.refundTrade(account, refund, signal), refund.outRefundNo);
    },
    async queryRefund(account, outTradeNo, outRefundNo, signal) {
      const answer = await adapter.queryRefund(account, outTradeNo, outRefundNo, signal);
      return readable(refundSchema, answer, outRefundNo);
    },
    verifyCallback(account, headers, rawBody) {
      const callback = adapter.verifyCallback(account, headers, rawBody);
      const { error } = callbackSchema.safeParse(callback);
      if (error !== undefined) throw new CallbackError('malformed', z.prettifyError(error));
      return callback;
    },
  };
}
