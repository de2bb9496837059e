import { describe, expect, test } from 'vitest';
import type { PaymentSnapshot } from '../../src/domain/payment.ts';
import {
  closeLag,
  isToEnd,
  lateWaits,
  lateWatchEnd,
  parseSchedule,
  queryPlan,
  TIGHT_PHASE_MS,
} from '../../src/domain/schedule.ts';

// Tests examples of the queries that are planned for single payments. test/domain/properties.test.ts tests the rules
// for all schedules.

const CREATED = Date.parse('2026-01-01T00:00:00Z');
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const EXPIRES = CREATED + 15 * MINUTE;
const SCHEDULE = parseSchedule('10s*2,5m');

function payment(changes: Partial<PaymentSnapshot> = {}): PaymentSnapshot {
  return {
    id: 'pay_1',
    orderId: 'o-1',
    channel: 'simulator',
    amount: 100,
    currency: 'CNY',
    status: 'paying',
    orderUpdate: null,
    createdAt: CREATED,
    expiresAt: EXPIRES,
    endedAt: null,
    cancelRequested: false,
    nextActionReady: true,
    channelState: 'unpaid',
    channelAnsweredAt: CREATED,
    channelErrorSince: null,
    answer: null,
    attention: null,
    ...changes,
  };
}

const closed = (changes: Partial<PaymentSnapshot> = {}) =>
  payment({ status: 'closed', endedAt: EXPIRES, answer: 'closed', ...changes });

describe('queryPlan', () => {
  test('follows the schedule from the creation of a live payment until its expiry', () => {
    const plan = queryPlan(payment(), SCHEDULE, CREATED + 4_000);
    expect(plan).toMatchObject({
      waits: [6_000, 10_000, 5 * MINUTE, 5 * MINUTE],
      endsAt: EXPIRES,
      whileProcessingEveryMs: null,
    });
    expect(plan.afterHint.slice(0, TIGHT_PHASE_MS.length)).toEqual(TIGHT_PHASE_MS);
  });

  test('contains no query shortly before the expiry', () => {
    expect(queryPlan(payment(), SCHEDULE, EXPIRES - 1_000)).toMatchObject({ waits: [], endsAt: EXPIRES });
  });

  test.each([
    ['past its expiry', {}, EXPIRES],
    ['whose cancellation was requested', { cancelRequested: true }, CREATED + MINUTE],
  ])('has no end while the channel is processing a payment %s', (_, changes, now) => {
    const row = payment({ channelState: 'processing', ...changes });
    expect(queryPlan(row, SCHEDULE, now)).toMatchObject({
      waits: [5 * MINUTE],
      afterHint: [...TIGHT_PHASE_MS, 5 * MINUTE],
      endsAt: Number.POSITIVE_INFINITY,
      whileProcessingEveryMs: 5 * MINUTE,
    });
  });

  test('is the late watch if the payment has ended, even after a hint', () => {
    const waits = [10 * MINUTE, 50 * MINUTE, 5 * HOUR, 18 * HOUR];
    expect(queryPlan(closed(), SCHEDULE, EXPIRES)).toEqual({
      waits,
      afterHint: waits,
      endsAt: Number.POSITIVE_INFINITY,
      whileProcessingEveryMs: null,
      summary: 'late watch: the payment is closed, but money may still arrive',
    });
  });
});

describe('the waits after the end of the late watch', () => {
  const end = lateWatchEnd(EXPIRES, EXPIRES);

  test('there is no wait if the channel has answered at the end of the late watch', () => {
    expect(lateWaits(closed({ channelAnsweredAt: end }), end)).toEqual([]);
  });

  test('the only wait is one hour while the channel is silent', () => {
    expect(lateWaits(closed({ channelAnsweredAt: EXPIRES, channelErrorSince: end }), end)).toEqual([HOUR]);
  });

  test.each([null, EXPIRES])(
    'the only wait is one second if the last query was missed and the last answer was at %s',
    (at) => {
      expect(lateWaits(closed({ channelAnsweredAt: at }), end + HOUR)).toEqual([1_000]);
    },
  );
});

test.each([
  ['before its expiry', false, {}, EXPIRES - 1],
  ['at its expiry', true, {}, EXPIRES],
  ['whose cancellation was requested', true, { cancelRequested: true }, CREATED],
  ['that the channel is processing', false, { cancelRequested: true, channelState: 'processing' }, EXPIRES],
  ['that is paid', false, { status: 'succeeded' as const }, EXPIRES],
])('whether a payment %s must end: %s', (_, expected, changes, now) => {
  expect(isToEnd(payment(changes), now)).toBe(expected);
});

test.each([
  [0, 2_000],
  [1, 4_000],
  [7, 256_000],
  [20, 5 * MINUTE],
])(
  'after %s contradictions between a close and a query, nodrop waits %s ms before the next query',
  (contradictions, expected) => {
    expect(closeLag(contradictions)).toBe(expected);
  },
);
