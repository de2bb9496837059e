import { createHash } from 'node:crypto';
import { isVerifiedAnswer, type RecordedAnswer, recordedAnswer } from '../domain/answer.ts';
import type {
  CallbackRefund,
  CallbackSubject,
  ChannelAnswer,
  ChannelDispute,
  VerifiedCallback,
} from '../domain/channel.ts';
import { newCallbackId } from '../domain/ids.ts';
import { Prisma } from '../generated/prisma/client.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import { visibleTransaction } from './notify.ts';
import { cleared } from './order-lock.ts';
import type { Page } from './queries.ts';
import {
  assignments,
  CALLBACKS,
  type Changes,
  columnsAndValues,
  notesOf,
  PAYMENTS,
  type RawRow,
  readRow,
  rowsOf,
  type StoredCallback,
  takeOrderLock,
} from './raw-rows.ts';
import { answerTaken } from './repeated-answer.ts';
import type { Callback, ChannelAccount, Payment } from './rows.ts';
import type { Note } from './timeline.ts';
import { ownerOf } from './transaction-limits.ts';

/**
 * Returns the changes that a callback makes to its payment. A callback changes the payment only if nodrop accepts the
 * callback's report as a verified answer. The changes are written together with the callback's row, so they are kept
 * even if the callback never reaches a workflow.
 * @param payment the payment's row, read under the order's lock
 * @returns null if the answer must not be recorded
 */
function changesBy(
  payment: Payment,
  answer: ChannelAnswer | null,
  now: Date,
): { changes: Changes<Payment>; notes: Note[] } | null {
  if (answer === null || !isVerifiedAnswer(payment.status, payment, recordedAnswer(payment), answer))
    return null;
  const recorded: RecordedAnswer = { ...answer, by: 'callback' };
  const { changes, notes } = answerTaken(payment, answer.state, now);
  return {
    changes: {
      ...(changes as Changes<Payment>),
      channelAnswer: recorded,
      channelErrorSince: null,
      ...cleared(payment, 'answered', 'trade_known'),
      updatedAt: now,
    },
    notes,
  };
}

/** A verified callback that nodrop stores. Callbacks of the kind `ignored` are not stored. */
export type StorableCallback = Exclude<VerifiedCallback, { kind: 'ignored' }>;

/** A callback that reports the state of a trade. */
export type TradeCallback = Extract<StorableCallback, { kind: 'trade' }>;

/**
 * A hash of what a callback reports. The hash leaves out `paidAt`, because a report that differs only in this time
 * contains nothing new.
 */
function contentHash(callback: StorableCallback): string {
  const { reference, channelPaymentId } = callback.about;
  if (callback.kind !== 'trade') {
    const { notificationId: _, about: __, ...said } = callback;
    return hashOf({ ...said, reference, channelPaymentId });
  }
  const { answer, refund } = callback;
  const { paidAt: _, ...said } = { paidAt: undefined, ...answer };
  return hashOf({ said, refund, reference, channelPaymentId });
}

const hashOf = (content: object): string =>
  createHash('sha256').update(JSON.stringify(content)).digest('base64url');

/** The callback's report in the form in which it is stored. `readCallback` reads this form. */
function contentOf(callback: StorableCallback): object {
  switch (callback.kind) {
    case 'trade':
      return { ...callback.answer, ...(callback.refund === undefined ? {} : { refund: callback.refund }) };
    case 'refund':
      return { refund: callback.refund };
    case 'dispute':
      return { dispute: callback.dispute };
    case 'notice':
      return {};
  }
}

/** A short description of a callback for the payment's timeline. */
export function describeCallback(row: Pick<Callback, 'answer' | 'kind'>): string {
  const { answer, refund, dispute } = readCallback(row);
  if (answer !== null) return `${answer.state}${refund === undefined ? '' : `, ${sayRefund(refund)}`}`;
  if (refund !== undefined) return sayRefund(refund);
  return dispute === undefined ? 'something changed' : `dispute ${dispute.id} ${dispute.state}`;
}

const sayRefund = ({ outRefundNo, channelRefundId, answer }: CallbackRefund): string =>
  `refund ${outRefundNo ?? channelRefundId} ${answer.state}`;

/**
 * Finds the payment that a callback to this account is about. The lookups are tried in this sequence: nodrop's number,
 * the number of an adopted trade, the channel's id of the trade, the channel's payment id. The lookup by payment id
 * must find exactly one payment, because a channel may use one payment id for two trades.
 */
