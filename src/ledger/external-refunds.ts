import { isFree } from '../domain/attention.ts';
import type { ChannelRefund } from '../domain/channel.ts';
import { externalRefundId } from '../domain/ids.ts';
import { amountText, smaller } from '../domain/money.ts';
import { isRefundVoid } from '../domain/states.ts';
import type { LedgerTx } from './client.ts';
import { cleared, type Locked, raised, update } from './order-lock.ts';
import { moneyWentBack, showOtherAmount } from './refund-trouble.ts';
import type { Payment, Refund } from './rows.ts';
import { note } from './timeline.ts';

/**
 * This file records refunds that were made at the channel and not through nodrop. The rules for changes of refunds are
 * described in refunds.ts.
 */

const EXTERNAL = 'at the channel, not through nodrop';

/** What the channel reports about a refund that was made at the channel and not through nodrop. */
export interface External {
  /** Minor units. */
  readonly amount: bigint;
  readonly state: ChannelRefund['state'];
  /** The channel's id of the refund. It is absent if the channel does not list refunds. */
  readonly channelRefundId?: string;
}

/** Records an external refund that is not recorded yet. The merchant gets an event only if the refund has succeeded. */
export async function insertExternal(locked: Locked, external: External, now: Date): Promise<Payment> {
  const { tx, payment } = locked;
  const { amount, state, channelRefundId } = external;
  const currency = payment.receivedCurrency ?? payment.currency;
  const nth = 1 + (await tx.refund.count({ where: { paymentId: payment.id, reason: 'external' } }));
  const refund = await tx.refund.create({
    data: {
      id: externalRefundId(payment.id, nth),
      merchantId: payment.merchantId,
      paymentId: payment.id,
      amount,
      currency,
      reason: 'external',
      status: state === 'succeeded' ? 'processing' : state,
      channelRefundId: channelRefundId ?? null,
      createdAt: now,
      ...(isRefundVoid(state as Refund['status']) ? { settledAt: now, failure: saysOf(state) } : {}),
    },
  });
  if (state === 'succeeded') return await externalSucceeded(locked, refund, amount, now);
  const said = `A refund of ${amountText(amount, currency)} was made ${EXTERNAL}. ${saysOf(state)}`;
  await note(tx, payment.id, 'refund', said, now, { refundId: refund.id, status: state });
  return payment;
}

export const saysOf = (state: ChannelRefund['state']): string => `The channel lists it as ${state}.`;

/**
 * Records that an external refund has given back `given`, in minor units. If this is more than the received money that
 * is not refunded yet, only that money is recorded.
 */
export async function externalSucceeded(
  locked: Locked,
  { id, currency }: Refund,
  given: bigint,
  now: Date,
): Promise<Payment> {
  const { tx, payment, newEvents } = locked;
  const amount = smaller(given, (payment.receivedAmount ?? 0n) - payment.refundedAmount);
  const isAll = amount === given;
  await tx.refund.update({
    where: { id },
    data: { status: 'succeeded', settledAt: now, ...(isAll ? {} : { amount, askedAmount: given }) },
  });
  const said = `${amountText(given, currency)} was refunded ${EXTERNAL}`;
  const capped = isAll
    ? ''
    : `; only ${amountText(amount, currency)} is recorded, because no more was received`;
  await note(tx, payment.id, 'refund', `${said}${capped}.`, now, { refundId: id });
  newEvents.push({ type: 'refund.succeeded', refundId: id });
  const after = await moneyWentBack(locked, amount, now);
  if (!isAll) return await showOtherAmount(tx, after, `${said}${capped}`, now);
  return after.orderUpdate === 'applied' ? await showReversed(tx, after, now) : after;
}

/**
 * Raises the attention `channel_reversed` for a payment that was refunded at the channel after it had paid its order.
 * If the payment has another attention, that attention stays.
 */
export async function showReversed(tx: LedgerTx, payment: Payment, now: Date): Promise<Payment> {
  if (!isFree(payment.attention)) return payment;
  const { _sum } = await tx.refund.aggregate({
    where: { paymentId: payment.id, reason: 'external', status: 'succeeded' },
    _sum: { amount: true },
  });
  if (_sum.amount === null) return payment;
  const currency = payment.receivedCurrency ?? payment.currency;
  const said = `${amountText(_sum.amount, currency)} was refunded ${EXTERNAL}`;
  await note(tx, payment.id, 'attention', `channel_reversed: ${said}.`, now);
  return await update(
    tx,
    payment.id,
    raised('channel_reversed', `${said}; the payment had paid its order.`, now),
  );
}

/**
 * Called when refunds were wrongly recorded as external, because nodrop had inferred them from a sum or a list. Marks
 * these refunds as failed.
 * @param why a sentence such as `It was refund re_...`
 * @returns the payment, and as `freed` the sum of the refunds that had been recorded as succeeded
 */
export async function failExternals(
  { tx, payment, newEvents }: Locked,
  externals: readonly Refund[],
  why: string,
  now: Date,
): Promise<{ payment: Payment; freed: bigint }> {
  let freed = 0n;
  for (const { id, amount, currency, status } of externals) {
    await tx.refund.update({ where: { id }, data: { status: 'failed', failure: why } });
    const said = `Refund ${id} of ${amountText(amount, currency)} was recorded by mistake. ${why}`;
    await note(tx, payment.id, 'refund', said, now, { refundId: id, status: 'failed' });
    if (status !== 'succeeded') continue;
    freed += amount;
    newEvents.push({ type: 'refund.failed', refundId: id });
  }
  if (freed === 0n) return { payment, freed };
  const corrected = await update(tx, payment.id, {
    refundedAmount: { decrement: freed },
    ...cleared(payment, 'reversal_explained'),
  });
  return { payment: corrected, freed };
}

export const wasRefund = (refundId: string): string => `It was refund ${refundId}.`;

/**
 * Called when the channel has reported its own id for a refund that nodrop made. If an external refund with this id is
 * on record, it is the same refund. The external record is then marked as failed. Returns null if no external refund
 * has this id.
 */
export async function claimExternal(
  locked: Locked,
  refund: Refund,
  channelRefundId: string | undefined,
  now: Date,
): Promise<Payment | null> {
  if (channelRefundId === undefined) return null;
  const { tx, payment } = locked;
  const externals = await tx.refund.findMany({
    where: {
      paymentId: payment.id,
      reason: 'external',
      channelRefundId,
      status: { in: ['processing', 'succeeded'] },
    },
  });
  if (externals.length === 0) return null;
  const claimed = await failExternals(locked, externals, wasRefund(refund.id), now);
  return payment.attention === 'channel_reversed'
    ? await showReversed(tx, claimed.payment, now)
    : claimed.payment;
}
