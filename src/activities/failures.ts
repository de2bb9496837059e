import { ApplicationFailure, type ApplicationFailureOptions } from '@temporalio/common';
import type { ActivityExecuteInput, ActivityInboundCallsInterceptor, Next } from '@temporalio/worker';
import { ChannelError, type ChannelErrorKind } from '../domain/channel.ts';
import { ROW_LOST_FAILURE } from '../domain/names.ts';
import { isRowGone } from '../ledger/client.ts';

/**
 * The one place where what went wrong becomes what Temporal does about it: every failure of an activity is made here.
 * None is ever non-retryable: not knowing is never a failure (P3). The one exception is a row that is gone: the workflow
 * looks for it.
 */

/** How soon work is tried again that our own trouble interrupted, as of our database. */
export const OWN_TROUBLE_RETRY_MS = 5_000;

const WORDS: Readonly<Record<string, string>> = {
  unpaid: 'not paid yet',
  processing: 'the payer has acted, not decided yet',
  unknown_trade: 'the payer has not opened it yet',
  closed: 'closed without money',
  failed: 'declined',
  needs_person: 'it waits for a person',
  ask_again: 'it failed, and is to be asked for again under the same number',
  not_listed:
    'a complete listing does not show the refund, which must not be asked for again before another one',
};

/** Without a stack: the Web UI prints it under the answer a support engineer wants to read. */
function withoutStack(options: ApplicationFailureOptions): ApplicationFailure {
  const failure = ApplicationFailure.create(options);
  failure.stack = '';
  return failure;
}

/** The channel answered, and there is nothing to do yet: ask again after `delayMs`. Not an error to anybody. */
export function notYet(channel: string, state: string, delayMs: number): ApplicationFailure {
  return withoutStack({
    message: `${channel} says: ${WORDS[state] ?? state}. Not an error; it is asked again on schedule.`,
    type: 'NotYet',
    nextRetryDelay: delayMs,
    category: 'BENIGN',
  });
}

/** The delivery is not due before `delayMs` have passed. Not an error to anybody. */
export function notDueYet(delayMs: number): ApplicationFailure {
  return withoutStack({
    message: 'It is not told before its time. Not an error.',
    type: 'NotYet',
    nextRetryDelay: Math.max(1, delayMs),
    category: 'BENIGN',
  });
}

/** The order service was told and did not agree: it is told again after `delayMs`. */
export function orderServiceDidNotAgree(lastAnswer: string, delayMs: number): ApplicationFailure {
  return withoutStack({
    message: `The order service has not agreed: ${lastAnswer} It is told again on schedule.`,
    type: 'NotAgreed',
    nextRetryDelay: Math.max(1, delayMs),
  });
}

/**
 * nodrop itself could not do it.
 * @param what what it could not do, "ask" or "tell"
 * @param delayMs when to try again; absent: the retry policy decides.
 */
export function ownTrouble(what: 'ask' | 'tell', error: unknown, delayMs?: number): ApplicationFailure {
  return ApplicationFailure.create({
    message: `nodrop could not ${what}: ${describeError(error)}`,
    type: 'Internal',
    ...(delayMs === undefined ? {} : { nextRetryDelay: delayMs }),
    ...(error instanceof Error ? { cause: error } : {}),
  });
}

/** A channel is heeded no longer than this: its refusals are not signed, and a made-up one must not silence a payment. */
const HEEDED_AT_MOST_MS = 5 * 60_000;

/** The call was not made, as its merchant has so many under way: it is to come again after `waitMs`. */
export class MerchantBusy extends Error {
  override readonly name = 'MerchantBusy';
  readonly waitMs: number;

  constructor(waitMs: number) {
    super('Many calls of this merchant are under way. Not an error; this one is made later.');
    this.waitMs = waitMs;
  }
}

const SAID: Partial<Record<ChannelErrorKind, string>> = {
  not_now: 'refuses for now',
  misconfigured: 'does not take our calls',
};

/**
 * No readable answer, a refusal that can end, or our own trouble while asking.
 * @param delayMs when to try again, unless the channel asked for longer (five minutes count at most); absent: the
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
  if (!(error instanceof ChannelError)) return ownTrouble('ask', error, delayMs);
  const wait = Math.max(delayMs ?? 0, Math.min(error.retryAfterMs ?? 0, HEEDED_AT_MOST_MS));
  const said = SAID[error.kind] ?? 'gave no readable answer';
  return withoutStack({
    message: `${channel} ${said}: ${describeError(error)}`,
    type: `Channel.${error.kind}`,
    ...(wait > 0 ? { nextRetryDelay: wait } : {}),
  });
}

/**
 * The ledger has no such row, after a restored backup or a lost commit: no error to try again every second. The workflow
 * waits ever longer instead, see src/workflows/lost-row.ts.
 */
export function rowLost(error: unknown): ApplicationFailure {
  return ApplicationFailure.create({
    message: `The ledger has no such row: ${describeError(error)}`,
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

export function describeError(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
