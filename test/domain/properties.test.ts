import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { PaidAnswer } from '../../src/domain/channel.ts';
import { decideSuccess, type SuccessCase } from '../../src/domain/decision.ts';
import {
  exponentOf,
  fromDecimal,
  isAmount,
  isCurrency,
  MAX_AMOUNT,
  toDecimal,
} from '../../src/domain/money.ts';
import { REFUND_QUERY_MS } from '../../src/domain/refund.ts';
import {
  DEFAULT_QUERY_SCHEDULE,
  endlessWaits,
  lateWatch,
  lateWatchEnd,
  nextWait,
  parseSchedule,
  remainingWaits,
  TIGHT_PHASE_MS,
  waitsAfterHint,
  waitsUntil,
} from '../../src/domain/schedule.ts';
import {
  canOrderGo,
  canPaymentGo,
  isEnded,
  isFinal,
  isLive,
  ORDER_STATUSES,
  ORDER_UPDATES,
  PAYMENT_STATUSES,
} from '../../src/domain/states.ts';

/** Property-based tests of the pure rules in the domain. fast-check generates the inputs. */

const paymentStatus = fc.constantFrom(...PAYMENT_STATUSES);
const orderStatus = fc.constantFrom(...ORDER_STATUSES);
const amount = fc.integer({ min: 1, max: MAX_AMOUNT });
const currency = fc.constantFrom('CNY', 'JPY', 'KWD', 'USD', 'CLF', 'XOF');

describe('states', () => {
  test('a succeeded payment never changes its status, and an ended payment never becomes live again', () => {
    fc.assert(
      fc.property(fc.array(paymentStatus, { maxLength: 12 }), (wishes) => {
        let now: (typeof PAYMENT_STATUSES)[number] = 'created';
        let ended = false;
        for (const wish of wishes) {
          if (!canPaymentGo(now, wish)) continue;
          expect(now).not.toBe('succeeded');
          if (ended) expect(wish).toBe('succeeded');
          now = wish;
          ended ||= isEnded(now);
        }
      }),
    );
  });

  test('an order can become succeeded only if it is unpaid or paying, and refunded only if it is succeeded', () => {
    fc.assert(
      fc.property(orderStatus, orderStatus, (from, to) => {
        if (to === 'succeeded' && canOrderGo(from, to)) expect(['unpaid', 'paying']).toContain(from);
        if (to === 'refunded' && canOrderGo(from, to)) expect(from).toBe('succeeded');
        expect(canOrderGo(from, from)).toBe(false);
      }),
    );
  });

  test('each payment is either live, ended or succeeded, and a live payment is never final', () => {
    fc.assert(
      fc.property(paymentStatus, fc.constantFrom(null, ...ORDER_UPDATES), (status, update) => {
        expect([isLive(status), isEnded(status), status === 'succeeded'].filter(Boolean)).toHaveLength(1);
        if (isLive(status) || update === 'pending' || (status === 'succeeded' && update === null)) {
          expect(isFinal(status, update)).toBe(isEnded(status));
        }
      }),
    );
  });
});

describe('money', () => {
  test('an amount is the same after a conversion to a decimal string and back', () => {
    fc.assert(
      fc.property(amount, currency, (minor, code) => {
        const text = toDecimal(minor, code);
        expect(fromDecimal(text, code)).toBe(minor);
        expect(text.split('.')[1]?.length ?? 0).toBe(exponentOf(code));
      }),
    );
  });

  test('an amount is an integer from 1 to 2^53-1, and every other value is rejected', () => {
    fc.assert(
      fc.property(fc.anything(), (value) => {
        const valid =
          typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MAX_AMOUNT;
        expect(isAmount(value)).toBe(valid);
      }),
    );
  });

  test('a decimal string becomes an amount only if it is plain and fits the decimal places of the currency', () => {
    fc.assert(
      fc.property(fc.string(), currency, (text, code) => {
        if (/^\d{1,17}(\.\d+)?$/.test(text)) return;
        expect(() => fromDecimal(text, code)).toThrow(RangeError);
      }),
    );
    expect(() => fromDecimal('1.001', 'CNY')).toThrow(RangeError);
    expect(() => fromDecimal('0.00', 'CNY')).toThrow(RangeError);
    expect(fromDecimal('10.500', 'CNY')).toBe(1050);
    expect(['XAU', 'XXX', 'cny', 'ABC', ''].filter(isCurrency)).toEqual([]);
  });
});

