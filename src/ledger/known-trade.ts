import { type ChannelAdapter, ChannelError, type Trade, type TradeReference } from '../domain/channel.ts';
import { isConstraintViolation, type LedgerClient } from './client.ts';
import { recordReference } from './payments.ts';
import type { Payment } from './rows.ts';
import { accountOf, tradeOf } from './trade-of-payment.ts';

/**
 * The payment's trade as the channel can be asked about it. One that is asked by the channel's own id, which is not on
 * record, is looked for first; what is found is written down. Nothing is created.
 * @returns `absent` when a complete listing does not have it: to a query or a close an unknown trade
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
 * The same, of a payment whose refund the channel is asked for or about: that needs the trade.
 * @throws ChannelError also when a complete listing does not have it, which says nothing of the refund
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

/** A reference that is another payment's is none of this one's. @throws ChannelError `garbage` */
export async function ofThisPayment<T>({ channel, id }: Payment, write: () => Promise<T>): Promise<T> {
  try {
    return await write();
  } catch (cause) {
    if (!isConstraintViolation(cause)) throw cause;
    throw new ChannelError('garbage', `${channel} names another payment's trade for ${id}`, { cause });
  }
}
