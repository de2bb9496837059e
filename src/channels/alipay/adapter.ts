import {
  type ChannelAccount,
  type ChannelAdapter,
  type ChannelAnswer,
  ChannelError,
  type CloseAnswer,
  type FoundTrade,
  type KnownRefund,
  type NewRefund,
  type NewTrade,
  type RefundAnswer,
  type Trade,
} from '../../domain/channel.ts';
import { toYuan } from './amounts.ts';
import { acknowledge, peekOutTradeNo, verifyCallback } from './callback.ts';
import { classify, DONE, refusalIn } from './classify.ts';
import { type AlipayRequest, ask, linkOf, send, UnsignedAnswer } from './client.ts';
import { declaration } from './declaration.ts';
import { checkKeys } from './keys.ts';
import {
  closedSchema,
  codeSchema,
  knownRefundSchema,
  refundAnswer,
  refundSchema,
  totalOf,
  tradeAnswer,
  tradeSchema,
} from './objects.ts';
import { toBeijing } from './times.ts';

/** The largest clock difference that `checkAccount` accepts. */
const CLOCKS_APART_MS = 5 * 60_000;
/** `checkAccount` queries this out_trade_no. It has a valid form, but no payment of nodrop uses it. */
const NO_TRADE = 'nodrop_check_account';

const UNKNOWN_TRADE = 'ACQ.TRADE_NOT_EXIST';
/** Alipay refuses a create request with one of these codes if the trade exists and can no longer be paid. */
const PAST_PAYING: ReadonlySet<string> = new Set(['ACQ.TRADE_HAS_SUCCESS', 'ACQ.TRADE_HAS_CLOSE']);
/**
 * The codes with which Alipay refuses to close a trade that is not waiting for its payer. Only a query shows the state
 * of that trade.
 */
const NOT_OPEN: ReadonlySet<string> = new Set([
  'ACQ.TRADE_STATUS_ERROR',
  'ACQ.REASON_TRADE_STATUS_INVALID',
  'ACQ.REASON_ILLEGAL_STATUS',
  'ACQ.TRADE_HAS_SUCCESS',
  'ACQ.TRADE_HAS_CLOSE',
]);
/**
 * The codes with which Alipay refuses a refund because of the trade's current state. Some of these states are
 * permanent.
 */
const NOT_REFUNDABLE: ReadonlySet<string> = new Set([
  'ACQ.TRADE_STATUS_ERROR',
  'ACQ.TRADE_HAS_CLOSE',
  'ACQ.TRADE_HAS_FINISHED',
]);
/** Alipay refuses a refund with this code if the out_request_no already belongs to a refund with a different amount. */
const OTHER_AMOUNT = 'ACQ.DISCORDANT_REPEAT_REQUEST';

const subCodeIn = (error: unknown): string => refusalIn(error)?.sub_code ?? '';

/**
 * Creates the adapter for Alipay. The adapter supports payment pages for desktop and phone, and QR codes. Alipay's own
 * library signs the requests and verifies the answers.
 */
