import { expect, test } from 'vitest';
import { unknownOutcome } from '../../src/activities/failures.ts';
import { ChannelError } from '../../src/domain/channel.ts';

// When a channel that gave no readable answer is asked again.

const MINUTE = 60_000;
const YEAR = 365 * 24 * 60 * MINUTE;

test.each([
  [undefined, undefined, undefined],
  [undefined, 2_000, 2_000],
  [10_000, 2_000, 10_000],
  [10_000, 30_000, 30_000],
  // Not signed, so that a made-up one must not silence a payment.
  [undefined, YEAR, 5 * MINUTE],
  [10_000, YEAR, 5 * MINUTE],
  [10 * MINUTE, YEAR, 10 * MINUTE],
])('asked every %s ms, told to wait %s ms: %s ms', (delayMs, retryAfterMs, expected) => {
  const error = new ChannelError(
    'rate_limited',
    'slow down',
    retryAfterMs === undefined ? {} : { retryAfterMs },
  );
  expect(unknownOutcome('simulator', error, delayMs).nextRetryDelay ?? undefined).toBe(expected);
});