export async function findNamed(
  db: LedgerClient | LedgerTx,
  accountId: string,
  { outTradeNo, reference, channelPaymentId }: CallbackSubject,
): Promise<Pick<Payment, 'id' | 'merchantId' | 'orderId'> | null> {
  // The payment must belong to this account, because the credentials of one account must never change a payment of
  // another account.
  const find = async (
    named: Pick<Prisma.PaymentWhereInput, 'id' | 'reference' | 'adopted' | 'channelPaymentId'>,
  ) =>
    await db.payment.findMany({
      where: { ...named, channelAccountId: accountId },
      select: { id: true, merchantId: true, orderId: true },
      take: 2,
    });
  const [byNumber] = outTradeNo === undefined ? [] : await find({ id: outTradeNo });
  if (byNumber !== undefined) return byNumber;
  const [adopted] =
    outTradeNo === undefined ? [] : await find({ reference: outTradeNo, adopted: { not: null } });
  if (adopted !== undefined) return adopted;
  const [byReference] = reference === undefined ? [] : await find({ reference });
  if (byReference !== undefined) return byReference;
  const [paid, another] = channelPaymentId === undefined ? [] : await find({ channelPaymentId });
  return another === undefined ? (paid ?? null) : null;
}

/** A stored callback with the current row of its payment. */
export type CallbackWithPayment = StoredCallback & { readonly payment: Payment | null };

/**
 * Stores a verified callback. The caller may acknowledge the callback only after this function has returned (P4). For a
 * repeated callback the function returns the row of the first copy. A callback repeats an earlier one if it has the
 * same notification id, trade and report.
 */
export async function storeCallback(
  db: LedgerClient,
  accountId: string,
  callback: StorableCallback,
  rawBody: Buffer,
  now: Date,
): Promise<CallbackWithPayment> {
  const { outTradeNo = '', reference = null, channelPaymentId = null } = callback.about;
  const find = (tx: LedgerClient | LedgerTx) => findNamed(tx, accountId, callback.about);
  const owner = await find(db);
  const { merchantId } = owner ?? (await db.channelAccount.findUniqueOrThrow({ where: { id: accountId } }));
  const orderId = owner?.orderId ?? null;
  const answer = callback.kind === 'trade' ? callback.answer : null;
  const content = { kind: callback.kind, answer: contentOf(callback) as Prisma.JsonObject };
  const stored = await visibleTransaction(db, merchantId, orderId, async (tx, visible) => {
    // If the payment was inserted after the lookup above, this transaction stops. The function then starts again, and
    // locks the payment's order.
    if (owner === null && (await find(tx)) !== null) return null;
    // Every transaction takes the order's lock first and the lock on the callback's row second, so that two
    // transactions cannot deadlock.
    if (owner !== null) await takeOrderLock(tx, owner.merchantId, owner.orderId);
    const said = {
      channelAccountId: accountId,
      notificationId: callback.notificationId,
      outTradeNo,
      contentHash: contentHash(callback),
    };
    const detail = (again: '' | ' again') => `The channel called back${again}: ${describeCallback(content)}.`;
    for (;;) {
      const { payment, first, isNoted } = await readForCallback(
        tx,
        said,
        owner?.id ?? null,
        detail(' again'),
      );
      const row =
        first ??
        ({
          ...said,
          id: newCallbackId(),
          ...content,
          reference,
          channelPaymentId,
          paymentId: owner?.id ?? null,
          receivedAt: now,
          deliveredAt: null,
          nextSweepAt: null,
        } as unknown as StoredCallback);
      const answered = payment === null ? null : changesBy(payment, answer, now);
      const notes = [...(answered?.notes ?? [])];
      if (payment !== null && !isNoted) {
        const data = { callbackId: row.id, state: stateOf(row) };
        notes.push({ kind: 'callback', detail: detail(first === null ? '' : ' again'), at: now, data });
      }
      const written = await writeCallback(tx, {
        row,
        // The first copy of a callback can arrive before its payment's row exists, and is then stored without a
        // payment. A later copy can find the payment.
        paymentId: row.paymentId ?? payment?.id ?? null,
        body: first === null ? rawBody : null,
        changes: answered?.changes ?? null,
        notes,
      });
      // Another process has stored the same callback since the read above. That process did not lock an order, because
      // it found no payment for the callback.
      if (written === null) continue;
      if (written.payment !== null) visible.add('payment');
      return { ...written.row, payment: written.payment ?? payment };
    }
  });
  return stored ?? (await storeCallback(db, accountId, callback, rawBody, now));
}

