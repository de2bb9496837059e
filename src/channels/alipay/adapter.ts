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

/** How far the clocks may be apart before `checkAccount` says so. */
const CLOCKS_APART_MS = 5 * 60_000;
/** Within Alipay's rules for a number, and none that a payment of ours has. */
const NO_TRADE = 'nodrop_check_account';

const UNKNOWN_TRADE = 'ACQ.TRADE_NOT_EXIST';
/** The trade is there, and takes no payer any more. */
const PAST_PAYING: ReadonlySet<string> = new Set(['ACQ.TRADE_HAS_SUCCESS', 'ACQ.TRADE_HAS_CLOSE']);
/** A close of what is not waiting for its payer: what it is instead, a query tells. */
const NOT_OPEN: ReadonlySet<string> = new Set([
  'ACQ.TRADE_STATUS_ERROR',
  'ACQ.REASON_TRADE_STATUS_INVALID',
  'ACQ.REASON_ILLEGAL_STATUS',
  'ACQ.TRADE_HAS_SUCCESS',
  'ACQ.TRADE_HAS_CLOSE',
]);
/** A refund of what gives nothing back in its state, which for some states is for good. */
const NOT_REFUNDABLE: ReadonlySet<string> = new Set([
  'ACQ.TRADE_STATUS_ERROR',
  'ACQ.TRADE_HAS_CLOSE',
  'ACQ.TRADE_HAS_FINISHED',
]);
/** The refund that has the number is of another amount. */
const OTHER_AMOUNT = 'ACQ.DISCORDANT_REPEAT_REQUEST';

const subCodeIn = (error: unknown): string => refusalIn(error)?.sub_code ?? '';

/** Alipay by its library, which signs and verifies: pages for desktops and phones, and codes to scan. */
export function createAlipayAdapter(): ChannelAdapter {
  /** The trade at Alipay; undefined when there is none. */
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
   * Of a trade that gives nothing back in its state, and a refund that no query knows: `never` when the time for refunds is
   * over, or all of the money has gone back by others. `perhaps it did` when all has gone back and this one may be part of
   * it: a query shows a refund up to 10 s late (the page of the refund query), and an earlier request may have timed out.
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
      // The link is the same one whenever it is made: it is of the payment's time and not of this moment.
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
        // Its `refund_fee` is the sum of all refunds of the trade.
        if (ours(value, outTradeNo).fund_change === 'Y') {
          return { state: 'succeeded', channelRefundId: outRefundNo, amount };
        }
      } catch (error) {
        const code = subCodeIn(error);
        const isRejected = error instanceof ChannelError && error.kind === 'rejected';
        if (!isRejected && !NOT_REFUNDABLE.has(code) && code !== OTHER_AMOUNT) throw error;
        // It can be about the refund that has our number.
        const found = await queryRefund(account, trade, refund, signal);
        if (found.state !== 'unknown_refund') return found;
        const may = NOT_REFUNDABLE.has(code)
          ? await mayRefund(account, trade, refund, signal)
          : 'perhaps later';
        if (may === 'perhaps it did') return { state: 'processing', channelRefundId: outRefundNo };
        if (may === 'never') {
          throw new ChannelError(
            'rejected',
            `${(error as Error).message}: the trade gives nothing back any more`,
          );
        }
        throw error;
      }
      // Nothing moved now: it had before, or will.
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
          "Alipay answers, and not with the key that the account has of it: set alipay_public_key (or alipay_cert) to what the platform shows as Alipay's for this app_id.";
        throw new ChannelError('misconfigured', says, { cause: error });
      }
    },
  };
}

/** The answer, if it is about the trade that was asked about. @throws ChannelError `garbage` */
function ours<T extends { readonly out_trade_no: string }>(value: T, outTradeNo: string): T {
  if (value.out_trade_no === outTradeNo) return value;
  throw new ChannelError('garbage', `alipay gave another trade than ${outTradeNo}`);
}

/**
 * What a trade is made of, from the payment's row alone. Alipay takes none of `/`, `=` and `&` in a subject, with which a
 * notification could also be read in two ways.
 */
function termsOf({ outTradeNo, amount, subject, expiresAt }: NewTrade) {
  const plain = subject.replace(/[/=&\p{Cc}]/gu, ' ').trim();
  return {
    out_trade_no: outTradeNo,
    total_amount: toYuan(amount),
    subject: plain === '' ? outTradeNo : plain,
    // Whole seconds, and none that the payment has not.
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

/** @throws ChannelError `refusal` when it is still to be paid: then it was not closed, and nothing else either */
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

/** Alipay refuses requests by their time. */
function checkClock(date: string | null): void {
  const apart = Date.now() - Date.parse(date ?? '');
  if (Number.isNaN(apart) || Math.abs(apart) <= CLOCKS_APART_MS) return;
  const seconds = Math.round(Math.abs(apart) / 1000);
  throw new ChannelError(
    'misconfigured',
    `The clock of this machine is ${seconds} s ${apart > 0 ? 'ahead of' : 'behind'} that of Alipay: set it, or requests are refused.`,
  );
}
