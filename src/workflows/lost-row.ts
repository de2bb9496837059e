import { defineSearchAttributeKey } from '@temporalio/common';
import * as wf from '@temporalio/workflow';
import { ROW_LOST } from '../domain/attention.ts';
import { ROW_LOST_FAILURE } from '../domain/names.ts';
import { lostRowWait } from '../domain/schedule.ts';
import { searchAttributes } from './messages.ts';

/**
 * A row that is gone, after a restored backup or a lost commit: the workflow is all that still knows of it. It neither
 * fails nor retries every second; it looks again, ever more rarely, until the row is there.
 */

class RowLost extends Error {
  override readonly name = 'RowLost';
}

/** The row, when there is one. @throws what `whileRowLost` takes for a row that is gone. */
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

export interface LostRow {
  /** The row is gone, and is looked for again at this time, epoch ms. */
  readonly onLost: (nextLookAt: number) => void;
  /** How many messages have come in so far: with each the row is looked for at once. */
  readonly messages: () => number;
  /** Ends this run and begins the next, as the history is long enough. */
  readonly renew: () => Promise<never>;
}

/**
 * Reads the row and does the work with it. When the row is gone, now or at any step of the work, both begin anew after
 * 1 min, doubling to 1 h, or with the next message.
 */
export async function whileRowLost<Row>(
  load: () => Promise<Row | null>,
  work: (row: Row) => Promise<void>,
  { onLost, messages, renew }: LostRow,
): Promise<void> {
  for (let looks = 1; ; looks += 1) {
    let known = messages();
    try {
      const row = present(await load());
      looks = 1;
      show(false);
      return await work(row).finally(() => {
        known = messages();
      });
    } catch (error) {
      if (!isRowLost(error)) throw error;
    }
    if (wf.workflowInfo().continueAsNewSuggested && wf.allHandlersFinished()) await renew();
    show(true);
    const wait = lostRowWait(looks);
    onLost(Date.now() + wait);
    await wf.condition(() => messages() > known, wait, {
      summary: 'the row is gone: looked for again, ever more rarely',
    });
  }
}
