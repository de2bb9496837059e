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
 * The refunds of a trade as its channel lists them, each by its own id. Unlike a sum, a list says which are ours, so it is
 * exact while one of ours is under way. Lists come late, twice, and in any order: what gives nothing back any more stays so.
 */

const isVoid = ({ state }: ChannelRefund): boolean => state === 'failed' || state === 'reversed';

/**
 * The channel has the refund under this number of ours, which may be an earlier key's: it is asked about under that one,
 * and the key is not spent. Undefined: it did not say.
 */
export const underNumber = (outRefundNo: string | undefined) =>
  outRefundNo === undefined ? {} : { attempt: attemptOf(outRefundNo), keySpentAt: null, absentAt: null };

/** Whether the listed refund is this one of ours: by the channel's id, or, while that is not known, by its number. */
export function isListedAs(row: Refund, { id, outRefundNo }: ChannelRefund): boolean {
  if (isOfOthers(row.reason)) return false;
  if (row.channelRefundId === id) return true;
  // Asked for again, one number may have more than one id.
  const goesByNumber = row.channelRefundId === null || isRefundOpen(row.status);
  return goesByNumber && outRefundNo !== undefined && refundIdOf(outRefundNo) === row.id;
}

/**
 * Records what a complete list says: of ours the channel's id, and what failed after it had succeeded; of every other the
 * refund itself, once, with what becomes of it.
 * @param given.isOld it was stored for a while, as a callback: what may have changed since is not concluded from it
 * @param given.isExplained the caller looks for refusals that this explains
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
  // What gives nothing back first: it makes room for the others.
  const listed = [...list].sort((a, b) => Number(isVoid(b)) - Number(isVoid(a)) || (a.id < b.id ? -1 : 1));
  const isSince = ({ settledAt }: Refund) =>
    !given.isOld && settledAt !== null && now.getTime() - settledAt.getTime() >= QUERIES_TAKE_AT_MOST_MS;
  /** A listed failure of what is on record as succeeded is new, unless the list may be the older of the two. */
  const isReversal = (row: Refund, { state }: ChannelRefund) =>
    row.status === 'succeeded' && (state === 'reversed' || (state === 'failed' && isSince(row)));

  const others: ChannelRefund[] = [];
  for (const entry of listed) {
    const row = ours.find((row) => row.status !== 'failed' && isListedAs(row, entry));
    if (row === undefined) {
      // What the channel refused for good it may still show as it was before, or not at all.
      const isRefused = ours.some((row) => isListedAs(row, entry));
      if (!isRefused || (entry.state === 'succeeded' && !given.isOld)) others.push(entry);
      continue;
    }
    // Its row before the payment's.
    if (isRefundOpen(row.status) && row.channelRefundId === null && !isVoid(entry))
      await tx.refund.update({
        where: { id: row.id },
        data: { channelRefundId: entry.id, ...underNumber(entry.outRefundNo) },
      });
    payment = (await claimExternal(at(), row, entry.id, now)) ?? payment;
    if (isReversal(row, entry)) payment = await recordReversal(at(), row, saysOf(entry.state), now);
  }

  // What a sum told before is among those of the list, or is none.
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
      // It may be part of a sum that is on record.
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
  // What a dispute that is lost has taken may have waited for what these gave back.
  payment = await recordLosses(at(), now);
  if (unlisted.length > 0 && payment.attention === null && payment.orderUpdate === 'applied')
    payment = await showReversed(tx, payment, now);
  // Money that is owed was not asked for while others had it on its way back.
  const isOwed = payment.orderUpdate === 'conflict' && order.recoveredAt === null;
  if (isFreed && isOwed && payment.attention !== 'disputed')
    await oweRefund(tx, payment, await reasonOwed(tx, paymentId), now);
  return isMore && !given.isExplained ? await oweExplainedLate(at(), now) : payment;
}

const isIn = (adopted: ReadonlyMap<string, Refund>, row: Refund): boolean =>
  [...adopted.values()].includes(row);

/** What the list says of a refund of ours that is open; null: nothing that could still give money back. */
export function listedOf(row: Refund, list: readonly ChannelRefund[]): ChannelRefund | null {
  const entries = list.filter((entry) => isListedAs(row, entry));
  return (
    entries.find(({ state }) => state === 'succeeded') ??
    entries.find(({ state }) => state === 'processing') ??
    entries.find(({ state }) => state === 'reversed') ??
    null
  );
}