/**
 * Reads the payment and the first copy of the callback under the order's lock. These two rows decide what the callback
 * changes.
 */
async function readForCallback(
  tx: LedgerTx,
  said: Pick<Callback, 'channelAccountId' | 'notificationId' | 'outTradeNo' | 'contentHash'>,
  paymentId: string | null,
  again: string,
): Promise<{ payment: Payment | null; first: StoredCallback | null; isNoted: boolean }> {
  const [read] = await tx.$queryRaw<{ payment: RawRow | null; first: RawRow | null; isNoted: boolean }[]>`
    SELECT (SELECT to_jsonb(payments) FROM payments WHERE id = COALESCE(first.payment_id, ${paymentId})) AS payment,
      to_jsonb(first) - 'body' AS first,
      -- A delivered callback that a sender replays gets one timeline entry, so replays cannot fill the timeline.
      first.delivered_at IS NOT NULL AND EXISTS (
        SELECT FROM timeline WHERE payment_id = first.payment_id AND kind = 'callback' AND detail = ${again}
          AND data->>'callbackId' = first.id
      ) AS "isNoted"
    FROM (SELECT) AS one LEFT JOIN callbacks AS first
      ON channel_account_id = ${said.channelAccountId} AND notification_id = ${said.notificationId}
        AND out_trade_no = ${said.outTradeNo} AND content_hash = ${said.contentHash}`;
  const { payment = null, first = null, isNoted = false } = read ?? {};
  return {
    payment: payment && readRow(PAYMENTS, payment),
    first: first && readRow(CALLBACKS, first),
    isNoted,
  };
}

/**
 * Writes the callback's row, the payment's changes and the timeline entries in one statement.
 * @param body the raw body of a new row; null for an existing row
 * @returns null if the row should be new but exists already. Nothing is written in that case.
 */
async function writeCallback(
  tx: LedgerTx,
  given: {
    readonly row: StoredCallback;
    readonly paymentId: string | null;
    readonly body: Buffer | null;
    readonly changes: Changes<Payment> | null;
    readonly notes: readonly Note[];
  },
): Promise<{ row: StoredCallback; payment: Payment | null } | null> {
  const { row, paymentId, body, changes, notes } = given;
  const isSame = row.paymentId === paymentId;
  if (body === null && isSame && changes === null && notes.length === 0) return { row, payment: null };
  const linked = { paymentId, ...(isSame ? {} : { nextSweepAt: null }) };
  const { columns, values } = columnsAndValues(CALLBACKS, { ...row, ...linked });
  const stored =
    body !== null
      ? Prisma.sql`INSERT INTO callbacks (${columns}, body) VALUES (${values}, ${new Uint8Array(body)})
          ON CONFLICT DO NOTHING RETURNING *`
      : isSame
        ? Prisma.sql`SELECT * FROM callbacks WHERE id = ${row.id}`
        : Prisma.sql`UPDATE callbacks SET ${assignments(CALLBACKS, linked)} WHERE id = ${row.id} RETURNING *`;
  const changed =
    changes === null
      ? Prisma.sql`SELECT * FROM payments WHERE false`
      : Prisma.sql`UPDATE payments SET ${assignments(PAYMENTS, changes)} FROM stored
          WHERE payments.id = stored.payment_id RETURNING payments.*`;
  const [written] = await rowsOf<{ row: RawRow; payment: RawRow | null }>(
    tx,
    Prisma.sql`
      WITH stored AS (${stored}), changed AS (${changed}), noted AS (${notesOf(Prisma.sql`stored`, notes)})
      SELECT to_jsonb(stored) - 'body' AS row, (SELECT to_jsonb(changed) FROM changed) AS payment FROM stored`,
  );
  return written === undefined
    ? null
    : {
        row: readRow(CALLBACKS, written.row),
        payment: written.payment && readRow(PAYMENTS, written.payment),
      };
}

/** Reads the report of a stored callback. `answer` is null unless the callback reports the state of a trade. */
export function readCallback(row: Pick<Callback, 'answer' | 'kind'>): {
  answer: ChannelAnswer | null;
  refund: CallbackRefund | undefined;
  dispute: ChannelDispute | undefined;
} {
  const { refund, ...rest } = row.answer as {
    refund?: CallbackRefund;
    dispute?: ChannelDispute;
  };
  return {
    answer: row.kind === 'trade' ? (rest as unknown as ChannelAnswer) : null,
    refund,
    dispute: rest.dispute,
  };
}

