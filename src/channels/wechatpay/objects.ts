import { z } from 'zod';
import {
  type ChannelAnswer,
  ChannelError,
  type PaidAnswer,
  type RefundAnswer,
} from '../../domain/channel.ts';
import { isAmount, isCurrency } from '../../domain/money.ts';
import type { Merchant } from './merchant.ts';

/** WeChat Pay's objects as far as they are read, and what they say in nodrop's words. Its amounts are in fen. */

const text = z.string().min(1);
const amount = z.number().refine(isAmount);
const currency = z.string().refine(isCurrency).optional();
const time = z.iso.datetime({ offset: true });

/** Whose an object is: of a merchant, or of a service provider's. */
const ownerSchema = z.object({
  mchid: z.string().optional(),
  appid: z.string().optional(),
  sp_mchid: z.string().optional(),
  sp_appid: z.string().optional(),
  sub_mchid: z.string().optional(),
});
export type Owner = z.infer<typeof ownerSchema>;

/** https://pay.weixin.qq.com/doc/v3/merchant/4013070356 */
export const orderSchema = ownerSchema.extend({
  out_trade_no: text,
  trade_state: z.enum([
    'SUCCESS',
    'REFUND',
    'NOTPAY',
    'CLOSED',
    'REVOKED',
    'USERPAYING',
    'PAYERROR',
    'ACCEPT',
  ]),
  transaction_id: text.nullish(),
  success_time: time.nullish(),
  amount: z.object({ total: amount, currency, payer_total: z.int().nonnegative().optional() }).nullish(),
});
export type Order = z.infer<typeof orderSchema>;

/** https://pay.weixin.qq.com/docs/partner/apis/partner-miniprogram-payment/query-by-out-refund-no.html */
export const refundSchema = z.object({
  refund_id: text,
  out_refund_no: text,
  out_trade_no: text,
  status: text,
  success_time: time.nullish(),
  amount: z.object({ refund: amount, currency }),
});
export type Refund = z.infer<typeof refundSchema>;

/** The same as a callback has it. */
export const refundNewsSchema = ownerSchema.extend({
  refund_id: text,
  out_refund_no: text,
  out_trade_no: text,
  refund_status: text,
  success_time: time.nullish(),
  amount: z.object({ refund: amount }),
});

/** True when an object is of the merchant, and of whom the merchant acts for. */
export const isOf = ({ mchid, sub }: Merchant, owner: Owner): boolean =>
  sub === null ? owner.mchid === mchid : owner.sp_mchid === mchid && owner.sub_mchid === sub.mchid;

/**
 * `PAYERROR` is of payments by the payer's code alone (https://developers.weixin.qq.com/community/pay/doc/00062292b0caa8615cb1e8ab46b400
 * quotes the page of the query), of which none are made here: an order of ours whose payment failed is still `NOTPAY`, and
 * the payer may try again (https://pay.weixin.qq.com/docs/merchant/products/native-payment/development.html). It is
 * therefore never a failure, and neither is a state that has been added since.
 *
 * `REFUND` says that there was a refund, and not of how much or what became of it: that the refunds themselves tell.
 * @throws ChannelError `garbage` for an order that is paid without saying what and when
 */
export function orderAnswer(order: Order): ChannelAnswer {
  switch (order.trade_state) {
    case 'SUCCESS':
      return paid(order);
    case 'REFUND':
      return { ...paid(order), someWentBack: true };
    case 'CLOSED':
    case 'REVOKED':
      return { state: 'closed' };
    case 'USERPAYING':
    case 'ACCEPT':
      return { state: 'processing' };
    case 'NOTPAY':
    case 'PAYERROR':
      return { state: 'unpaid' };
  }
}

function paid({ out_trade_no, transaction_id, success_time, amount: sum }: Order): PaidAnswer {
  if (!transaction_id || !success_time || !sum) {
    throw new ChannelError(
      'garbage',
      `wechatpay says that ${out_trade_no} is paid, and not by what, when or how much`,
    );
  }
  return {
    state: 'paid',
    channelPaymentId: transaction_id,
    amount: sum.total,
    currency: sum.currency ?? 'CNY',
    paidAt: success_time,
    ...(sum.payer_total === undefined ? {} : { payerAmount: sum.payer_total }),
  };
}

export const CLOSED_REASON =
  'WeChat Pay has closed the refund: for seven days the balance was too low for it, or its account is not to be refunded from';

/** Of a refund by its number, its state and amount; `status` as the query and the callback have it. */
export function refundAnswer({
  status,
  refund_id: channelRefundId,
  amount: sum,
  success_time,
}: Pick<Refund, 'status' | 'refund_id' | 'success_time'> & {
  readonly amount: { readonly refund: number };
}): RefundAnswer {
  switch (status) {
    case 'SUCCESS':
      return {
        state: 'succeeded',
        channelRefundId,
        amount: sum.refund,
        ...(success_time ? { refundedAt: success_time } : {}),
      };
    case 'CLOSED':
      return { state: 'ask_again', reason: CLOSED_REASON, channelRefundId };
    case 'ABNORMAL':
      return {
        state: 'needs_person',
        reason:
          'the card or account of the payer does not take the money: handle it at the merchant platform',
        channelRefundId,
      };
    default:
      // PROCESSING, and what has been added since: not decided as far as we can tell.
      return { state: 'processing', channelRefundId };
  }
}
