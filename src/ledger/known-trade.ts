import { type ChannelAdapter, ChannelError, type Trade, type TradeReference } from '../domain/channel.ts';
import { isConstraintViolation, type LedgerClient } from './client.ts';
import { recordReference } from './payments.ts';
import type { Payment } from './rows.ts';
import { accountOf, tradeOf } from './trade-of-payment.ts';

/**
 * Returns the payment's trade in the form that calls to the channel need. Some channels must be called with their own
 * id of the trade. If that id is not stored yet, the function searches for the trade at the channel and stores the id.
 * It creates nothing at the channel.
 * @returns `absent` if a complete listing of the channel does not contain the trade. A query or a close then treats the
 *   trade as unknown.
 * @throws ChannelError
 */
export async function knownTrade(
  { db, now }: { readonly db: LedgerClient; readonly now: () => Promise<Date> },
  adapter: ChannelAdapter,
  payment: Payment,
  signal: AbortSignal,
): Promise<Trade | 'absent'> {
  const trade = tradeOf(payment);
  if (trade.reference !== null || adapter.findTrade === undefined) return trade;
  const found = await adapter.findTrade(accountOf(payment), trade, signal);
  if (found === 'absent') return 'absent';
  const reference: TradeReference = await ofThisPayment(payment, async () =>
    recordReference(db, payment.id, found, await now()),
  );
  return { ...trade, reference };
}

/**
 * Returns the trade like `knownTrade`, for a refund of the payment. Refund calls need an existing trade.
 * @throws ChannelError, also if a complete listing does not contain the trade. Such a listing says nothing about the
 *   refund.
 */
export async function tradeOfRefund(...given: Parameters<typeof knownTrade>): Promise<Trade> {
  const trade = await knownTrade(...given);
  if (trade !== 'absent') return trade;
  const [, , { id, channel }] = given;
  throw new ChannelError(
    'unreachable',
    `${channel} does not list the trade of payment ${id}, which was paid`,
  );
}

/**
 * Runs `write`, which stores the channel's id of a trade. If another payment already has that id, the channel's answer
 * is rejected. @throws ChannelError `garbage`
 */
export async function ofThisPayment<T>({ channel, id }: Payment, write: () => Promise<T>): Promise<T> {
  try {
    return await write();
  } catch (cause) {
    if (!isConstraintViolation(cause)) throw cause;
    throw new ChannelError('garbage', `${channel} answered for ${id} with another payment's trade`, {
      cause,
    });
  }
}
