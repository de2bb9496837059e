import { createHash } from 'node:crypto';
import type { CallbackRefund, ChannelAnswer, VerifiedCallback } from '../domain/channel.ts';
import { newCallbackId } from '../domain/ids.ts';
import { json, type LedgerClient, type LedgerTx } from './client.ts';
import { cleared } from './locked.ts';
import { lockOrder } from './order-row.ts';
import type { Callback, ChannelAccount, Payment } from './rows.ts';
import { isMoney, type RecordedAnswer, recordedAnswer, tellsMoreOf } from './snapshot.ts';
import { note } from './timeline.ts';
import { ownerOf, transaction } from './turns.ts';
import type { Page } from './views.ts';

/**
 * A verified callback for exactly what was asked is the channel's word: it goes on record with the row, so that
 * whoever looks at the payment next settles it, delivered or not. So does one that says of the money on record that
 * more of it has gone back, in whatever order they come. Any other only makes the channel be asked (P2).
 */
async function recordWord(
  tx: LedgerTx,
  paymentId: string,
  { answer }: Pick<VerifiedCallback, 'answer'>,
  now: Date,
): Promise<void> {
  const { merchantId, orderId } = await tx.payment.findUniqueOrThrow({ where: { id: paymentId } });
  await lockOrder(tx, merchantId, orderId);
  const payment = await tx.payment.findUniqueOrThrow({ where: { id: paymentId } });
  if (!isMoney(answer) || payment.status === 'succeeded') return;
  const known = recordedAnswer(payment);
  const isWord = isMoney(known)
    ? tellsMoreOf(known, answer)
    : BigInt(answer.amount) === payment.amount && answer.currency === payment.currency;
  if (!isWord) return;
  const word: RecordedAnswer = { ...answer, by: 'callback' };
  await tx.payment.update({
    where: { id: paymentId },
    data: {
      channelState: answer.state,
      channelAnsweredAt: now,
      channelAnswer: json(word),
      channelErrorSince: null,
      ...cleared(payment, 'answered', 'trade_known'),
    },
  });
}

/** What a callback says, as one text. Not the channel's clock: told another way, it is no news. */
function contentHash({ answer, refund }: VerifiedCallback): string {
  const { paidAt: _, ...said } = { paidAt: undefined, ...answer };
  return createHash('sha256').update(JSON.stringify({ said, refund })).digest('base64url');
}

/**
 * Stores a verified callback: the caller may acknowledge it when this returns, and not before (P4). A repetition
 * returns the row of the first; what names another trade under a known notification id, or has other news of the same
 * one, is a callback of its own.
 */
export async function storeCallback(
  db: LedgerClient,
  accountId: string,
  callback: VerifiedCallback,
  rawBody: Buffer,
  now: Date,
): Promise<Callback> {
  // Matched by account too: nobody's credentials speak for another's payment.
  const find = (tx: LedgerClient | LedgerTx) =>
    tx.payment.findFirst({
      where: { id: callback.outTradeNo, channelAccountId: accountId },
      select: { id: true, merchantId: true, orderId: true },
    });
  const known = await find(db);
  const { merchantId } = known ?? (await db.channelAccount.findUniqueOrThrow({ where: { id: accountId } }));
  return await transaction(db, merchantId, known?.orderId ?? null, async (tx) => {
    // Without one before it may have come just now.
    const payment = known ?? (await find(tx));
    // Before the row that refers to the payment: everybody else takes these locks in this order too.
    if (payment !== null) await lockOrder(tx, payment.merchantId, payment.orderId);
    const notification = {
      channelAccountId: accountId,
      notificationId: callback.notificationId,
      outTradeNo: callback.outTradeNo,
      contentHash: contentHash(callback),
    };
    const inserted = await tx.callback.createMany({
      data: {
        ...notification,
        id: newCallbackId(),
        paymentId: payment?.id ?? null,
        answer: json({
          ...callback.answer,
          ...(callback.refund === undefined ? {} : { refund: callback.refund }),
        }),
        body: new Uint8Array(rawBody),
        receivedAt: now,
      },
      skipDuplicates: true,
    });
    const found = await tx.callback.findUniqueOrThrow({ where: { notification } });
    // The first time it may have come before its payment.
    const row =
      found.paymentId === null && payment !== null
        ? await tx.callback.update({
            where: { id: found.id },
            data: { paymentId: payment.id, nextSweepAt: null },
          })
        : found;
    if (row.paymentId !== null) {
      await recordWord(tx, row.paymentId, callback, now);
      const again = inserted.count === 0 ? ' again' : '';
      const detail = `The channel called back${again}: ${callback.answer.state}${ofRefund(callback.refund)}.`;
      const { paymentId } = row;
      // Whoever replays a delivered callback for as long as its signature is fresh fills no timeline.
      const isKnown =
        row.deliveredAt !== null &&
        (await tx.timelineEntry.findFirst({
          where: { paymentId, kind: 'callback', detail, data: { path: ['callbackId'], equals: row.id } },
          select: { id: true },
        })) !== null;
      if (!isKnown) {
        await note(tx, paymentId, 'callback', detail, now, {
          callbackId: row.id,
          state: callback.answer.state,
        });
      }
    }
    return row;
  });
}

