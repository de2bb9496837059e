import { isMoney } from '../domain/answer.ts';
import { isFree } from '../domain/attention.ts';
import type { ChannelAnswer, ChannelDispute } from '../domain/channel.ts';
import { describeDispute, disputesOf, type KeptDispute, withDispute } from '../domain/dispute.ts';
import { disputeRefundId } from '../domain/ids.ts';
import { amountText, type CurrencyCode, smaller } from '../domain/money.ts';
import { json, type LedgerClient, type LedgerTx } from './client.ts';
import {
  cleared,
  hidden,
  type Locked,
  nextShown,
  raised,
  raisedUnlessDisputed,
  underOrderLock,
  update,
} from './order-lock.ts';
import { moneyWentBack, reviewAttention } from './refund-trouble.ts';
import { promised } from './refunds.ts';
import { isOfAllThatIsLeft } from './replacement.ts';
import type { Payment, Refund } from './rows.ts';
import { note } from './timeline.ts';

/**
 * This file records payers' disputes. A column of the payment's row stores them, so a change of the payment's attention
 * does not affect them.
 */

/**
 * Records what a verified callback reports about a dispute. A repeated callback has no effect.
 * @returns the payment, and whether the channel must be queried. A query is needed if the payment is not settled yet,
 *   or if the callback contradicts a decided dispute.
 */
export async function recordDisputeOfCallback(
  db: LedgerClient,
  paymentId: string,
  said: ChannelDispute,
  now: Date,
): Promise<{ payment: Payment; isToBeAsked: boolean }> {
  return await underOrderLock(db, paymentId, now, async (locked) => {
    const { news } = withDispute(disputesOf(locked.payment), said, 'callback', now);
    const payment = await recordDispute(locked, said, 'callback', now);
    return { payment, isToBeAsked: news === 'contradiction' || payment.status !== 'succeeded' };
  });
}

/** Records the disputes that an answer to a query reports. */
export async function recordDisputes(locked: Locked, answer: ChannelAnswer, now: Date): Promise<Payment> {
  let { payment } = locked;
  for (const said of isMoney(answer) ? (answer.disputes ?? []) : [])
    payment = await recordDispute({ ...locked, payment }, said, 'query', now);
  return payment;
}

/**
 * Records the channel's report about a dispute, whatever the payment's status. While a dispute is open, the payment has
 * the attention `disputed`. When no dispute is open, the attention that `disputed` has hidden is raised again. The
 * amount of a lost dispute is recorded as given back to the payer.
 */
export async function recordDispute(
  locked: Locked,
  said: ChannelDispute,
  by: 'callback' | 'query',
  now: Date,
): Promise<Payment> {
  const { tx, payment } = locked;
  const changed = withDispute(disputesOf(payment), said, by, now);
  if (changed.news !== 'new') return payment;
  const { disputes } = changed;
  await note(tx, payment.id, 'channel', describeDispute(said), now, {
    disputeId: said.id,
    state: said.state,
    by,
  });
  const recorded = await update(tx, payment.id, {
    disputes: json(disputes),
    ...(disputes.some(({ state }) => state === 'open') ? shown(payment, disputes, now) : {}),
  });
  const given = await takeBackLosses({ ...locked, payment: recorded }, disputes, now);
  return await showDecided(
    { ...locked, payment: await recordLosses({ ...locked, payment: given }, now) },
    disputes,
    now,
  );
}

/**
 * Raises the attention `disputed` for the open disputes. This attention replaces any other attention of the payment.
 */
function shown(payment: Payment, disputes: readonly KeptDispute[], now: Date) {
  const detail = disputes
    .filter(({ state }) => state === 'open')
    .map(describeDispute)
    .join(' ');
  if (payment.attention === 'disputed') return { attentionDetail: detail };
  return {
    ...raised('disputed', detail, now),
    // The replaced attention is stored as hidden, unless another attention is stored as hidden already.
    // `channel_misconfigured` need not be stored, because the next call to the channel raises it again.
    ...(isFree(payment.attention) || payment.hiddenAttention !== null ? {} : hidden(payment)),
  };
}

/**
 * Called after every dispute of a payment is decided. The hidden attention is raised again. If a lost dispute took
 * money, an attention can be raised for that money.
 */
