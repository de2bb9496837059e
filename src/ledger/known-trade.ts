import { type ChannelAdapter, ChannelError, type Trade, type TradeReference } from '../domain/channel.ts';
import { isConstraintViolation, type LedgerClient } from './client.ts';
import { recordReference } from './payments.ts';
import type { Payment } from './rows.ts';
import { accountOf, tradeOf } from './trade-of-payment.ts';

/**
 * The payment's trade in the form that calls to the channel need. If the channel must be called with its own id and
 * that id is not stored, the trade is searched for first, and its id is stored. The function creates nothing at the
 * channel.
 * @returns `absent` if a complete listing does not contain the trade. A query or a close then treats the trade as
 *   unknown.
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
 * Like `knownTrade`, but for a payment with a refund, because refund calls need an existing trade.
 * @throws ChannelError also if a complete listing does not contain the trade, because that says nothing about the
 *   refund
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

/** Rejects a reference that another payment already has. @throws ChannelError `garbage` */
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
