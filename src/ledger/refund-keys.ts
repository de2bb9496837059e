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
 * The keys that refunds are asked for under. A channel gives money back once for each key for a while only, and may keep
 * nothing but a failure under one. How changes are made: see refunds.ts.
 */

/**
 * Whether asking for it once more may make a second refund, or tells nothing: not before complete listings have shown that
 * there is none.
 * @param repeatableForMs the channel's declaration
 */
export function mustBeLookedFor(
  { askedAt, keySpentAt }: Pick<Refund, 'askedAt' | 'keySpentAt'>,
  repeatableForMs: number | null,
  now: Date,
): boolean {
  // Found at the channel before it was asked for here: nobody knows since when.
  if (askedAt === null) return repeatableForMs !== null;
  return keySpentAt !== null || !isRepeatable(repeatableForMs, askedAt.getTime(), now.getTime());
}

/** The channel answers every repetition under this key with a failure that it has stored. */
export async function recordKeySpent(
  db: LedgerClient,
  refundId: string,
  attempt: number,
  error: Pick<ChannelError, 'kind' | 'message'>,
  now: Date,
): Promise<void> {
  await underRefundLock(db, refundId, now, async ({ tx, payment }, refund) => {
    if (!isRefundOpen(refund.status) || refund.attempt !== attempt || refund.keySpentAt !== null) return;
    // Refused for now, it can be asked for as often as it takes.
    const isUnknown = error.kind !== 'not_now';
    const spentKeys = refund.spentKeys + (isUnknown ? 1 : 0);
    await tx.refund.update({ where: { id: refundId }, data: { keySpentAt: now, absentAt: null, spentKeys } });
    const said = `The channel keeps a failure under key ${attempt} of refund ${refundId}, and answers nothing else: ${error.message}`;
    await note(tx, payment.id, 'refund', said, now, { refundId });
  });
}

/** What follows from a complete listing that does not show the refund. */
export type NotListed =
  /** It can be asked for, under the key that its row has now. */
  | { readonly next: 'ask' }
  /** It is looked for again after so long, ms. */
  | { readonly next: 'look again'; readonly afterMs: number }
  /** It cannot be asked for any more, or needs not be. */
  | { readonly next: 'nothing'; readonly snapshot: RefundSnapshot };

/**
 * A complete listing does not show a refund that must not be asked for again unseen. After two of them it can be: under
 * the same key, which counts from now, when the channel has forgotten it, and under the next when the channel keeps a failure
 * under it. After the last a person has to give the money back at the channel.
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
    // Its row before the payment's.
    const absent = await tx.refund.update({
      where: { id: refundId },
      data: { absentAt: refund.absentAt ?? now, unknownSince: refund.unknownSince ?? now },
    });
    const payment = await recordTrade(locked, trade, now);
    if (isAllBack(payment)) {
      const reason = 'All of the money is back, and the channel does not list this refund.';
      return { next: 'nothing', snapshot: await recordRefusal({ ...locked, payment }, absent, reason, now) };
    }
    if (await losesMore(tx, payment)) {
      const reason = 'The payer got the money by a dispute, and the channel does not list this refund.';
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
      const said = `Two complete listings do not show refund ${refundId}: it is asked for again.`;
      await note(tx, payment.id, 'refund', said, now, { refundId });
      return { next: 'ask' };
    }
    if (!isLastKey) {
      const next = attempt + 1;
      await tx.refund.update({
        where: { id: refundId },
        data: { ...anew, attempt: next, channelRefundId: null },
      });
      const said = `Two complete listings do not show refund ${refundId}: it is asked for under key ${next}.`;
      await note(tx, payment.id, 'refund', said, now, { refundId, attempt: next });
      return { next: 'ask' };
    }
    const failure = `The channel keeps a failure under each of ${attempt} keys, and lists no refund: give the money back at the channel, or \`retry\`.`;
    const waiting = await tx.refund.update({
      where: { id: refundId },
      data: { status: 'needs_person', failure, unknownSince: null },
    });
    await note(tx, payment.id, 'refund', `Refund ${refundId} needs a person. ${failure}`, now, { refundId });
    await reviewAttention(tx, payment, now);
    return { next: 'nothing', snapshot: toRefundSnapshot(waiting, payment) };
  });
}

/**
 * Has a refund without a key left asked for under the next ones, once it is looked for again: a person says that the channel
 * is well. It is open, and its workflow goes on.
 * @returns null when there is none
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
  await note(tx, payment.id, 'refund', `Refund ${id} is asked for under new keys.`, now, { refundId: id });
  await reviewAttention(tx, payment, now);
  return renewed;
}