async function showDecided(
  { tx, payment }: Locked,
  disputes: readonly KeptDispute[],
  now: Date,
): Promise<Payment> {
  if (disputes.some(({ state }) => state === 'open')) return payment;
  const foreign = disputes.find((dispute) => isLostOtherwise(payment, dispute));
  if (foreign !== undefined) {
    const detail = `${describeDispute(foreign)} It is in another currency than the received money, so the loss is not recorded as a refund.`;
    return await update(tx, payment.id, shownAs(payment, detail, now));
  }
  const decided =
    payment.attention === 'disputed' ? await update(tx, payment.id, nextShown(payment)) : payment;
  if (payment.attention === 'disputed') await note(tx, payment.id, 'attention', 'disputed was cleared.', now);
  return await reviewAttention(tx, await showLosses({ tx, payment: decided }, disputes, now), now);
}

const shownAs = (payment: Payment, detail: string, now: Date) =>
  payment.attention === 'disputed' ? { attentionDetail: detail } : raised('disputed', detail, now);

async function showLosses(
  { tx, payment }: Pick<Locked, 'tx' | 'payment'>,
  disputes: readonly KeptDispute[],
  now: Date,
): Promise<Payment> {
  const lost = disputes.filter(({ state }) => state === 'lost');
  if (lost.length === 0 || payment.orderUpdate !== 'applied' || !isFree(payment.attention)) return payment;
  const detail = `${lost.map(describeDispute).join(' ')} The payment had paid its order.`;
  await note(tx, payment.id, 'attention', `channel_reversed: ${detail}`, now);
  return await update(tx, payment.id, raised('channel_reversed', detail, now));
}

const isLost = ({ receivedCurrency }: Payment, { state, currency }: KeptDispute): boolean =>
  state === 'lost' && currency === receivedCurrency;

const isLostOtherwise = ({ receivedCurrency }: Payment, { state, currency }: KeptDispute): boolean =>
  state === 'lost' && receivedCurrency !== null && currency !== receivedCurrency;

/**
 * True if a dispute of the payment is lost. The transaction that settles the payment must then also record the loss.
 */
export const hasLosses = (payment: Payment): boolean =>
  disputesOf(payment).some(({ state }) => state === 'lost');

/** The sum of the payment's lost disputes in this currency, in minor units. */
export const lossesOf = (payment: Payment, currency: CurrencyCode): number =>
  disputesOf(payment).reduce(
    (sum, dispute) =>
      dispute.state === 'lost' && dispute.currency === currency ? sum + dispute.amount : sum,
    0,
  );

/**
 * Records the amounts of lost disputes as given back, because the payer keeps that money and nodrop must not refund it
 * again. Each dispute is recorded once. The recorded sum is at most the received amount. A loss replaces a refund that
 * nodrop has not requested from the channel yet. Refunds that nodrop has requested take precedence over losses.
 * Therefore call this function again if a requested refund fails. The losses of an unsettled payment are recorded when
 * the payment is settled.
 */
export async function recordLosses(locked: Locked, now: Date): Promise<Payment> {
  let { payment } = locked;
  for (const dispute of disputesOf(payment).filter((one) => isLost(payment, one)))
    payment = await recordLoss({ ...locked, payment }, dispute, now);
  return payment;
}

/** The part of a lost dispute's amount that is not recorded as given back yet, in minor units. */
async function unrecorded(
  db: LedgerClient | LedgerTx,
  paymentId: string,
  { id, amount }: KeptDispute,
): Promise<bigint> {
  const known = await db.refund.aggregate({
    where: { paymentId, reason: 'dispute', channelRefundId: id, status: 'succeeded' },
    _sum: { amount: true },
  });
  return BigInt(amount) - (known._sum.amount ?? 0n);
}

/**
 * True if a lost dispute's amount is not fully recorded yet, because refunds have reserved the money. The channel then
 * has too little money left for all refunds.
 */
export async function losesMore(db: LedgerClient | LedgerTx, payment: Payment): Promise<boolean> {
  if (payment.refundedAmount >= (payment.receivedAmount ?? 0n)) return false;
  for (const dispute of disputesOf(payment).filter((one) => isLost(payment, one)))
    if ((await unrecorded(db, payment.id, dispute)) > 0n) return true;
  return false;
}

