import { isUndecidedTooLong } from '../domain/answer.ts';
import type { ChannelAnswer } from '../domain/channel.ts';
import type { PaymentSnapshot } from '../domain/payment.ts';
import { Prisma } from '../generated/prisma/client.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import { toSnapshot } from './payment-facts.ts';
import type { Payment } from './rows.ts';
import { type Note, note } from './timeline.ts';

/**
 * Counts consecutive equal answers of the channel in the payment's row (`channelStateSince`, `channelAnsweredAt`,
 * `channelStateCount`). The timeline gets one entry for all of them when a different answer comes, or when the
 * payment ends without money.
 */

/**
 * True if the channel's answer equals its last answer. Rows that were written before nodrop counted answers have no
 * `channelStateSince`, and never match.
 */
const isSame = (
  { channelState, channelStateSince }: Pick<Payment, 'channelState' | 'channelStateSince'>,
  state: ChannelAnswer['state'],
): boolean => state === channelState && channelStateSince !== null;

/**
 * Counts an answer that equals the last answer. The answer is counted only if the payment's status has not changed
 * since the payment was read. It is not counted if a definite answer, an attention or an unreadable answer is on
 * record. The function runs one conditional UPDATE, without a lock and without a new row.
 * @param before the payment, read before the channel was queried
 * @returns null if the answer was not counted. The caller then calls recordAnswer.
 */
export async function repeatAnswer(
  db: LedgerClient,
  before: Payment,
  answer: ChannelAnswer,
  now: Date,
): Promise<PaymentSnapshot | null> {
  if (!isSame(before, answer.state) || isUndecidedTooLong(before, answer, now)) return null;
  // If a notice is open, the answer is not counted here, because recordAnswer must record the answer and clear the
  // notice.
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

/**
 * Returns the changes of the payment for an answer. If the answer differs from the last answer, also returns the
 * timeline entry for the earlier equal answers.
 */
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

/** Does the same as `answerTaken` for an answer that is known to differ from the last answer. */
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

/** Returns the timeline entry for the equal answers so far, if there were at least two. */
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
 * Writes the timeline entry for the equal answers of a payment that ends. After that, the count of equal answers
 * starts again with the last answer.
 * @returns the changed columns
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

/** Does the same as `answerTaken`, and also writes the timeline entry. @returns the changed columns */
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
