import { isUndecidedTooLong } from '../domain/answer.ts';
import type { ChannelAnswer } from '../domain/channel.ts';
import type { PaymentSnapshot } from '../domain/payment.ts';
import { Prisma } from '../generated/prisma/client.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import { toSnapshot } from './payment-facts.ts';
import type { Payment } from './rows.ts';
import { type Note, note } from './timeline.ts';

/**
 * Equal answers of the channel, one after another: they are counted on the payment (`channelStateSince`,
 * `channelAnsweredAt`, `channelStateCount`), and the timeline gets one entry of them when another answer comes, or when the
 * payment ends without money.
 */

/** It is the last one again. Since when there were equal ones is not known of rows from before they were counted. */
const isSame = (
  { channelState, channelStateSince }: Pick<Payment, 'channelState' | 'channelStateSince'>,
  state: ChannelAnswer['state'],
): boolean => state === channelState && channelStateSince !== null;

/**
 * Counts an answer that says nothing new: the same as the last one, of a payment in the status it was read with, without a
 * definite answer, an attention or a silence. One conditional UPDATE, without a lock and without a new row.
 * @param before as it was read before the channel was asked
 * @returns null when there is more to do: recordAnswer does it.
 */
export async function repeatAnswer(
  db: LedgerClient,
  before: Payment,
  answer: ChannelAnswer,
  now: Date,
): Promise<PaymentSnapshot | null> {
  if (!isSame(before, answer.state) || isUndecidedTooLong(before, answer, now)) return null;
  // That the channel is asked for its news is over with the answer.
  if (before.noticedAt !== null) return null;
  const [repeated] = await db.payment.updateManyAndReturn({
    where: {
      id: before.id,
      status: before.status,
      channelState: answer.state,
      channelAnswer: { equals: Prisma.DbNull },
      channelErrorSince: null,
      attention: null,
    },
    data: { channelAnsweredAt: now, channelStateCount: { increment: 1 } },
  });
  return repeated === undefined ? null : toSnapshot(repeated, now);
}

/** What an answer changes of the payment, and the entry of those before it that were equal, when it is another one. */
export function answerTaken(
  payment: Payment,
  state: ChannelAnswer['state'],
  answeredAt: Date,
): {
  changes:
    | ReturnType<typeof otherAnswer>['changes']
    | { channelAnsweredAt: Date; channelStateCount: { increment: number } };
  notes: Note[];
} {
  if (isSame(payment, state))
    return { changes: { channelAnsweredAt: answeredAt, channelStateCount: { increment: 1 } }, notes: [] };
  return otherAnswer(payment, state, answeredAt);
}

/** The same for another answer than the last one. */
export function otherAnswer(
  payment: Payment,
  state: ChannelAnswer['state'],
  answeredAt: Date,
): {
  changes: Required<
    Pick<Payment, 'channelState' | 'channelAnsweredAt' | 'channelStateSince' | 'channelStateCount'>
  >;
  notes: Note[];
} {
  const changes = {
    channelState: state,
    channelAnsweredAt: answeredAt,
    channelStateSince: answeredAt,
    channelStateCount: 1,
  };
  return { changes, notes: equalAnswers(payment, answeredAt) };
}

/** The entry of equal answers so far, when there were two at least. */
function equalAnswers(
  {
    channelState,
    channelStateSince: first,
    channelAnsweredAt: last,
    channelStateCount: count,
  }: Pick<Payment, 'channelState' | 'channelStateSince' | 'channelAnsweredAt' | 'channelStateCount'>,
  at: Date,
): Note[] {
  if (count <= 1 || first === null || last === null) return [];
  return [
    {
      kind: 'query',
      detail: `The channel answered ${channelState} ${count} times.`,
      at,
      data: { state: channelState, first: first.toISOString(), last: last.toISOString(), count },
    },
  ];
}

/**
 * The entry of equal answers of a payment that ends, written. Those that come afterwards are counted from the last one.
 * @returns the columns
 */
export async function endAnswers(
  tx: LedgerTx,
  payment: Payment,
  at: Date,
): Promise<Partial<Pick<Payment, 'channelStateSince' | 'channelStateCount'>>> {
  const notes = equalAnswers(payment, at);
  await write(tx, payment.id, notes);
  return notes.length === 0 ? {} : { channelStateSince: payment.channelAnsweredAt, channelStateCount: 1 };
}

async function write(tx: LedgerTx, paymentId: string, notes: readonly Note[]): Promise<void> {
  for (const { kind, detail, at, data } of notes) await note(tx, paymentId, kind, detail, at, data);
}

/** What `answerTaken` says, with its entry written. @returns the columns */
export async function takeAnswer(
  tx: LedgerTx,
  payment: Payment,
  state: ChannelAnswer['state'],
  answeredAt: Date,
): Promise<Prisma.PaymentUpdateInput> {
  const { changes, notes } = answerTaken(payment, state, answeredAt);
  await write(tx, payment.id, notes);
  return changes;
}