async function recordLoss(locked: Locked, dispute: KeptDispute, now: Date): Promise<Payment> {
  const { tx, payment, newEvents } = locked;
  const of = { paymentId: payment.id, reason: 'dispute' } as const;
  const wanted = await unrecorded(tx, payment.id, dispute);
  const received = payment.receivedAmount ?? 0n;
  if (wanted <= 0n) return payment;
  await makeRoom(locked, wanted - (received - (await promised(tx, payment.id))), now);
  const amount = smaller(wanted, received - (await promised(tx, payment.id)));
  if (amount <= 0n) return payment;
  const nth = 1 + (await tx.refund.count({ where: of }));
  const id = disputeRefundId(payment.id, nth);
  const { currency } = dispute;
  await tx.refund.create({
    data: {
      ...of,
      ...{ id, amount, currency, merchantId: payment.merchantId, channelRefundId: dispute.id },
      status: 'succeeded',
      createdAt: now,
      settledAt: now,
    },
  });
  const said = `${amountText(amount, currency)} went back to the payer: dispute ${dispute.id} is lost.`;
  await note(tx, payment.id, 'refund', said, now, { refundId: id });
  newEvents.push({ type: 'refund.succeeded', refundId: id });
  return await moneyWentBack(locked, amount, now);
}

/**
 * Frees money for a lost dispute by changing refunds that nodrop has not requested from the channel yet. A refund of
 * all remaining money is lowered, or ended if nothing of it would be left. Any other refund is ended.
 */
async function makeRoom({ tx, payment, newEvents }: Locked, missing: bigint, now: Date): Promise<void> {
  if (missing <= 0n) return;
  const waiting: Refund[] = await tx.refund.findMany({
    where: { paymentId: payment.id, status: 'created', askedAt: null },
    orderBy: [{ createdAt: 'desc' }, { id: 'desc' }],
  });
  let left = missing;
  for (const refund of waiting) {
    if (left <= 0n) return;
    const { id, amount, currency } = refund;
    if (amount > left && (await isOfAllThatIsLeft(tx, refund))) {
      await tx.refund.update({ where: { id }, data: { amount: amount - left } });
      const detail = `Refund ${id} was lowered by ${amountText(left, currency)}, which a lost dispute has taken.`;
      await note(tx, payment.id, 'refund', detail, now, { refundId: id });
      return;
    }
    left -= amount;
    const failure = 'The payer got the money through a dispute: the channel was not asked for this refund.';
    await tx.refund.update({ where: { id }, data: { status: 'failed', failure, settledAt: now } });
    const said = `Refund ${id} of ${amountText(amount, currency)} failed: ${failure}`;
    await note(tx, payment.id, 'refund', said, now, { refundId: id, status: 'failed' });
    newEvents.push({ type: 'refund.failed', refundId: id });
  }
}

/**
 * Called after the channel has reversed its decision about a dispute. The amount that the dispute had taken belongs to
 * the merchant again.
 */
async function takeBackLosses(
  { tx, payment, newEvents }: Locked,
  disputes: readonly KeptDispute[],
  now: Date,
): Promise<Payment> {
  const not = disputes.filter(({ state }) => state !== 'lost').map(({ id }) => id);
  const taken = await tx.refund.findMany({
    where: {
      paymentId: payment.id,
      reason: 'dispute',
      status: 'succeeded',
      channelRefundId: { in: not },
    },
  });
  if (taken.length === 0) return payment;
  let sum = 0n;
  for (const { id, amount, currency, channelRefundId } of taken) {
    sum += amount;
    const failure = `Dispute ${channelRefundId} is no longer lost.`;
    await tx.refund.update({ where: { id }, data: { status: 'failed', failure } });
    const said = `Refund ${id} of ${amountText(amount, currency)}: ${failure}`;
    await note(tx, payment.id, 'refund', said, now, { refundId: id, status: 'failed' });
    newEvents.push({ type: 'refund.failed', refundId: id });
  }
  const isUntaken = payment.orderUpdate === 'conflict';
  const detail = `${amountText(sum, payment.receivedCurrency ?? payment.currency)} that lost disputes had taken is back, and it pays no order.`;
  if (isUntaken) await note(tx, payment.id, 'attention', `order_conflict: ${detail}`, now);
  return await update(tx, payment.id, {
    refundedAmount: { decrement: sum },
    ...(isUntaken
      ? raisedUnlessDisputed(payment, 'order_conflict', detail, now)
      : cleared(payment, 'reversal_explained')),
  });
}
