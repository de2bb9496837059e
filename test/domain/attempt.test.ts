import { describe, expect, test } from 'vitest';
import { isNewAnswer, isVerifiedAnswer, type RecordedAnswer } from '../../src/domain/answer.ts';
import { type AskedFor, decideAttempt, type PaymentAttempt } from '../../src/domain/attempt.ts';
import type { ChannelAnswer, PaidAnswer } from '../../src/domain/channel.ts';
import { PAYMENT_STATUSES } from '../../src/domain/states.ts';

const NOW = new Date('2026-11-27T00:00:00.000Z');
const inSeconds = (seconds: number) => new Date(NOW.getTime() + seconds * 1000);
const PAID: PaidAnswer = {
  ...{ state: 'paid', channelPaymentId: 'trx', amount: 1000, currency: 'CNY', paidAt: NOW.toISOString() },
};
const ORDER = { id: 'order', status: 'unpaid', expiresAt: null } as const;
const attempt = (id: string, change: Partial<PaymentAttempt> = {}): PaymentAttempt => ({
  ...{ id, channel: 'simulator', method: 'wallet', status: 'paying', orderUpdate: null, channelState: null },
  ...{ channelAnswer: null, payer: null, cancelRequestedAt: null, account: null },
  ...{ createdAt: NOW, expiresAt: inSeconds(600) },
  ...change,
});
const asked = (change: Partial<AskedFor> = {}): AskedFor => ({
  ...{ channel: 'simulator', method: 'wallet', payer: undefined, expiresInMs: 600_000 },
  askedAttempts: new Set(),
  ...change,
});

describe('a payment attempt', () => {
  test('has the requested expiry, but expires no later than its order', () => {
    expect(decideAttempt(ORDER, [], asked(), NOW)).toEqual({ expiresAt: inSeconds(600) });
    const ending = { ...ORDER, expiresAt: inSeconds(60) };
    expect(decideAttempt(ending, [], asked(), NOW)).toEqual({ expiresAt: inSeconds(60) });
  });

  test('that is live on the same channel with the same method is returned instead of a new attempt', () => {
    const live = attempt('live');
    expect(decideAttempt(ORDER, [live], asked(), NOW)).toEqual({ handedOut: live });
    const short = attempt('short', { createdAt: inSeconds(-9), expiresAt: inSeconds(10) });
    expect(decideAttempt(ORDER, [short], asked(), NOW)).toEqual({ handedOut: short });
  });

  test.each<[string, Partial<PaymentAttempt>]>([
    ['another method', { method: 'qr' }],
    ['less than 30 s left', { createdAt: inSeconds(-600), expiresAt: inSeconds(29) }],
    ['less than half of its minute left', { createdAt: inSeconds(-21), expiresAt: inSeconds(19) }],
    ['a requested cancellation', { cancelRequestedAt: NOW }],
    ['its expiry in the past', { expiresAt: NOW }],
  ])('that is live with %s is queried before another attempt is made', (_name, change) => {
    const live = attempt('live', change);
    expect(decideAttempt(ORDER, [live], asked(), NOW)).toEqual({ unasked: [live] });
  });

  test.each<[string, Parameters<typeof decideAttempt>[0], PaymentAttempt[], Partial<AskedFor>]>([
    ['order_already_paid', { ...ORDER, status: 'succeeded' }, [], {}],
    ['order_not_payable', { ...ORDER, status: 'closed' }, [], {}],
    ['order_not_payable', { ...ORDER, cancelRequestedAt: NOW }, [], {}],
    ['order_not_payable', { ...ORDER, expiresAt: NOW }, [], {}],
    ['order_not_payable', ORDER, [attempt('a', { status: 'closed' })], { attemptsAtMost: 1 }],
    ['attempt_unresolved', ORDER, [attempt('a', { status: 'closed', channelAnswer: PAID })], {}],
    ['attempt_unresolved', ORDER, [attempt('a', { status: 'succeeded', orderUpdate: 'review' })], {}],
    ['attempt_unresolved', ORDER, [attempt('a', { status: 'succeeded', orderUpdate: 'pending' })], {}],
    [
      'attempt_unresolved',
      ORDER,
      [attempt('a', { method: 'qr', channelState: 'processing' })],
      { askedAttempts: new Set(['a']) },
    ],
    ['attempt_unresolved', ORDER, [attempt('a', { expiresAt: NOW })], { askedAttempts: new Set(['a']) }],
    ['payer_differs', ORDER, [attempt('a', { payer: { id: 'one' } })], { payer: { id: 'two' } }],
  ])('is refused with the code %s', (code, order, attempts, change) => {
    expect(() => decideAttempt(order, attempts, asked(change), NOW)).toThrow(
      expect.objectContaining({ code }),
    );
  });
});

describe('answers on record', () => {
  const known = (answer: ChannelAnswer): RecordedAnswer => ({ ...answer, by: 'query' }) as RecordedAnswer;
  const back = (refundedAmount: number): PaidAnswer => ({ ...PAID, refundedAmount });
  const ASKED = { amount: 1000n, currency: 'CNY' };

  test('before the settlement, only an answer with a larger refunded amount replaces the recorded answer; after it, no answer does', () => {
    const cases: [PaidAnswer, ChannelAnswer, boolean][] = [
      [PAID, PAID, false],
      [PAID, back(1), true],
      [back(2), back(1), false],
      [PAID, { ...PAID, state: 'refunded' }, true],
      [PAID, { ...PAID, amount: 999, refundedAmount: 1 }, false],
      [PAID, { state: 'closed' }, false],
    ];
    for (const [before, answer, replaces] of cases) {
      for (const status of PAYMENT_STATUSES) {
        const expected = replaces && status !== 'succeeded';
        expect(isNewAnswer(status, known(before), answer)).toBe(expected);
        expect(isVerifiedAnswer(status, ASKED, known(before), answer)).toBe(expected);
      }
    }
  });

  test('a paid callback is recorded only with exactly the requested amount; a paid answer to a query is recorded with any amount', () => {
    for (const answer of [PAID, { ...PAID, amount: 999 }, { ...PAID, currency: 'USD' as const }]) {
      expect(isVerifiedAnswer('paying', ASKED, null, answer)).toBe(answer === PAID);
      expect(isVerifiedAnswer('closed', ASKED, known({ state: 'closed' }), answer)).toBe(answer === PAID);
      expect(isNewAnswer('paying', null, answer)).toBe(true);
      expect(isNewAnswer('closed', known({ state: 'closed' }), answer)).toBe(true);
    }
  });

  test.each(['closed', 'failed'] as const)(
    'the answer %s is recorded only if no definite answer is already recorded',
    (state) => {
      expect(isNewAnswer('paying', null, { state })).toBe(true);
      expect(isNewAnswer('closed', known({ state: 'closed' }), { state })).toBe(false);
      expect(isVerifiedAnswer('paying', ASKED, null, { state })).toBe(false);
    },
  );

  test.each(['unpaid', 'processing', 'unknown_trade'] as const)('the answer %s is not definite', (state) => {
    expect(isNewAnswer('paying', null, { state })).toBe(false);
    expect(isVerifiedAnswer('paying', ASKED, null, { state })).toBe(false);
  });
});
