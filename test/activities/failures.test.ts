import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import {
  notDueYet,
  OWN_TROUBLE_RETRY_MS,
  orderServiceDidNotAgree,
  ownTrouble,
  unknownOutcome,
} from '../../src/activities/failures.ts';
import { ChannelError } from '../../src/domain/channel.ts';

// Tests the failure that Temporal gets from a failed activity. It contains the retry delay and the text for the Web UI.

const MINUTE = 60_000;
const YEAR = 365 * 24 * 60 * MINUTE;

test.each([
  [undefined, undefined, undefined],
  [undefined, 2_000, 2_000],
  [10_000, 2_000, 10_000],
  [10_000, 30_000, 30_000],
  // The channel's answer with this delay is not signed and could be forged, so a delay of a year must not stop the
  // queries.
  [undefined, YEAR, 5 * MINUTE],
  [10_000, YEAR, 5 * MINUTE],
  [10 * MINUTE, YEAR, 10 * MINUTE],
])(
  'if nodrop retries every %s ms and the channel asks it to wait %s ms, the wait is %s ms',
  (delayMs, retryAfterMs, expected) => {
    const error = new ChannelError(
      'rate_limited',
      'slow down',
      retryAfterMs === undefined ? {} : { retryAfterMs },
    );
    expect(unknownOutcome('simulator', error, delayMs).nextRetryDelay ?? undefined).toBe(expected);
  },
);

test("if a channel refuses a request temporarily, nodrop retries the request, and the failure contains the channel's reason", () => {
  const error = new ChannelError('not_now', 'BALANCE_TOO_LOW: no money');
  expect(unknownOutcome('simulator', error, 2_000)).toMatchObject({
    message: 'simulator refuses for now: BALANCE_TOO_LOW: no money',
    type: 'Channel.not_now',
    nextRetryDelay: 2_000,
    nonRetryable: false,
  });
});

test('if the order service has not acknowledged an event, the failure contains the last answer and the wait until the next attempt', () => {
  expect(orderServiceDidNotAgree('It answered 503.', 5_000)).toMatchObject({
    message: 'The order service has not agreed: It answered 503. The next attempt follows on schedule.',
    type: 'NotAgreed',
    nextRetryDelay: 5_000,
    nonRetryable: false,
    stack: '',
  });
});

test('a delivery attempt that starts too early ends with a benign failure and is retried at the planned time', () => {
  expect(notDueYet(5_000)).toMatchObject({
    type: 'NotYet',
    nextRetryDelay: 5_000,
    category: 'BENIGN',
    nonRetryable: false,
    stack: '',
  });
});

test.each([notDueYet(0), notDueYet(-5), orderServiceDidNotAgree('No.', -5)])(
  'a retry delay of zero or less becomes 1 ms: %s',
  ({ nextRetryDelay }) => {
    expect(nextRetryDelay).toBe(1);
  },
);

test('the failure for an internal error names what failed, and keeps the cause', () => {
  const error = new Error('the database is away');
  expect(ownTrouble('deliver the event', error, OWN_TROUBLE_RETRY_MS)).toMatchObject({
    message: 'nodrop could not deliver the event: the database is away',
    type: 'Internal',
    nextRetryDelay: OWN_TROUBLE_RETRY_MS,
    nonRetryable: false,
    cause: error,
  });
});

test('an internal error during a channel call is not reported as an error of the channel', () => {
  const failure = unknownOutcome('simulator', new Error('the database is away'));
  expect(failure).toMatchObject({
    message: 'nodrop could not call the channel: the database is away',
    type: 'Internal',
  });
  expect(failure.nextRetryDelay ?? undefined).toBeUndefined();
});

test('only failures.ts creates an ApplicationFailure', () => {
  const src = new URL('../../src/', import.meta.url);
  const makers = readdirSync(src, { recursive: true })
    .map(String)
    .filter((name) => name.endsWith('.ts') && !name.startsWith('generated'))
    .filter((name) =>
      /\bApplicationFailure\.\w+\(|\bnew (\w+\.)?ApplicationFailure\b/.test(
        readFileSync(new URL(name, src), 'utf8'),
      ),
    );
  expect(makers).toEqual(['activities/failures.ts']);
});
