import { z } from 'zod';
import {
  type ChannelAnswer,
  ChannelError,
  type PaidAnswer,
  type RefundAnswer,
} from '../../domain/channel.ts';
import { CURRENCY, fen, fenOrNothing } from './amounts.ts';
import { fromBeijing } from './times.ts';

/** Defines the parts of Alipay's answers that nodrop reads, and maps these parts to answers of the channel port. */

export const TRADE_STATES = ['WAIT_BUYER_PAY', 'TRADE_SUCCESS', 'TRADE_FINISHED', 'TRADE_CLOSED'] as const;

const id = z.string().min(1).max(64);

export const codeSchema = z.object({
  out_trade_no: z.string(),
  qr_code: z.url({ protocol: /^https?$/ }),
});

/** https://docs.open.alipay.com/api_1/alipay.trade.query */
export const tradeSchema = z.object({
  out_trade_no: z.string(),
  trade_no: id,
  trade_status: z.enum(TRADE_STATES),
  total_amount: z.string(),
  buyer_pay_amount: z.string().optional(),
  receipt_amount: z.string().optional(),
  /** When the seller received the money. Alipay sets this field only on a paid trade. */
  send_pay_date: z.string().optional(),
  /** The currency of the trade. Alipay sets this field only if the currency is not CNY. */
  trans_currency: z.string().optional(),
});
export type AlipayTrade = z.infer<typeof tradeSchema>;

export const closedSchema = z.object({ out_trade_no: z.string() });

/** https://docs.open.alipay.com/api_1/alipay.trade.refund */
export const refundSchema = z.object({
  out_trade_no: z.string(),
  /**
   * `Y` means that this request moved money. `N` means that this request moved no money. Either an earlier request had
   * moved it, or the refund is not decided yet.
   */
  fund_change: z.enum(['Y', 'N']),
});

/**
 * A refund in the answer to a refund query. Alipay omits fields without a value:
 * https://docs.open.alipay.com/api_1/alipay.trade.fastpay.refund.query.
 */
export const knownRefundSchema = z.object({
  out_trade_no: z.string().optional(),
  out_request_no: z.string().optional(),
  refund_amount: z.string().optional(),
  refund_status: z.string().optional(),
  gmt_refund_pay: z.string().optional(),
});
export type AlipayRefund = z.infer<typeof knownRefundSchema>;

const isMoney = (yuan: string | undefined): boolean => yuan !== undefined && fenOrNothing(yuan) > 0;

/**
 * Maps a trade to an answer of the port. At Alipay, `TRADE_CLOSED` means that the trade was never paid, or that all of
 * its money was refunded. nodrop maps it to `closed` only if the trade was never paid.
 * @throws ChannelError `garbage`
 */
export function tradeAnswer(trade: AlipayTrade): ChannelAnswer {
  switch (trade.trade_status) {
    case 'WAIT_BUYER_PAY':
      return { state: 'unpaid' };
    case 'TRADE_SUCCESS':
    case 'TRADE_FINISHED':
      return paid(trade);
    case 'TRADE_CLOSED': {
      const wasPaid =
        trade.send_pay_date !== undefined || isMoney(trade.buyer_pay_amount) || isMoney(trade.receipt_amount);
      if (!wasPaid) return { state: 'closed' };
      const answer = paid(trade);
      return { ...answer, state: 'refunded', refundedAmount: answer.amount };
    }
  }
}

function paid(trade: AlipayTrade): PaidAnswer {
  const { trade_no: channelPaymentId, total_amount, buyer_pay_amount, send_pay_date } = trade;
  if (send_pay_date === undefined) {
    throw new ChannelError('garbage', `alipay reports ${channelPaymentId} as paid without a payment time`);
  }
  return {
    state: 'paid',
    channelPaymentId,
    ...totalOf(total_amount, trade.trans_currency),
    paidAt: fromBeijing(send_pay_date),
    ...(buyer_pay_amount === undefined ? {} : { payerAmount: fenOrNothing(buyer_pay_amount) }),
  };
}

/**
 * Converts the total of a trade to fen.
 * @throws ChannelError `garbage` for a currency other than CNY, because all of nodrop's trades at Alipay are in CNY
 */
export function totalOf(yuan: string, currency = CURRENCY): Pick<PaidAnswer, 'amount' | 'currency'> {
  if (currency !== CURRENCY)
    throw new ChannelError('garbage', 'alipay answered with a trade in another currency than CNY');
  return { amount: fen(yuan), currency };
}

/**
 * Maps a refund to an answer of the port. Alipay has no refund id of its own. The trade and nodrop's out_request_no
 * together identify a refund.
 * @throws ChannelError `garbage` if the answer is about a refund that was not requested
 */
export function refundAnswer(refund: AlipayRefund, outRefundNo: string): RefundAnswer {
  const { out_request_no, refund_amount, refund_status, gmt_refund_pay } = refund;
  if (refund_amount === undefined && refund_status === undefined) return { state: 'unknown_refund' };
  if (out_request_no !== outRefundNo) {
    throw new ChannelError('garbage', `alipay answered with another refund than ${outRefundNo}`);
  }
  if (refund_status !== 'REFUND_SUCCESS' || refund_amount === undefined) {
    return { state: 'processing', channelRefundId: outRefundNo };
  }
  return {
    state: 'succeeded',
    channelRefundId: outRefundNo,
    amount: fen(refund_amount),
    ...(gmt_refund_pay === undefined ? {} : { refundedAt: fromBeijing(gmt_refund_pay) }),
  };
}
