import fc from 'fast-check';
import { expect, test } from 'vitest';
import { deliveryWait } from '../../src/domain/delivery.ts';

/** Tests when delivery attempts to an order service are made. */

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const PROMISED = [
  ...[0, 1, 2, 5, 10, 20, 30].map((seconds) => seconds * SECOND),
  ...Array(5).fill(MINUTE),
  ...Array(5).fill(5 * MINUTE),
  ...[30 * MINUTE, 2 * HOUR, 5 * HOUR],
];
const promised = (attempts: number): number => PROMISED[attempts] ?? DAY;

const attempts = fc.integer({ min: 0, max: 2_000 });
const random = fc.double({ min: 0, max: 1, noNaN: true });

test('delivery attempts follow the documented schedule; after its end, there is one attempt a day forever', () => {
  expect([...Array(40).keys()].map((nth) => deliveryWait(nth, 0))).toEqual([
    ...PROMISED,
    ...Array(40 - PROMISED.length).fill(DAY),
  ]);
});

test('jitter makes a wait up to a fifth longer, and never shorter', () => {
  fc.assert(
    fc.property(attempts, random, (nth, chance) => {
      const wait = deliveryWait(nth, chance);
      expect(wait).toBeGreaterThanOrEqual(promised(nth));
      expect(wait).toBeLessThanOrEqual(Math.ceil(promised(nth) * 1.2));
    }),
  );
  expect(deliveryWait(5, 1)).toBe(24 * SECOND);
});

test('Retry-After can make a wait longer (up to one day), but never shorter', () => {
  fc.assert(
    fc.property(attempts, random, fc.integer({ min: 0, max: 400 * DAY }), (nth, chance, asked) => {
      const wait = deliveryWait(nth, chance, asked);
      const own = deliveryWait(nth, chance);
      expect(wait).toBe(Math.max(own, Math.min(asked, DAY)));
      expect(Number.isSafeInteger(wait)).toBe(true);
    }),
  );
});

test('while the order service does not know the order, nodrop attempts the delivery at least once an hour, and once at the end of the period of retries', () => {
  fc.assert(
    fc.property(attempts, random, fc.integer({ min: -DAY, max: DAY }), (nth, chance, left) => {
      const wait = deliveryWait(nth, chance, 0, left);
      expect(wait).toBe(Math.min(deliveryWait(nth, chance), HOUR, left > 0 ? left : HOUR));
    }),
  );
  expect(deliveryWait(40, 0, 2 * HOUR, MINUTE)).toBe(2 * HOUR);
});
