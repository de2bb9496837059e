import { z } from 'zod';
import {
  type ChannelAnswer,
  ChannelError,
  type PaidAnswer,
  type RefundAnswer,
} from '../../domain/channel.ts';
import { isAmount, isCurrency } from '../../domain/money.ts';
import type { Merchant } from './merchant.ts';

/**
 * Defines the parts of WeChat Pay's objects that nodrop reads, and maps these objects to answers of the channel port.
 * Amounts are in fen.
 */

const text = z.string().min(1);
const amount = z.number().refine(isAmount);
const currency = z.string().refine(isCurrency).optional();
const time = z.iso.datetime({ offset: true });

/** The owner of an object at WeChat Pay: a merchant, or a service provider and its sub-merchant. */
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

/** A refund in the form in which a callback reports it. */
export const refundNewsSchema = ownerSchema.extend({
  refund_id: text,
  out_refund_no: text,
  out_trade_no: text,
  refund_status: text,
  success_time: time.nullish(),
  amount: z.object({ refund: amount }),
});

/** True if the object belongs to the merchant. In service-provider mode, it must also belong to the sub-merchant. */
export const isOf = ({ mchid, sub }: Merchant, owner: Owner): boolean =>
  sub === null ? owner.mchid === mchid : owner.sp_mchid === mchid && owner.sub_mchid === sub.mchid;

/**
 * Maps an order to an answer of the port.
 * - `PAYERROR` occurs only for payments by the payer's code, which nodrop does not create (the query page, as quoted by
 *   https://developers.weixin.qq.com/community/pay/doc/00062292b0caa8615cb1e8ab46b400). If a payment of a nodrop order
 *   fails, the order stays `NOTPAY`, and the payer may try again
 *   (https://pay.weixin.qq.com/docs/merchant/products/native-payment/development.html). So nodrop never treats
 *   `PAYERROR` or an unknown state as a failure.
 * - `REFUND` means that the order has a refund. This state shows neither the amount nor the result of the refund. Only
 * a query of the refund shows them.
 * @throws ChannelError `garbage` if a paid order has no transaction, time or amount
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
      `wechatpay reports ${out_trade_no} as paid without a transaction, time or amount`,
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
  'WeChat Pay has closed the refund: the balance was too low for seven days, or the account does not allow refunds';

/** Maps a refund to an answer of the port. The query and the callback use the same values of `status`. */
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
          "the payer's card or account does not accept the money: handle the refund at the merchant platform",
        channelRefundId,
      };
    default:
      // WeChat Pay has not decided a refund with status PROCESSING. nodrop treats an unknown status in the same way.
      return { state: 'processing', channelRefundId };
  }
}
