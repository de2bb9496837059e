import { defineSearchAttributeKey } from '@temporalio/common';
import * as wf from '@temporalio/workflow';
import { ROW_LOST } from '../domain/attention.ts';
import { ROW_LOST_FAILURE } from '../domain/names.ts';
import { lostRowWait, unreadableRowWait } from '../domain/schedule.ts';
import { isLocalFailure } from './local-activities.ts';
import { searchAttributes } from './messages.ts';

/**
 * After a restored backup or a lost commit, a workflow's row may be missing in the ledger. The workflow is then the
 * only record of the row. Such a workflow does not fail. It checks for the row at growing intervals until the row is
 * restored. If the database cannot be read, the workflow tries again at shorter intervals.
 */

/**
 * The reason why the workflow has no row. It is `lost` if the ledger has no such row, and `unreadable` if the
 * database cannot be read.
 */
export type Missing = 'lost' | 'unreadable';

class RowLost extends Error {
  override readonly name = 'RowLost';
}

class RowUnreadable extends Error {
  override readonly name = 'RowUnreadable';
}

/** Reads a row with a local activity. @throws an error that `whileRowMissing` handles as `unreadable`. */
export async function readRow<Row>(load: () => Promise<Row>): Promise<Row> {
  try {
    return await load();
  } catch (error) {
    if (!isLocalFailure(error)) throw error;
    throw new RowUnreadable('The row cannot be read.', { cause: error });
  }
}

/** Returns the row unless it is null. @throws an error that `whileRowMissing` handles as `lost`. */
export function present<Row>(row: Row | null): Row {
  if (row === null) throw new RowLost('The ledger has no such row.');
  return row;
}

/** True if a read found no row, or if an activity failed because the ledger has no row. */
export function isRowLost(error: unknown): boolean {
  if (error instanceof RowLost) return true;
  return (
    error instanceof wf.ActivityFailure &&
    error.cause instanceof wf.ApplicationFailure &&
    error.cause.type === ROW_LOST_FAILURE
  );
}

const ATTENTION = defineSearchAttributeKey(searchAttributes.attention, 'KEYWORD');

/**
 * Sets or clears the attention `row_lost` in the workflow's search attribute. An earlier run may already have set the
 * attention.
 */
function show(isLost: boolean): void {
  const isShown = wf.workflowInfo().typedSearchAttributes.get(ATTENTION) === ROW_LOST;
  if (isShown !== isLost) wf.upsertSearchAttributes([{ key: ATTENTION, value: isLost ? ROW_LOST : null }]);
}

export interface MissingRow {
  /** Called when the row is missing. `nextLookAt` is the time of the next read, epoch ms. */
  readonly onMissing: (why: Missing, nextLookAt: number) => void;
  /** How many messages the run has received so far. Each new message makes the workflow read the row immediately. */
  readonly messages: () => number;
  /** False while the run holds data that is not in the ledger. Such a run must not continue as new. */
  readonly mayRenew: () => boolean;
  /** Continues the workflow as new. Called when the run's history is long. */
  readonly renew: () => Promise<never>;
}

/**
 * Reads the row and does the work with it. If the row is lost or unreadable, before or during the work, the function
 * waits and then starts again. The wait ends early when a message arrives. The wait doubles each time, from 1 min to 1
 * h for a lost row, and from 2 s to 1 min for an unreadable row.
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
      summary: `the row ${why === 'lost' ? 'is lost' : 'cannot be read'}: wait before the next read`,
    });
  }
}
