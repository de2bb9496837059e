import type { ChannelRefund } from '../domain/channel.ts';
import { attemptOf, refundIdOf } from '../domain/ids.ts';
import { QUERIES_TAKE_AT_MOST_MS } from '../domain/refund.ts';
import { isOfOthers, isRefundOpen } from '../domain/states.ts';
import { recordLosses } from './disputes.ts';
import {
  claimExternal,
  externalSucceeded,
  failExternals,
  insertExternal,
  saysOf,
  showReversed,
} from './external-refunds.ts';
import type { Locked } from './order-lock.ts';
import { oweRefund, reasonOwed } from './refunds.ts';
import { oweExplainedLate } from './replacement.ts';
import { recordReversal } from './reversed-refunds.ts';
import type { Payment, Refund } from './rows.ts';

/**
 * The refunds of a trade as its channel lists them, each with its own id. Unlike a sum, a list shows which refunds
 * nodrop made, so the list is exact even while the channel processes one of nodrop's refunds. Lists can arrive late,
 * twice, and in any order. Therefore a refund that has failed or was reversed keeps that state.
 */

const isVoid = ({ state }: ChannelRefund): boolean => state === 'failed' || state === 'reversed';

/**
 * The changes of a refund's row when the channel has the refund under this number. If the number belongs to an earlier
 * attempt's key, further queries use that key, and the key counts as unspent. The number is undefined if the channel
 * did not report it.
 */
export const underNumber = (outRefundNo: string | undefined) =>
  outRefundNo === undefined ? {} : { attempt: attemptOf(outRefundNo), keySpentAt: null, absentAt: null };

/**
 * True if the listed refund is this refund of nodrop. The channel's ids are compared, or nodrop's numbers while the
 * channel's id is unknown.
 */
export function isListedAs(row: Refund, { id, outRefundNo }: ChannelRefund): boolean {
  if (isOfOthers(row.reason)) return false;
  if (row.channelRefundId === id) return true;
  // A repeated request can give one number several ids at the channel.
  const goesByNumber = row.channelRefundId === null || isRefundOpen(row.status);
  return goesByNumber && outRefundNo !== undefined && refundIdOf(outRefundNo) === row.id;
}

/**
 * Records a complete list of refunds. For a refund of nodrop, it records the channel's id and a failure after success.
 * For any other refund, it records the refund itself once, and its later states.
 * @param given.isOld true if the list was stored for a while, as part of a callback, and may be out of date. Nothing
 *   that may have changed since is concluded from such a list.
 * @param given.isExplained the caller itself looks for refused refunds that this list explains
 */
