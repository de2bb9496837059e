import type { ChannelAnswer, ChannelError } from '../domain/channel.ts';
import {
  isRepeatable,
  LISTINGS_APART_MS,
  nextKeyAfter,
  REFUND_KEYS_AT_MOST,
  REFUND_NUMBERS_AT_MOST,
  type RefundSnapshot,
} from '../domain/refund.ts';
import { isRefundOpen } from '../domain/states.ts';
import type { LedgerClient } from './client.ts';
import { losesMore } from './disputes.ts';
import type { Locked } from './order-lock.ts';
import { isAllBack, toRefundSnapshot } from './payment-facts.ts';
import { recordRefusal, recordTrade, underRefundLock } from './refund-answers.ts';
import { reviewAttention } from './refund-trouble.ts';
import type { Refund } from './rows.ts';
import { note } from './timeline.ts';

/**
 * This file manages the idempotency keys of refund requests. A channel guarantees only for a limited time that one key
 * makes one refund. During this time the channel may also store a failure, and return it for every request with the
 * key. refunds.ts describes how changes are made.
 */

/**
 * True if repeating the refund request could make a second refund, or would only return a stored failure. In these
 * cases, complete listings must first show that the channel does not have the refund.
 * @param repeatableForMs the channel's declaration
 */
export function mustBeLookedFor(
  { askedAt, keySpentAt }: Pick<Refund, 'askedAt' | 'keySpentAt'>,
  repeatableForMs: number | null,
  now: Date,
): boolean {
  // If `askedAt` is null, nodrop found the refund at the channel before it requested the refund. In that case the age
  // of the refund's key is unknown.
  if (askedAt === null) return repeatableForMs !== null;
  return keySpentAt !== null || !isRepeatable(repeatableForMs, askedAt.getTime(), now.getTime());
}

/**
 * Records that the refund's key is used up, because the channel returns a stored failure for every request with this
 * key.
 */
export async function recordKeySpent(
  db: LedgerClient,
  refundId: string,
  attempt: number,
  error: Pick<ChannelError, 'kind' | 'message'>,
  now: Date,
): Promise<void> {
  await underRefundLock(db, refundId, now, async ({ tx, payment }, refund) => {
    if (!isRefundOpen(refund.status) || refund.attempt !== attempt || refund.keySpentAt !== null) return;
    // A temporary refusal is not counted in `spentKeys`, because after such a refusal the request may be repeated
    // without limit.
    const isUnknown = error.kind !== 'not_now';
    const spentKeys = refund.spentKeys + (isUnknown ? 1 : 0);
    await tx.refund.update({ where: { id: refundId }, data: { keySpentAt: now, absentAt: null, spentKeys } });
    const said = `The channel has stored a failure for key ${attempt} of refund ${refundId} and repeats it: ${error.message}`;
    await note(tx, payment.id, 'refund', said, now, { refundId });
  });
}

/** The next step after a complete listing that does not contain the refund. */
export type NotListed =
  /** The refund may be requested with the key that its row has now. */
  | { readonly next: 'ask' }
  /** nodrop must look for the refund again after `afterMs`. */
  | { readonly next: 'look again'; readonly afterMs: number }
  /** The refund can no longer be requested, or need not be requested. */
  | { readonly next: 'nothing'; readonly snapshot: RefundSnapshot };

/**
 * Records that a complete listing does not contain the refund. After two such listings the refund may be requested
 * again. If the channel has stored a failure under the key, the request uses the next key. Otherwise the request uses
 * the same key, and the key's lifetime starts again. If no key is left, a person must make the refund at the channel.
 */
export async function recordNotListed(
  db: LedgerClient,
  refundId: string,
  trade: ChannelAnswer,
  now: Date,
): Promise<NotListed> {
  return await underRefundLock(db, refundId, now, async (locked, refund): Promise<NotListed> => {
    const { tx } = locked;
    if (!isRefundOpen(refund.status))
      return { next: 'nothing', snapshot: toRefundSnapshot(refund, locked.payment) };
    // The refund's row must be locked before the payment's row.
    const absent = await tx.refund.update({
      where: { id: refundId },
      data: { absentAt: refund.absentAt ?? now, unknownSince: refund.unknownSince ?? now },
    });
    const payment = await recordTrade(locked, trade, now);
    if (isAllBack(payment)) {
      const reason = 'All of the money has been given back, and the channel does not list this refund.';
      return { next: 'nothing', snapshot: await recordRefusal({ ...locked, payment }, absent, reason, now) };
    }
    if (await losesMore(tx, payment)) {
      const reason = 'The payer got the money through a dispute, and the channel does not list this refund.';
      return { next: 'nothing', snapshot: await recordRefusal({ ...locked, payment }, absent, reason, now) };
    }
    const { keySpentAt, attempt, spentKeys } = refund;
    const isLastKey = spentKeys >= REFUND_KEYS_AT_MOST || attempt >= REFUND_NUMBERS_AT_MOST;
    if (refund.status === 'needs_person' && isLastKey)
      return { next: 'nothing', snapshot: toRefundSnapshot(refund, payment) };
    const passed = (since: Date) => now.getTime() - since.getTime();
    const afterMs = Math.max(
      LISTINGS_APART_MS - passed(absent.absentAt ?? now),
      keySpentAt === null ? 0 : nextKeyAfter(attempt - spentKeys) - passed(keySpentAt),
    );
    if (afterMs > 0) {
      await reviewAttention(tx, payment, now);
      return { next: 'look again', afterMs };
    }
    const anew = { askedAt: now, keySpentAt: null, absentAt: null };
    if (keySpentAt === null) {
      await tx.refund.update({ where: { id: refundId }, data: anew });
      const said = `Two complete listings do not show refund ${refundId}: it is requested again.`;
      await note(tx, payment.id, 'refund', said, now, { refundId });
      return { next: 'ask' };
    }
    if (!isLastKey) {
      const next = attempt + 1;
      await tx.refund.update({
        where: { id: refundId },
        data: { ...anew, attempt: next, channelRefundId: null },
      });
      const said = `Two complete listings do not show refund ${refundId}: it is requested with key ${next}.`;
      await note(tx, payment.id, 'refund', said, now, { refundId, attempt: next });
      return { next: 'ask' };
    }
    const failure = `The channel has stored a failure for each of ${attempt} keys and lists no refund: make the refund at the channel, or use \`retry\`.`;
    const waiting = await tx.refund.update({
      where: { id: refundId },
      data: { status: 'needs_person', failure, unknownSince: null },
    });
    await note(tx, payment.id, 'refund', `Refund ${refundId} needs a manual action. ${failure}`, now, {
      refundId,
    });
    await reviewAttention(tx, payment, now);
    return { next: 'nothing', snapshot: toRefundSnapshot(waiting, payment) };
  });
}

/**
 * Gives new keys to a refund that has no keys left, because an operator says that the channel works again. The refund
 * becomes open again, and its workflow continues. The workflow looks for the refund at the channel before it requests
 * the refund.
 * @returns null if there is no such refund
 */
export async function renewKeys({ tx, payment }: Locked, now: Date): Promise<Refund | null> {
  const waiting = await tx.refund.findFirst({
    where: { paymentId: payment.id, status: 'needs_person', keySpentAt: { not: null } },
  });
  if (waiting === null) return null;
  const { id } = waiting;
  const renewed = await tx.refund.update({
    where: { id },
    data: { status: 'created', spentKeys: 0, unknownSince: now },
  });
  await note(tx, payment.id, 'refund', `Refund ${id} is requested with new keys.`, now, { refundId: id });
  await reviewAttention(tx, payment, now);
  return renewed;
}