export function createAlipayAdapter(): ChannelAdapter {
  /** Reads the trade at Alipay. Returns undefined if Alipay does not know the trade. */
  async function read(
    account: ChannelAccount,
    { outTradeNo }: Pick<Trade, 'outTradeNo'>,
    signal?: AbortSignal,
  ) {
    try {
      const value = await ask({
        account,
        ...{ method: 'alipay.trade.query', operation: 'other', schema: tradeSchema, signal },
        content: { out_trade_no: outTradeNo },
      });
      return ours(value, outTradeNo);
    } catch (error) {
      if (subCodeIn(error) === UNKNOWN_TRADE) return undefined;
      throw error;
    }
  }

  async function queryTrade(
    account: ChannelAccount,
    trade: Trade,
    signal?: AbortSignal,
  ): Promise<ChannelAnswer> {
    const found = await read(account, trade, signal);
    return found === undefined ? { state: 'unknown_trade' } : tradeAnswer(found);
  }

  async function queryRefund(
    account: ChannelAccount,
    { outTradeNo }: Trade,
    { outRefundNo }: KnownRefund,
    signal?: AbortSignal,
  ): Promise<RefundAnswer> {
    try {
      const value = await ask({
        account,
        ...{
          method: 'alipay.trade.fastpay.refund.query',
          operation: 'other',
          schema: knownRefundSchema,
          signal,
        },
        content: {
          out_trade_no: outTradeNo,
          out_request_no: outRefundNo,
          query_options: ['gmt_refund_pay'],
        },
      });
      if (value.out_trade_no !== undefined) ours({ out_trade_no: value.out_trade_no }, outTradeNo);
      return refundAnswer(value, outRefundNo);
    } catch (error) {
      if (subCodeIn(error) === UNKNOWN_TRADE) return { state: 'unknown_refund' };
      throw error;
    }
  }

  /**
   * Decides whether a refund can still succeed. The query does not find it, and Alipay refuses to refund the trade now.
   * - `never`: the time for refunds has ended, or the other refunds leave less money than this refund needs.
   * - `perhaps it did`: all of the money was returned, and this refund may be a part of it. An earlier request may have
   * timed out, and a query shows a refund up to 10 s late (documentation of the refund query).
   */
  async function mayRefund(
    account: ChannelAccount,
    trade: Trade,
    { amount, otherRefunds = 0 }: NewRefund,
    signal?: AbortSignal,
  ): Promise<'never' | 'perhaps it did' | 'perhaps later'> {
    const found = await read(account, trade, signal);
    if (found === undefined) return 'perhaps later';
    if (found.trade_status === 'TRADE_FINISHED') return 'never';
    const answer = tradeAnswer(found);
    if (answer.state !== 'refunded') return 'perhaps later';
    return otherRefunds + amount > answer.amount ? 'never' : 'perhaps it did';
  }

  return {
    declaration,

    async createTrade(account, trade, signal) {
      // The link's timestamp is the payment's creation time and not the current time, so that every call returns the
      // same link.
      if (trade.method !== 'precreate') {
        const url = await linkOf(account, pageOf(trade), Date.parse(trade.createdAt));
        return { action: { type: 'redirect', url } };
      }
      try {
        const value = await ask({
          account,
          ...{ operation: 'create', schema: codeSchema, signal },
          method: 'alipay.trade.precreate',
          content: termsOf(trade),
          addresses: { notify_url: trade.notifyUrl },
        });
        return { action: { type: 'qr', qr: ours(value, trade.outTradeNo).qr_code } };
      } catch (error) {
        if (PAST_PAYING.has(subCodeIn(error))) return 'not_renewable';
        throw error;
      }
    },

    queryTrade,

    async readTrade(account, reference, signal): Promise<FoundTrade> {
      const found = await read(account, { outTradeNo: reference }, signal);
      if (found === undefined) return { reference, answer: { state: 'unknown_trade' } };
      return {
        reference,
        terms: totalOf(found.total_amount, found.trans_currency),
        answer: tradeAnswer(found),
      };
    },

    async closeTrade(account, trade, signal) {
      try {
        const value = await ask({
          account,
          ...{ method: 'alipay.trade.close', operation: 'other', schema: closedSchema, signal },
          content: { out_trade_no: trade.outTradeNo },
        });
        ours(value, trade.outTradeNo);
        return { state: 'closed' };
      } catch (error) {
        const code = subCodeIn(error);
        if (code === UNKNOWN_TRADE) return { state: 'unknown_trade' };
        if (!NOT_OPEN.has(code)) throw error;
        return closeAnswer(await queryTrade(account, trade, signal), error);
      }
    },

    async refundTrade(account, trade, refund, signal) {
      const { outTradeNo } = trade;
      const { outRefundNo, amount } = refund;
      try {
        const value = await ask({
          account,
          ...{ method: 'alipay.trade.refund', operation: 'refund', schema: refundSchema, signal },
          content: { out_trade_no: outTradeNo, out_request_no: outRefundNo, refund_amount: toYuan(amount) },
        });
        // In Alipay's answer to a refund request, `refund_fee` is the sum of all refunds of the trade.
        if (ours(value, outTradeNo).fund_change === 'Y') {
          return { state: 'succeeded', channelRefundId: outRefundNo, amount };
        }
      } catch (error) {
        const code = subCodeIn(error);
        const isRejected = error instanceof ChannelError && error.kind === 'rejected';
        if (!isRejected && !NOT_REFUNDABLE.has(code) && code !== OTHER_AMOUNT) throw error;
        // Alipay may have refused because an earlier request used this refund number. So nodrop queries the refund.
        const found = await queryRefund(account, trade, refund, signal);
        if (found.state !== 'unknown_refund') return found;
        const may = NOT_REFUNDABLE.has(code)
          ? await mayRefund(account, trade, refund, signal)
          : 'perhaps later';
        if (may === 'perhaps it did') return { state: 'processing', channelRefundId: outRefundNo };
        if (may === 'never') {
          throw new ChannelError(
            'rejected',
            `${(error as Error).message}: the trade can no longer be refunded`,
          );
        }
        throw error;
      }
      // This refund request moved no money. Either an earlier request moved the money, or the refund is not decided
      // yet.
      const found = await queryRefund(account, trade, refund, signal);
      return found.state === 'unknown_refund' ? { state: 'processing', channelRefundId: outRefundNo } : found;
    },

    queryRefund,
    verifyCallback,
    acknowledge,
    peekOutTradeNo,

    async checkAccount(account, signal) {
      for (const credentials of account.credentials) checkKeys(credentials, new Date());
      try {
        const { result, date } = await send({
          account,
          ...{ method: 'alipay.trade.query', operation: 'other', signal },
          content: { out_trade_no: NO_TRADE },
        });
        if (result.code !== DONE && result.sub_code !== UNKNOWN_TRADE) throw classify(result, 'other');
        checkClock(date);
      } catch (error) {
        if (!(error instanceof UnsignedAnswer)) throw error;
        const says =
          "Alipay's answer is not signed with the Alipay key of this account: set alipay_public_key (or alipay_cert) to the one that the platform shows as Alipay's for this app_id.";
        throw new ChannelError('misconfigured', says, { cause: error });
      }
    },
  };
}