describe('schedule', () => {
  const schedule = fc.array(fc.integer({ min: 1, max: 600_000 }), { minLength: 1, maxLength: 30 });
  const sum = (waits: readonly number[]) => waits.reduce((total, wait) => total + wait, 0);

  test('if a schedule is interrupted and continued, its queries have the same times as without the interruption', () => {
    fc.assert(
      fc.property(schedule, fc.integer({ min: 0, max: 3_600_000 }), (waits, elapsed) => {
        const horizon = 3_600_000;
        const times = (list: readonly number[], from: number) => {
          let at = from;
          return list.map((wait) => {
            at += wait;
            return at;
          });
        };
        const whole = times(remainingWaits(waits, 0, horizon), 0).filter((at) => at > elapsed);
        expect(times(remainingWaits(waits, elapsed, horizon), elapsed)).toEqual(whole);
      }),
      { numRuns: 60 },
    );
  });

  test('every query is planned before the expiry, and every wait is positive', () => {
    fc.assert(
      fc.property(
        schedule,
        fc.integer({ min: 0, max: 2_000_000 }),
        fc.integer({ min: 1, max: 2_000_000 }),
        (waits, elapsed, horizon) => {
          for (const planned of [
            remainingWaits(waits, elapsed, horizon),
            waitsAfterHint(waits, elapsed, horizon),
          ]) {
            expect(planned.every((wait) => wait > 0)).toBe(true);
            if (planned.length > 0) expect(elapsed + sum(planned)).toBeLessThan(horizon);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test('a refund is queried forever at the last interval of the schedule, and queries whose time has passed are not repeated', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 10_000_000 }), (elapsed) => {
        const waits = endlessWaits(REFUND_QUERY_MS, elapsed);
        expect(waits.at(-1)).toBe(1_800_000);
        expect(waits.every((wait) => wait > 0)).toBe(true);
        const whole = endlessWaits(REFUND_QUERY_MS, 0);
        const first = elapsed + (waits[0] ?? 0);
        const times = whole.map((_, i) => sum(whole.slice(0, i + 1)));
        if (first <= sum(REFUND_QUERY_MS)) expect(times).toContain(first);
        else expect((first - sum(REFUND_QUERY_MS)) % 1_800_000).toBe(0);
      }),
      { numRuns: 100 },
    );
  });

  test('a hint long before the expiry causes a phase of frequent queries, and then the schedule continues', () => {
    const waits = parseSchedule(DEFAULT_QUERY_SCHEDULE);
    const after = waitsAfterHint(waits, 12_000, 1_800_000);
    expect(after.slice(0, TIGHT_PHASE_MS.length)).toEqual(TIGHT_PHASE_MS);
    expect(sum(after.slice(0, TIGHT_PHASE_MS.length + 1)) + 12_000).toBe(90_000);
  });

  test('the default schedule has more than half of its queries in the first five minutes', () => {
    const waits = parseSchedule(DEFAULT_QUERY_SCHEDULE);
    expect(sum(waits.slice(0, 13))).toBe(300_000);
    expect(waits).toHaveLength(24);
  });

  test('the time of the next query depends on the clock, and does not depend on the number of attempts', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1_000, max: 600_000 }), { minLength: 1, maxLength: 20 }),
        fc.nat(2_000_000),
        (waits, passed) => {
          const wait = nextWait(waits, 0, passed);
          const times = waits.map((_, i) => sum(waits.slice(0, i + 1)));
          const next = times.find((at) => at > passed + 500);
          expect(wait).toBe(next === undefined ? null : next - passed);
        },
      ),
    );
  });

  test('a query whose time has passed is not planned again', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 100_000 })), fc.nat(100_000), (times, now) => {
        const sorted = times.sort((a, b) => a - b);
        const waits = waitsUntil(sorted, now);
        expect(waits).toHaveLength(sorted.filter((at) => at > now).length);
        if (waits.length > 0) expect(now + sum(waits)).toBe(sorted.at(-1));
      }),
    );
  });

  describe('the late watch', () => {
    const MINUTE = 60_000;
    const HOUR = 60 * MINUTE;
    const DAY = 24 * HOUR;
    const after = [10 * MINUTE, HOUR, 6 * HOUR, DAY];
    const endedAt = fc.integer({ min: 0, max: 4e12 });
    /**
     * The expiries lie between 30 days before the payment's end and 100 days after it. Some are close to the times of
     * planned queries.
     */
    const expiresIn = fc.oneof(
      fc.integer({ min: -30 * DAY, max: 100 * DAY }),
      fc
        .tuple(
          fc.constantFrom(0, ...after, 2 * DAY, 7 * DAY),
          fc.integer({ min: -5 * MINUTE, max: 5 * MINUTE }),
        )
        .map(([ms, off]) => ms + off),
    );

    test("queries the channel about once a day or more often, and ends a day after the payment's end or its expiry, whichever is later", () => {
      fc.assert(
        fc.property(endedAt, expiresIn, (ended, left) => {
          const expires = ended + left;
          const times = lateWatch(ended, expires);
          const gaps = times.map((at, i) => at - (times[i - 1] ?? ended));
          // The times are sorted, lie after the payment's end, and are at least two minutes apart.
          expect(Math.min(...gaps)).toBeGreaterThanOrEqual(2 * MINUTE);
          // Up to the expiry there is a query every day. A further query follows 10 minutes after the expiry.
          expect(Math.max(...gaps)).toBeLessThanOrEqual(DAY + 10 * MINUTE);
          expect(times.at(-1)).toBe(Math.max(ended, expires) + DAY);
          expect(lateWatchEnd(ended, expires)).toBe(times.at(-1));
          // Each planned time is in the schedule, or is replaced by a slightly later time.
          for (const from of expires > ended ? [ended, expires] : [ended]) {
            for (const ms of after) {
              expect(times.some((at) => at >= from + ms && at < from + ms + 2 * MINUTE)).toBe(true);
            }
          }
        }),
        { numRuns: 1_000 },
      );
    });

    test.each([
      ['ended when it expired', 0, after],
      ['ended after it expired', -5_000, after],
      ['ended moments before it expired', 3_000, after.map((ms) => ms + 3_000)],
      [
        'ended half an hour before it expired',
        30 * MINUTE,
        [10, 40, 60, 90, 360, 390, 1440, 1470].map((minutes) => minutes * MINUTE),
      ],
      [
        'ended at once, with a link for three days',
        3 * DAY,
        [...after, 2 * DAY, 3 * DAY, ...after.map((ms) => 3 * DAY + ms)],
      ],
    ])('has the expected times for a payment that %s', (_, expiresInMs, expected) => {
      expect(lateWatch(0, expiresInMs)).toEqual(expected);
    });
  });

  test.each(['', '10', '0s', '10s*0', '-5s', '10s,,20s', '1d', '10s*1000'])(
    'the schedule "%s" is rejected',
    (text) => {
      expect(() => parseSchedule(text)).toThrow(RangeError);
    },
  );
});