export async function recordListed(
  locked: Locked,
  list: readonly ChannelRefund[],
  given: { readonly isOld: boolean; readonly isExplained: boolean },
  now: Date,
): Promise<Payment> {
  const { tx, order } = locked;
  const { id: paymentId } = locked.payment;
  let payment = locked.payment;
  const at = () => ({ ...locked, payment });
  const rows = await tx.refund.findMany({ where: { paymentId }, orderBy: { id: 'asc' } });
  const ours = rows.filter(({ reason }) => !isOfOthers(reason));
  const externals = rows.filter(({ reason }) => reason === 'external');
  // Failed and reversed refunds come first, because they free amounts for the other refunds.
  const listed = [...list].sort((a, b) => Number(isVoid(b)) - Number(isVoid(a)) || (a.id < b.id ? -1 : 1));
  const isSince = ({ settledAt }: Refund) =>
    !given.isOld && settledAt !== null && now.getTime() - settledAt.getTime() >= QUERIES_TAKE_AT_MOST_MS;
  /**
   * If the list shows a refund as failed that is recorded as succeeded, the failure is new, unless the list may be
   * older than the record.
   */
  const isReversal = (row: Refund, { state }: ChannelRefund) =>
    row.status === 'succeeded' && (state === 'reversed' || (state === 'failed' && isSince(row)));

  const others: ChannelRefund[] = [];
  for (const entry of listed) {
    const row = ours.find((row) => row.status !== 'failed' && isListedAs(row, entry));
    if (row === undefined) {
      // A list may still show the former state of a refund that the channel has refused, or leave the refund out.
      const isRefused = ours.some((row) => isListedAs(row, entry));
      if (!isRefused || (entry.state === 'succeeded' && !given.isOld)) others.push(entry);
      continue;
    }
    // Lock order: the refund's row before the payment's.
    if (isRefundOpen(row.status) && row.channelRefundId === null && !isVoid(entry))
      await tx.refund.update({
        where: { id: row.id },
        data: { channelRefundId: entry.id, ...underNumber(entry.outRefundNo) },
      });
    payment = (await claimExternal(at(), row, entry.id, now)) ?? payment;
    if (isReversal(row, entry)) payment = await recordReversal(at(), row, saysOf(entry.state), now);
  }

  // A refund that was inferred from a sum is either one of the listed refunds, or was recorded by mistake.
  const bySum = externals.filter((row) => row.channelRefundId === null && row.status === 'succeeded');
  const adopted = new Map<string, Refund>();
  for (const entry of others) {
    if (externals.some((row) => row.channelRefundId === entry.id)) continue;
    const same = bySum.find(
      (row) => entry.state === 'succeeded' && row.amount === BigInt(entry.amount) && !isIn(adopted, row),
    );
    if (same === undefined) continue;
    adopted.set(entry.id, same);
    await tx.refund.update({ where: { id: same.id }, data: { channelRefundId: entry.id } });
  }
  const unlisted = bySum.filter((row) => !isIn(adopted, row));
  if (unlisted.length > 0 && !given.isOld)
    ({ payment } = await failExternals(at(), unlisted, "It is not in the channel's list.", now));

  let [isMore, isFreed] = [false, false];
  for (const entry of others) {
    const amount = BigInt(entry.amount);
    const row = adopted.get(entry.id) ?? externals.find((row) => row.channelRefundId === entry.id);
    if (row === undefined) {
      // The entry may be part of a sum that is already recorded.
      if (given.isOld && unlisted.length > 0) continue;
      const { id: channelRefundId, state } = entry;
      payment = await insertExternal(at(), { amount, state, channelRefundId }, now);
      isMore ||= !isVoid(entry);
    } else if (isReversal(row, entry)) {
      payment = await recordReversal(at(), row, saysOf(entry.state), now);
    } else if (row.status === 'processing' && entry.state === 'succeeded') {
      payment = await externalSucceeded(at(), row, amount, now);
    } else if (row.status === 'processing' && isVoid(entry)) {
      const { state } = entry as { state: 'failed' | 'reversed' };
      const data = { status: state, failure: saysOf(state), settledAt: now };
      await tx.refund.update({ where: { id: row.id }, data });
      isFreed = true;
    }
  }
  // Amounts of lost disputes that other refunds left no room for may be recorded now.
  payment = await recordLosses(at(), now);
  if (unlisted.length > 0 && payment.attention === null && payment.orderUpdate === 'applied')
    payment = await showReversed(tx, payment, now);
  // A due refund may have been held back because the channel processed refunds that nodrop did not request.
  const isOwed = payment.orderUpdate === 'conflict' && order.recoveredAt === null;
  if (isFreed && isOwed && payment.attention !== 'disputed')
    await oweRefund(tx, payment, await reasonOwed(tx, paymentId), now);
  return isMore && !given.isExplained ? await oweExplainedLate(at(), now) : payment;
}

const isIn = (adopted: ReadonlyMap<string, Refund>, row: Refund): boolean =>
  [...adopted.values()].includes(row);

/** The list's entry for an open refund of nodrop; null if the list has no entry that could still give money back. */
export function listedOf(row: Refund, list: readonly ChannelRefund[]): ChannelRefund | null {
  const entries = list.filter((entry) => isListedAs(row, entry));
  return (
    entries.find(({ state }) => state === 'succeeded') ??
    entries.find(({ state }) => state === 'processing') ??
    entries.find(({ state }) => state === 'reversed') ??
    null
  );
}
