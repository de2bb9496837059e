import { ChannelError } from '../../domain/channel.ts';
import { fromDecimal, toDecimal } from '../../domain/money.ts';

/**
 * Alipay writes amounts as decimal strings in yuan, but nodrop stores fen. The conversion uses no floating-point
 * numbers.
 */

export const CURRENCY = 'CNY';

/**
 * Alipay accepts a `total_amount` from 0.01 to 100000000 yuan:
 * https://docs.open.alipay.com/api_1/alipay.trade.page.pay.
 */
export const AMOUNT_LIMITS = { atLeast: 1, atMost: 10_000_000_000 } as const;

/** Formats fen as yuan: 1050 becomes `10.50`. */
export const toYuan = (amount: number): string => toDecimal(amount, CURRENCY);

const NOTHING = /^0+(\.0+)?$/;

/** Converts yuan to fen and accepts 0. @throws ChannelError `garbage` */
export function fenOrNothing(yuan: string): number {
  return NOTHING.test(yuan) ? 0 : fen(yuan);
}

/** Converts yuan to fen and rejects 0. @throws ChannelError `garbage` */
export function fen(yuan: string): number {
  try {
    return fromDecimal(yuan, CURRENCY);
  } catch (cause) {
    throw new ChannelError('garbage', 'alipay answered with an invalid amount', { cause });
  }
}