/**
 * Returns the answer if it is about the requested trade.
 * @throws ChannelError `garbage` if the answer is about another trade
 */
function ours<T extends { readonly out_trade_no: string }>(value: T, outTradeNo: string): T {
  if (value.out_trade_no === outTradeNo) return value;
  throw new ChannelError('garbage', `alipay answered with another trade than ${outTradeNo}`);
}

/**
 * The terms of a trade, built only from the payment's row. Alipay rejects `/`, `=` and `&` in a subject. These
 * characters would also make the signed text of a notification ambiguous.
 */
function termsOf({ outTradeNo, amount, subject, expiresAt }: NewTrade) {
  const plain = subject.replace(/[/=&\p{Cc}]/gu, ' ').trim();
  return {
    out_trade_no: outTradeNo,
    total_amount: toYuan(amount),
    subject: plain === '' ? outTradeNo : plain,
    // The expiry in whole seconds. It is rounded down, so that the trade never expires after the payment.
    time_expire: toBeijing(Date.parse(expiresAt)),
  };
}

const pageOf = (trade: NewTrade): AlipayRequest => ({
  ...(trade.method === 'wap'
    ? {
        method: 'alipay.trade.wap.pay',
        content: { ...termsOf(trade), product_code: 'QUICK_WAP_WAY', quit_url: trade.returnUrl },
      }
    : {
        method: 'alipay.trade.page.pay',
        content: { ...termsOf(trade), product_code: 'FAST_INSTANT_TRADE_PAY' },
      }),
  addresses: { notify_url: trade.notifyUrl, return_url: trade.returnUrl },
});

/**
 * Maps the state of a trade that Alipay refused to close.
 * @throws `refusal` if the trade is still unpaid, because then the trade is still open
 */
function closeAnswer({ state }: ChannelAnswer, refusal: unknown): CloseAnswer {
  switch (state) {
    case 'paid':
    case 'refunded':
      return { state: 'already_paid' };
    case 'closed':
    case 'failed':
      return { state: 'closed' };
    case 'processing':
    case 'unknown_trade':
      return { state };
    case 'unpaid':
      throw refusal;
  }
}

/** @throws ChannelError `misconfigured` if the clock of this machine is wrong, because then Alipay refuses requests */
function checkClock(date: string | null): void {
  const apart = Date.now() - Date.parse(date ?? '');
  if (Number.isNaN(apart) || Math.abs(apart) <= CLOCKS_APART_MS) return;
  const seconds = Math.round(Math.abs(apart) / 1000);
  throw new ChannelError(
    'misconfigured',
    `The clock of this machine is ${seconds} s ${apart > 0 ? 'ahead of' : 'behind'} that of Alipay: set it, or requests are refused.`,
  );
}
