import { cancellationSignal } from '@temporalio/activity';
import { type ChannelAdapter, ChannelError, type Trade, type TradeReference } from '../domain/channel.ts';
import { isConstraintViolation } from '../ledger/client.ts';
import { recordReference } from '../ledger/payments.ts';
import type { Payment } from '../ledger/rows.ts';
import { accountOf, tradeOf } from '../ledger/trade.ts';
import type { ActivityDeps } from './deps.ts';

/**
 * The payment's trade as the channel can be asked about it. One that is asked by the channel's own id, which is not on
 * record, is looked for first; what is found is written down. Nothing is created.
 * @returns `absent` when a complete listing does not have it: to a query or a close an unknown trade
 * @throws ChannelError
 */
export async function knownTrade(
  { db, now }: Pick<ActivityDeps, 'db' | 'now'>,
  adapter: ChannelAdapter,
  payment: Payment,
): Promise<Trade | 'absent'> {
  const trade = tradeOf(payment);
  if (trade.reference !== null || adapter.findTrade === undefined) return trade;
  const found = await adapter.findTrade(accountOf(payment), trade, cancellationSignal());
  if (found === 'absent') return 'absent';
  const reference: TradeReference = await ofThisPayment(payment, async () =>
    recordReference(db, payment.id, found, await now()),
  );
  return { ...trade, reference };
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
