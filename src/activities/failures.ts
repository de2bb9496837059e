import { ApplicationFailure, type ApplicationFailureOptions } from '@temporalio/common';
import type { ActivityExecuteInput, ActivityInboundCallsInterceptor, Next } from '@temporalio/worker';
import { ChannelError, type ChannelErrorKind } from '../domain/channel.ts';
import { ROW_LOST_FAILURE } from '../domain/names.ts';
import { isRowGone } from '../ledger/client.ts';

/**
 * Makes the ApplicationFailure of every failed activity. It decides how Temporal retries the activity. Temporal retries
 * after every failure except a lost row, because nodrop never treats an unknown outcome as a failed payment (P3). A
 * lost row is the exception, because the workflow itself waits for the row.
 */

/** Retry delay after an internal error, for example of nodrop's database. */
export const OWN_TROUBLE_RETRY_MS = 5_000;

const WORDS: Readonly<Record<string, string>> = {
  unpaid: 'not paid yet',
  processing: 'the payer has acted, and the channel has not decided yet',
  unknown_trade: 'the payer has not opened it yet',
  closed: 'closed without payment',
  failed: 'declined',
  needs_person: 'a person must act at the channel',
  ask_again: 'the refund failed, and must be requested again under the same number',
  not_listed:
    'a complete listing does not show the refund; a second listing must confirm that before a new request',
};

/** Makes a failure without a stack, because the Web UI would print the stack below the message. */
function withoutStack(options: ApplicationFailureOptions): ApplicationFailure {
  const failure = ApplicationFailure.create(options);
  failure.stack = '';
  return failure;
}

/**
 * The channel answered, and its answer requires no action yet. The next attempt follows after `delayMs`. Not an error.
 */
export function notYet(channel: string, state: string, delayMs: number): ApplicationFailure {
  return withoutStack({
    message: `${channel} says: ${WORDS[state] ?? state}. Not an error; the next attempt follows on schedule.`,
    type: 'NotYet',
    nextRetryDelay: delayMs,
    category: 'BENIGN',
  });
}

/** The work is not due before `delayMs` have passed. Not an error. */
export function notDueYet(delayMs: number): ApplicationFailure {
  return withoutStack({
    message: 'The next attempt is not due yet. Not an error.',
    type: 'NotYet',
    nextRetryDelay: Math.max(1, delayMs),
    category: 'BENIGN',
  });
}

/** The event was sent, and the order service did not agree. The next attempt follows after `delayMs`. */
export function orderServiceDidNotAgree(lastAnswer: string, delayMs: number): ApplicationFailure {
  return withoutStack({
    message: `The order service has not agreed: ${lastAnswer} The next attempt follows on schedule.`,
    type: 'NotAgreed',
    nextRetryDelay: Math.max(1, delayMs),
  });
}

/**
 * Makes the failure for an internal error of nodrop.
 * @param what names the work that nodrop could not do
 * @param delayMs the retry delay; if absent, the retry policy decides.
 */
export function ownTrouble(
  what: 'call the channel' | 'deliver the event',
  error: unknown,
  delayMs?: number,
): ApplicationFailure {
  return ApplicationFailure.create({
    message: `nodrop could not ${what}: ${describeError(error)}`,
    type: 'Internal',
    ...(delayMs === undefined ? {} : { nextRetryDelay: delayMs }),
    ...(error instanceof Error ? { cause: error } : {}),
  });
}

/**
 * The longest delay that nodrop accepts from a channel. A channel's refusals are not signed, and a forged refusal must
 * not stop the queries.
 */
const HEEDED_AT_MOST_MS = 5 * 60_000;

/**
 * Thrown when a call was not made, because the merchant has too many calls in flight. The call is made after
 * `waitMs`.
 */
export class MerchantBusy extends Error {
  override readonly name = 'MerchantBusy';
  readonly waitMs: number;

  constructor(waitMs: number) {
    super('Too many calls of this merchant are in flight. Not an error; this call is made later.');
    this.waitMs = waitMs;
  }
}

const SAID: Partial<Record<ChannelErrorKind, string>> = {
  not_now: 'refuses for now',
  misconfigured: 'rejects our credentials, permissions or clock',
};

/**
 * Makes the failure of a channel call whose outcome is unknown. The channel gave no readable answer or refused
 * temporarily, or an internal error occurred.
 * @param delayMs the retry delay, unless the channel asked for a longer delay (5 min at most). If it is absent, the
 *   retry policy decides.
 */
export function unknownOutcome(channel: string, error: unknown, delayMs?: number): ApplicationFailure {
  if (isRowGone(error)) return rowLost(error);
  if (error instanceof MerchantBusy) {
    return withoutStack({
      message: error.message,
      type: error.name,
      nextRetryDelay: Math.max(delayMs ?? 0, error.waitMs),
      category: 'BENIGN',
    });
  }
  if (!(error instanceof ChannelError)) return ownTrouble('call the channel', error, delayMs);
  const wait = Math.max(delayMs ?? 0, Math.min(error.retryAfterMs ?? 0, HEEDED_AT_MOST_MS));
  const said = SAID[error.kind] ?? 'gave no readable answer';
  return withoutStack({
    message: `${channel} ${said}: ${describeError(error)}`,
    type: `Channel.${error.kind}`,
    ...(wait > 0 ? { nextRetryDelay: wait } : {}),
  });
}

/**
 * Makes the failure for a row that is missing in the ledger, because a backup was restored or a commit was lost. The
 * failure is not retryable, because the workflow itself checks for the row at growing intervals, see
 * src/workflows/lost-row.ts.
 */
export function rowLost(error: unknown): ApplicationFailure {
  return ApplicationFailure.create({
    message: `The ledger has no such row: ${describeError(error)}`,
    type: ROW_LOST_FAILURE,
    nonRetryable: true,
  });
}

/** An interceptor for all activities of a worker. It turns the error for a missing row into the failure `RowLost`. */
export const lostRows: ActivityInboundCallsInterceptor = {
  async execute(input: ActivityExecuteInput, next: Next<ActivityInboundCallsInterceptor, 'execute'>) {
    try {
      return await next(input);
    } catch (error) {
      throw isRowGone(error) ? rowLost(error) : error;
    }
  },
};

export function describeError(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