/**
 * The state that a stored callback reports. If the callback reports no state, the function returns the callback's kind.
 */
export function stateOf(row: Pick<Callback, 'answer' | 'kind'>): string {
  const { answer, refund, dispute } = readCallback(row);
  return (answer ?? refund?.answer ?? dispute)?.state ?? row.kind;
}

/**
 * During this time the sweep tries to match a callback to a payment. After that an operator must look at the callback.
 */
export const MATCH_FOR_MS = 72 * 3_600_000;
const MATCH_BATCH = 200;
const MATCH_EVERY_MS = 60_000;
const MATCH_EVERY_MS_AT_MOST = 3_600_000;

/**
 * Tries again to match stored callbacks that match no payment yet. The interval between two attempts to match a
 * callback grows from one minute to one hour, so that many old callbacks do not delay new ones. If a callback names a
 * trade by the channel's id, the next attempt follows as soon as a payment gets that id. The triggers
 * `payments_reference_stored` and `payments_channel_payment_stored` make this happen. A callback matches a payment by
 * the rules of `findNamed`.
 * @returns the number of callbacks that were matched. The sweep delivers these callbacks.
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
      SELECT callbacks.id, named.id AS payment_id
      FROM callbacks LEFT JOIN LATERAL (
        SELECT id, 1 AS place FROM payments
        WHERE id = callbacks.out_trade_no AND channel_account_id = callbacks.channel_account_id
        UNION ALL SELECT id, 2 FROM payments
        WHERE reference = callbacks.out_trade_no AND adopted IS NOT NULL
          AND channel_account_id = callbacks.channel_account_id
        UNION ALL SELECT id, 3 FROM payments
        WHERE reference = callbacks.reference AND channel_account_id = callbacks.channel_account_id
        UNION ALL SELECT min(id), 4 FROM payments
        WHERE channel_payment_id = callbacks.channel_payment_id AND channel_account_id = callbacks.channel_account_id
        HAVING count(*) = 1
        ORDER BY place LIMIT 1
      ) AS named ON true
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

/** Matches all stored callbacks of one payment, whatever their age. The sweep then delivers the callbacks. */
export async function matchCallbacksOf(
  db: LedgerClient,
  {
    id,
    channelAccountId,
    reference,
    adopted,
  }: Pick<Payment, 'id' | 'channelAccountId' | 'reference' | 'adopted'>,
  now: Date,
): Promise<void> {
  const waiting = await db.callback.findMany({
    where: {
      channelAccountId,
      paymentId: null,
      OR: [
        { outTradeNo: id },
        ...(reference === null ? [] : [{ reference }]),
        ...(reference === null || adopted === null ? [] : [{ outTradeNo: reference }]),
      ],
    },
    select: { id: true },
    orderBy: { receivedAt: 'asc' },
  });
  for (const callback of waiting) await matchCallback(db, callback.id, id, 'manual', now);
}

/** The order is locked before the callback's row. `storeCallback` takes the two locks in the same sequence. */
async function matchCallback(
  db: LedgerClient,
  callbackId: string,
  paymentId: string,
  by: 'sweep' | 'manual',
  now: Date,
): Promise<boolean> {
  const { merchantId, orderId } = await ownerOf(db, paymentId);
  return await visibleTransaction(db, merchantId, orderId, async (tx, written) => {
    await takeOrderLock(tx, merchantId, orderId);
    const row = await tx.callback.findUniqueOrThrow({ where: { id: callbackId }, omit: { body: true } });
    if (row.paymentId !== null) return false;
    const payment = await tx.payment.findUniqueOrThrow({ where: { id: paymentId } });
    const answered = changesBy(payment, readCallback(row).answer, now);
    const detail = `${by === 'sweep' ? 'The sweep' : 'The recovery'} matched a stored callback to this payment.`;
    const found: Note = { kind: by, detail, at: now, data: { callbackId } };
    await writeCallback(tx, {
      ...{ row, paymentId, body: null, changes: answered?.changes ?? null },
      notes: [...(answered?.notes ?? []), found],
    });
    if (answered !== null) written.add('payment');
    return true;
  });
}

/** Lists the callbacks to a merchant's accounts that match no payment, newest first. */
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

/** Records that the payment's workflow has received the callback. */
export async function markDelivered(db: LedgerClient, callbackId: string, now: Date): Promise<void> {
  await db.callback.updateMany({ where: { id: callbackId, deliveredAt: null }, data: { deliveredAt: now } });
}
