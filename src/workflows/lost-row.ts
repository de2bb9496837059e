import { defineSearchAttributeKey } from '@temporalio/common';
import * as wf from '@temporalio/workflow';
import { ROW_LOST } from '../domain/attention.ts';
import { ROW_LOST_FAILURE } from '../domain/names.ts';
import { lostRowWait, unreadableRowWait } from '../domain/schedule.ts';
import { isLocalFailure } from './local-activities.ts';
import { searchAttributes } from './messages.ts';

/**
 * A row that is gone, after a restored backup or a lost commit: the workflow is all that still knows of it. It neither
 * fails nor retries every second; it looks again, ever more rarely, until the row is there. A row that cannot be read,
 * as the database is away, is looked for in the same way, and sooner.
 */

/** Why the workflow has no row. */
export type Missing = 'lost' | 'unreadable';

class RowLost extends Error {
  override readonly name = 'RowLost';
}

class RowUnreadable extends Error {
  override readonly name = 'RowUnreadable';
}

/** Reads a row by a local activity. @throws what `whileRowMissing` takes for a row that cannot be read. */
export async function readRow<Row>(load: () => Promise<Row>): Promise<Row> {
  try {
    return await load();
  } catch (error) {
    if (!isLocalFailure(error)) throw error;
    throw new RowUnreadable('The row cannot be read.', { cause: error });
  }
}

/** The row, when there is one. @throws what `whileRowMissing` takes for a row that is gone. */
export function present<Row>(row: Row | null): Row {
  if (row === null) throw new RowLost('The ledger has no such row.');
  return row;
}

/** True when a read found no row, or an activity failed as there is none. */
export function isRowLost(error: unknown): boolean {
  if (error instanceof RowLost) return true;
  return (
    error instanceof wf.ActivityFailure &&
    error.cause instanceof wf.ApplicationFailure &&
    error.cause.type === ROW_LOST_FAILURE
  );
}

const ATTENTION = defineSearchAttributeKey(searchAttributes.attention, 'KEYWORD');

/** Also of a run before this one. */
function show(isLost: boolean): void {
  const isShown = wf.workflowInfo().typedSearchAttributes.get(ATTENTION) === ROW_LOST;
  if (isShown !== isLost) wf.upsertSearchAttributes([{ key: ATTENTION, value: isLost ? ROW_LOST : null }]);
}

export interface MissingRow {
  /** There is no row, and it is looked for again at this time, epoch ms. */
  readonly onMissing: (why: Missing, nextLookAt: number) => void;
  /** How many messages have come in so far: with each the row is looked for at once. */
  readonly messages: () => number;
  /** False while something is kept that is not in the ledger: this run has to go on. */
  readonly mayRenew: () => boolean;
  /** Ends this run and begins the next, as the history is long enough. */
  readonly renew: () => Promise<never>;
}

/**
 * Reads the row and does the work with it. When the row is gone or cannot be read, now or at any step of the work, both
 * begin anew with the next message, or after a wait that doubles: from 1 min to 1 h for a row that is gone, from 2 s to
 * 1 min for one that cannot be read.
 */
export async function whileRowMissing<Row>(
  load: () => Promise<Row>,
  work: (row: Row) => Promise<void>,
  { onMissing, messages, mayRenew, renew }: MissingRow,
): Promise<void> {
  for (let looks = 1; ; looks += 1) {
    let known = messages();
    let why: Missing;
    try {
      const row = await load();
      looks = 1;
      show(false);
      return await work(row).finally(() => {
        known = messages();
      });
    } catch (error) {
      if (isRowLost(error)) why = 'lost';
      else if (error instanceof RowUnreadable) why = 'unreadable';
      else throw error;
    }
    if (wf.workflowInfo().continueAsNewSuggested && wf.allHandlersFinished() && mayRenew()) await renew();
    if (why === 'lost') show(true);
    const wait = why === 'lost' ? lostRowWait(looks) : unreadableRowWait(looks);
    onMissing(why, Date.now() + wait);
    await wf.condition(() => messages() > known, wait, {
      summary: `the row ${why === 'lost' ? 'is gone' : 'cannot be read'}: looked for again, ever more rarely`,
    });
  }
}
