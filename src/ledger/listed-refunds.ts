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
 * This file records the refunds of a trade from the channel's list. The list contains each refund with its own id.
 * Therefore the list shows which refunds nodrop made, even while the channel processes one of them. A sum of refunds
 * does not show this. Lists can arrive late, twice, and in any order. Therefore a refund that has failed or was
 * reversed keeps that state.
 */

const isVoid = ({ state }: ChannelRefund): boolean => state === 'failed' || state === 'reversed';

/**
 * Returns the changes of a refund's row after the channel has reported the refund under this number. The number is one
 * of the refund's idempotency keys, perhaps an earlier one. Further queries use this key, and the key is no longer
 * recorded as spent. If the channel reported no number (`undefined`), nothing changes.
 */
export const underNumber = (outRefundNo: string | undefined) =>
  outRefundNo === undefined ? {} : { attempt: attemptOf(outRefundNo), keySpentAt: null, absentAt: null };

/**
 * True if the listed refund is this refund of nodrop. The function compares the channel's ids, or nodrop's numbers
 * while the channel's id is unknown.
 */
export function isListedAs(row: Refund, { id, outRefundNo }: ChannelRefund): boolean {
  if (isOfOthers(row.reason)) return false;
  if (row.channelRefundId === id) return true;
  // If nodrop repeats a request, the channel can create several ids for the same number.
  const goesByNumber = row.channelRefundId === null || isRefundOpen(row.status);
  return goesByNumber && outRefundNo !== undefined && refundIdOf(outRefundNo) === row.id;
}

/**
 * Records a complete list of refunds. For a refund that nodrop made, the function records the channel's id and, after a
 * success, a later failure. Any other refund and its later states are recorded as external. A repeated list has no
 * further effect.
 * @param given.isOld true if the list was stored for a while as part of a callback. Such a list may be out of date, so
 *   the function uses only reports that cannot have changed since the callback.
 * @param given.isExplained true if the caller itself creates missing replacements of refused refunds (oweExplainedLate)
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
  // Failed and reversed refunds are handled first, because they free amounts for the other refunds.
  const listed = [...list].sort((a, b) => Number(isVoid(b)) - Number(isVoid(a)) || (a.id < b.id ? -1 : 1));
  const isSince = ({ settledAt }: Refund) =>
    !given.isOld && settledAt !== null && now.getTime() - settledAt.getTime() >= QUERIES_TAKE_AT_MOST_MS;
  /**
   * True if the list shows that a refund has failed or was reversed after its success. If the list may be older than
   * the recorded success, the state "failed" in the list is ignored.
   */
  const isReversal = (row: Refund, { state }: ChannelRefund) =>
    row.status === 'succeeded' && (state === 'reversed' || (state === 'failed' && isSince(row)));

  const others: ChannelRefund[] = [];
  for (const entry of listed) {
    const row = ours.find((row) => row.status !== 'failed' && isListedAs(row, entry));
    if (row === undefined) {
      // After the channel has refused a refund, a list may still show the refund's former state, or leave the refund
      // out.
      const isRefused = ours.some((row) => isListedAs(row, entry));
      if (!isRefused || (entry.state === 'succeeded' && !given.isOld)) others.push(entry);
      continue;
    }
    // The refund's row is locked before the payment's row.
    if (isRefundOpen(row.status) && row.channelRefundId === null && !isVoid(entry))
      await tx.refund.update({
        where: { id: row.id },
        data: { channelRefundId: entry.id, ...underNumber(entry.outRefundNo) },
      });
    payment = (await claimExternal(at(), row, entry.id, now)) ?? payment;
    if (isReversal(row, entry)) payment = await recordReversal(at(), row, saysOf(entry.state), now);
  }

  // An external refund without an id was inferred from a sum. It is one of the listed refunds, or it was recorded by
  // mistake.
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
      // The listed refund may be part of an external refund that was inferred from a sum and is already recorded.
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
  // Some losses of disputes may not be recorded yet, because refunds had reserved the money. The list may have freed
  // money for these losses.
  payment = await recordLosses(at(), now);
  if (unlisted.length > 0 && payment.attention === null && payment.orderUpdate === 'applied')
    payment = await showReversed(tx, payment, now);
  // A due refund may have waited because the channel was processing refunds that nodrop did not request.
  const isOwed = payment.orderUpdate === 'conflict' && order.recoveredAt === null;
  if (isFreed && isOwed && payment.attention !== 'disputed')
    await oweRefund(tx, payment, await reasonOwed(tx, paymentId), now);
  return isMore && !given.isExplained ? await oweExplainedLate(at(), now) : payment;
}

const isIn = (adopted: ReadonlyMap<string, Refund>, row: Refund): boolean =>
  [...adopted.values()].includes(row);

/**
 * The list's entry for an open refund of nodrop. It is null if the list has no entry of the refund, or only failed
 * entries.
 */
export function listedOf(row: Refund, list: readonly ChannelRefund[]): ChannelRefund | null {
  const entries = list.filter((entry) => isListedAs(row, entry));
  return (
    entries.find(({ state }) => state === 'succeeded') ??
    entries.find(({ state }) => state === 'processing') ??
    entries.find(({ state }) => state === 'reversed') ??
    null
  );
}
