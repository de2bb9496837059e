import { ApplicationFailure } from '@temporalio/common';
import type { ActivityExecuteInput, ActivityInboundCallsInterceptor, Next } from '@temporalio/worker';
import { ChannelError } from '../domain/channel.ts';
import { ROW_LOST_FAILURE } from '../domain/names.ts';
import { isRowGone } from '../ledger/client.ts';

/**
 * The one place where what went wrong at a channel becomes what Temporal does about it. Nothing here is ever
 * non-retryable: not knowing is never a failure (P3). The one exception is a row that is gone: the workflow looks for it.
 */

const WORDS: Readonly<Record<string, string>> = {
  unpaid: 'not paid yet',
  processing: 'the payer has acted, not decided yet',
  unknown_trade: 'the payer has not opened it yet',
  closed: 'closed without money',
  failed: 'declined',
};

/** The channel answered, and there is nothing to do yet: ask again after `delayMs`. Not an error to anybody. */
export function notYet(channel: string, state: string, delayMs: number): ApplicationFailure {
  const failure = ApplicationFailure.create({
    message: `${channel} says: ${WORDS[state] ?? state}. Not an error; it is asked again on schedule.`,
    type: 'NotYet',
    nextRetryDelay: delayMs,
    category: 'BENIGN',
  });
  // The Web UI prints the stack under the answer a support engineer wants to read.
  failure.stack = '';
  return failure;
}

/** A channel is heeded no longer than this: its refusals are not signed, and a made-up one must not silence a payment. */
const HEEDED_AT_MOST_MS = 5 * 60_000;

/** The call was not made, as its merchant has so many under way: it is to come again after `waitMs`. */
export class TurnedAway extends Error {
  override readonly name = 'TurnedAway';
  readonly waitMs: number;

  constructor(waitMs: number) {
    super('Many calls of this merchant are under way. Not an error; this one is made later.');
    this.waitMs = waitMs;
  }
}

/**
 * No readable answer, or our own trouble while asking.
 * @param delayMs when to try again, unless the channel asked for longer (five minutes count at most); absent: the
 *   retry policy decides.
 */
export function unknownOutcome(channel: string, error: unknown, delayMs?: number): ApplicationFailure {
  if (isRowGone(error)) return rowLost(error);
  if (error instanceof TurnedAway) {
    return ApplicationFailure.create({
      message: error.message,
      type: error.name,
      nextRetryDelay: Math.max(delayMs ?? 0, error.waitMs),
      category: 'BENIGN',
    });
  }
  const ofChannel = error instanceof ChannelError;
  const asked = Math.min((ofChannel ? error.retryAfterMs : undefined) ?? 0, HEEDED_AT_MOST_MS);
  const wait = Math.max(delayMs ?? 0, asked);
  const failure = ApplicationFailure.create({
    message: `${ofChannel ? `${channel} gave no readable answer` : 'nodrop could not ask'}: ${reasonOf(error)}`,
    type: ofChannel ? `Channel.${error.kind}` : 'Internal',
    ...(wait > 0 ? { nextRetryDelay: wait } : {}),
  });
  if (ofChannel) failure.stack = '';
  return failure;
}

/**
 * The ledger has no such row, after a restored backup or a lost commit: no error to try again every second. The workflow
 * waits ever longer instead, see src/workflows/lost-row.ts.
 */
export function rowLost(error: unknown): ApplicationFailure {
  return ApplicationFailure.create({
    message: `The ledger has no such row: ${reasonOf(error)}`,
    type: ROW_LOST_FAILURE,
    nonRetryable: true,
  });
}

/** Makes a row that is gone the same failure in every activity of a worker. */
export const lostRows: ActivityInboundCallsInterceptor = {
  async execute(input: ActivityExecuteInput, next: Next<ActivityInboundCallsInterceptor, 'execute'>) {
    try {
      return await next(input);
    } catch (error) {
      throw isRowGone(error) ? rowLost(error) : error;
    }
  },
};

export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