describe('decision', () => {
  const answer: fc.Arbitrary<PaidAnswer> = fc.record({
    state: fc.constantFrom('paid' as const, 'refunded' as const),
    channelPaymentId: fc.constant('trx'),
    amount,
    currency,
    paidAt: fc
      .date({ min: new Date(0), max: new Date(4e12), noInvalidDate: true })
      .map((date) => date.toISOString()),
  });
  const given: fc.Arbitrary<SuccessCase> = fc
    .record({
      orderStatus,
      paymentStatus: paymentStatus.filter((status) => status !== 'succeeded'),
      expiresAt: fc.nat(4e12),
      latePayment: fc.constantFrom('apply' as const, 'refund' as const, 'review' as const),
      answer,
      recovered: fc.boolean(),
      amount,
      currency,
      asked: fc.record({ amount, currency }),
      /** The order's amount and the payment's amount are close to the received amount. */
      alike: fc.constantFrom('all', 'answer and order', 'answer and payment', 'order and payment', 'none'),
    })
    .map(({ alike, ...rest }) => {
      const { amount, currency } = rest.answer;
      if (alike === 'all') return { ...rest, amount, currency, asked: { amount, currency } };
      if (alike === 'answer and order') return { ...rest, amount, currency };
      if (alike === 'answer and payment') return { ...rest, asked: { amount, currency } };
      if (alike === 'order and payment') return { ...rest, ...rest.asked };
      return rest;
    });
  const agree = ({ answer, asked, ...order }: SuccessCase) =>
    [answer, asked].every((one) => one.amount === order.amount && one.currency === order.currency);

  test('an order becomes paid only if it can be paid, and channel, payment and order agree on amount and currency (P2)', () => {
    fc.assert(
      fc.property(given, (success) => {
        if (decideSuccess(success).orderUpdate !== 'applied') return;
        expect(['unpaid', 'paying']).toContain(success.orderStatus);
        expect(success.answer.state).toBe('paid');
        expect(agree(success)).toBe(true);
      }),
      { numRuns: 1_000 },
    );
  });

  test('if amounts or currencies differ, an operator decides, whatever the setting for late payments is', () => {
    fc.assert(
      fc.property(given, (success) => {
        const payable = success.orderStatus === 'unpaid' || success.orderStatus === 'paying';
        if (agree(success) || !payable || success.answer.state !== 'paid') return;
        expect(decideSuccess(success)).toMatchObject({ orderUpdate: 'review', attention: 'amount_mismatch' });
      }),
    );
  });

  test('money that does not pay the order must be refunded, or raises an attention', () => {
    fc.assert(
      fc.property(given, (success) => {
        const decision = decideSuccess(success);
        if (decision.orderUpdate === 'review') expect(decision.attention).toBeTruthy();
        if (decision.orderUpdate === 'conflict') expect(decision.refund).toBeTruthy();
      }),
    );
  });

  test('for a recovered order, an operator decides about each refund that would otherwise be automatic', () => {
    fc.assert(
      fc.property(given, (success) => {
        const decision = decideSuccess({ ...success, recovered: true });
        const asUsual = decideSuccess({ ...success, recovered: false });
        if (asUsual.orderUpdate === 'conflict' && asUsual.refund !== 'external')
          expect(decision).toMatchObject({
            orderUpdate: 'review',
            detail: expect.stringContaining(asUsual.detail),
          });
        else expect(decision).toEqual(asUsual);
      }),
    );
  });

  test('money whose date at the channel is before the expiry is not late, even if nodrop finds it after the expiry', () => {
    fc.assert(
      fc.property(given, (success) => {
        const inTime = Date.parse(success.answer.paidAt) < success.expiresAt;
        const payable = success.orderStatus === 'unpaid' || success.orderStatus === 'paying';
        if (!inTime || !payable || !agree(success) || success.answer.state !== 'paid') return;
        expect(decideSuccess(success)).toEqual({ orderUpdate: 'applied' });
      }),
    );
  });
});