const ofRefund = (refund: CallbackRefund | undefined): string =>
  refund === undefined ? '' : `, refund ${refund.outRefundNo} ${refund.answer.state}`;

/** What a stored callback says. */
export function readCallback(row: Callback): { answer: ChannelAnswer; refund: CallbackRefund | undefined } {
  const { refund, ...answer } = row.answer as unknown as ChannelAnswer & { refund?: CallbackRefund };
  return { answer: answer as ChannelAnswer, refund };
}

/** How long a callback that matches no payment is tried again; after that a person must look at it. */
export const MATCH_FOR_MS = 72 * 3_600_000;
const MATCH_BATCH = 200;
const MATCH_EVERY_MS = 60_000;
const MATCH_EVERY_MS_AT_MOST = 3_600_000;

/**
 * Tries stored callbacks that matched no payment again: after a minute, and then ever less often, so that new ones
 * are never kept waiting by many old ones. @returns how many have a payment now; the sweep delivers these.
 */
export async function matchCallbacks(db: LedgerClient, now: Date): Promise<number> {
  const at = now.getTime();
  const tried = await db.$queryRaw<{ id: string; payment_id: string | null }[]>`
    UPDATE callbacks SET
      next_sweep_at = ${now}::timestamptz + LEAST(
        GREATEST(${now}::timestamptz - callbacks.received_at, ${MATCH_EVERY_MS} * interval '1 ms'),
        ${MATCH_EVERY_MS_AT_MOST} * interval '1 ms'
      )
    FROM (
      SELECT callbacks.id, payments.id AS payment_id
      FROM callbacks LEFT JOIN payments
        ON payments.id = callbacks.out_trade_no
        AND payments.channel_account_id = callbacks.channel_account_id
      WHERE callbacks.payment_id IS NULL AND callbacks.received_at > ${new Date(at - MATCH_FOR_MS)}
        AND (callbacks.next_sweep_at IS NULL OR callbacks.next_sweep_at <= ${now})
      ORDER BY callbacks.next_sweep_at NULLS FIRST, callbacks.received_at
      LIMIT ${MATCH_BATCH} FOR UPDATE OF callbacks SKIP LOCKED
    ) AS due
    WHERE callbacks.id = due.id
    RETURNING callbacks.id, due.payment_id`;
  let matched = 0;
  const failures: unknown[] = [];
  for (const { id, payment_id: paymentId } of tried) {
    if (paymentId === null) continue;
    try {
      if (await matchCallback(db, id, paymentId, 'sweep', now)) matched += 1;
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
  return matched;
}

/** The same for one payment, however old its callbacks are; the sweep delivers these too. */
export async function matchCallbacksOf(
  db: LedgerClient,
  { id, channelAccountId }: Pick<Payment, 'id' | 'channelAccountId'>,
  now: Date,
): Promise<void> {
  const waiting = await db.callback.findMany({
    where: { outTradeNo: id, channelAccountId, paymentId: null },
    select: { id: true },
    orderBy: { receivedAt: 'asc' },
  });
  for (const callback of waiting) await matchCallback(db, callback.id, id, 'manual', now);
}

/** Its order's lock before the callback's row, as whoever stores it again takes them. */
async function matchCallback(
  db: LedgerClient,
  callbackId: string,
  paymentId: string,
  by: 'sweep' | 'manual',
  now: Date,
): Promise<boolean> {
  const { merchantId, orderId } = await ownerOf(db, paymentId);
  return await transaction(db, merchantId, orderId, async (tx) => {
    await lockOrder(tx, merchantId, orderId);
    const { count } = await tx.callback.updateMany({
      where: { id: callbackId, paymentId: null },
      data: { paymentId, nextSweepAt: null },
    });
    if (count === 0) return false;
    const row = await tx.callback.findUniqueOrThrow({ where: { id: callbackId } });
    await recordWord(tx, paymentId, readCallback(row), now);
    const found = by === 'sweep' ? 'The sweep found' : 'The recovery found';
    await note(tx, paymentId, by, `${found} the payment of a stored callback.`, now, { callbackId });
    return true;
  });
}

/** Callbacks to a merchant's accounts that match no payment, newest first. */
export async function listUnmatchedCallbacks(
  db: LedgerClient,
  merchantId: string,
  { limit, after }: Page,
): Promise<(Callback & { channelAccount: ChannelAccount })[]> {
  return await db.callback.findMany({
    where: {
      paymentId: null,
      channelAccount: { merchantId },
      ...(after === undefined
        ? {}
        : {
            receivedAt: { lte: after.createdAt },
            OR: [
              { receivedAt: { lt: after.createdAt } },
              { receivedAt: after.createdAt, id: { lt: after.id } },
            ],
          }),
    },
    include: { channelAccount: true },
    orderBy: [{ receivedAt: 'desc' }, { id: 'desc' }],
    take: limit,
  });
}

/** The payment's workflow has the callback for certain. */
export async function markDelivered(db: LedgerClient, callbackId: string, now: Date): Promise<void> {
  await db.callback.updateMany({ where: { id: callbackId, deliveredAt: null }, data: { deliveredAt: now } });
}
