import type { CallbackRefund, ChannelAnswer, VerifiedCallback } from '../domain/channel.ts';
import { newCallbackId } from '../domain/ids.ts';
import type { Callback, Prisma } from '../generated/prisma/client.ts';
import { lockOrder } from '../orders/embedded.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import { isMoney, type RecordedAnswer, recordedAnswer } from './snapshot.ts';
import { note } from './timeline.ts';

/**
 * A verified callback for exactly what was asked is the channel's word: it goes on record with the row, so that
 * whoever looks at the payment next settles it, delivered or not. Any other only makes the channel be asked (P2).
 */
async function recordWord(
  tx: LedgerTx,
  paymentId: string,
  { answer }: VerifiedCallback,
  now: Date,
): Promise<void> {
  const { merchantId, orderId } = await tx.payment.findUniqueOrThrow({ where: { id: paymentId } });
  await lockOrder(tx, merchantId, orderId);
  const payment = await tx.payment.findUniqueOrThrow({ where: { id: paymentId } });
  if (answer.state !== 'paid' || isMoney(recordedAnswer(payment))) return;
  if (BigInt(answer.amount) !== payment.amount || answer.currency !== payment.currency) return;
  const word: RecordedAnswer = { ...answer, by: 'callback' };
  await tx.payment.update({
    where: { id: paymentId },
    data: {
      channelState: 'paid',
      channelAnsweredAt: now,
      channelAnswer: word as unknown as Prisma.InputJsonObject,
    },
  });
}

/**
 * Stores a verified callback, once for each of the channel's notification ids: the caller may acknowledge it
 * when this returns, and not before (P4). A repetition returns the row of the first.
 */
export async function storeCallback(
  db: LedgerClient,
  accountId: string,
  callback: VerifiedCallback,
  rawBody: Buffer,
  now: Date,
): Promise<Callback> {
  return await db.$transaction(async (tx) => {
    // Matched by account too: nobody's credentials speak for another's payment.
    const payment = await tx.payment.findFirst({
      where: { id: callback.outTradeNo, channelAccountId: accountId },
      select: { id: true },
    });
    const inserted = await tx.callback.createMany({
      data: {
        id: newCallbackId(),
        channelAccountId: accountId,
        notificationId: callback.notificationId,
        outTradeNo: callback.outTradeNo,
        paymentId: payment?.id ?? null,
        answer: {
          ...callback.answer,
          ...(callback.refund === undefined ? {} : { refund: callback.refund }),
        } as unknown as Prisma.InputJsonObject,
        body: new Uint8Array(rawBody),
        receivedAt: now,
      },
      skipDuplicates: true,
    });
    const row = await tx.callback.findUniqueOrThrow({
      where: {
        channelAccountId_notificationId: {
          channelAccountId: accountId,
          notificationId: callback.notificationId,
        },
      },
    });
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

/** The payment's workflow has the callback for certain. */
export async function markDelivered(db: LedgerClient, callbackId: string, now: Date): Promise<void> {
  await db.callback.updateMany({ where: { id: callbackId, deliveredAt: null }, data: { deliveredAt: now } });
}
