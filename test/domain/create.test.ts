import { expect, test } from 'vitest';
import { decideAttempt } from '../../src/domain/attempt.ts';
import { expiryAtChannel, mayRepeatCreate } from '../../src/domain/create.ts';
import { Refusal } from '../../src/domain/refusal.ts';
import { closeAgainAt } from '../../src/domain/schedule.ts';

/** Tests when a create or a close may be repeated, and how long a trade lives at the channel. */

const AT = Date.UTC(2026, 10, 27);
const HOUR = 3_600_000;
const at = (ms: number) => new Date(AT + ms);

test('a create request is repeated until one minute before the end of the channel’s idempotency horizon', () => {
  expect(mayRepeatCreate(at(0), null, at(1_000 * HOUR))).toBe(true);
  expect(mayRepeatCreate(at(0), 24 * HOUR, at(24 * HOUR - 60_001))).toBe(true);
  expect(mayRepeatCreate(at(0), 24 * HOUR, at(24 * HOUR - 60_000))).toBe(false);
});

test("a trade expires with its payment, or when the channel's shortest lifetime has passed since the first request, whichever is later", () => {
  const expiresAt = at(600_000).toISOString();
  expect(expiryAtChannel({ expiresAt }, at(5_000), 0)).toBe(expiresAt);
  expect(expiryAtChannel({ expiresAt }, at(5_000), 1_800_000)).toBe(at(1_805_000).toISOString());
});

test('if the channel names a time for the next close, nodrop waits until this time, but at least 5 s and at most 1 h', () => {
  expect(closeAgainAt(AT + 300_000, AT)).toBe(AT + 300_000);
  expect(closeAgainAt(AT - 1, AT)).toBe(AT + 5_000);
  expect(closeAgainAt(AT + 365 * 24 * HOUR, AT)).toBe(AT + HOUR);
});

test('a new attempt on the same channel waits for a late close of the previous attempt, and an attempt on another channel does not wait', () => {
  const attempt = {
    id: 'pay_1',
    channel: 'simulator',
    method: 'wallet',
    account: null,
    status: 'paying',
    orderUpdate: null,
    channelState: 'unpaid',
    channelAnswer: null,
    payer: null,
    createdAt: at(0),
    expiresAt: at(HOUR),
    cancelRequestedAt: at(1_000),
    closeNotBefore: at(300_000),
  } as const;
  const order = { id: 'o-1', status: 'paying', expiresAt: null } as const;
  const decide = (channel: string, ms: number) =>
    decideAttempt(
      order,
      [attempt],
      { channel, method: 'wallet', payer: undefined, expiresInMs: HOUR, askedAttempts: new Set(['pay_1']) },
      at(ms),
    );
  expect(decide('simulator2', 60_000)).toMatchObject({ expiresAt: at(HOUR + 60_000) });
  const refusal = (ms: number) => {
    try {
      return decide('simulator', ms);
    } catch (error) {
      return error as Refusal;
    }
  };
  expect(refusal(60_000)).toMatchObject({
    code: 'attempt_unresolved',
    retryAfterSeconds: 240,
    message: expect.stringContaining(at(300_000).toISOString()),
  });
  expect(refusal(60_000)).toBeInstanceOf(Refusal);
  expect(refusal(300_000)).toMatchObject({ code: 'attempt_unresolved', retryAfterSeconds: 5 });
});
