import { expect, test } from 'vitest';
import { Counts } from '../../../src/api/http/counts.ts';

// Tests how much of the limit each sender can still use in a time window.

function counts(atMost: number) {
  const clock = { at: 1_000_000 };
  return { clock, counts: new Counts({ atMost, windowMs: 1_000 }, () => new Date(clock.at)) };
}

test('each key may use the whole limit once in each time window', () => {
  const { clock, counts: of } = counts(3);
  const isTaken = (key: string, amount?: number) => of.take(key, amount) !== undefined;
  expect([isTaken('a'), isTaken('a', 2), isTaken('a'), isTaken('b', 4), isTaken('b', 3)]).toEqual([
    true,
    true,
    false,
    false,
    true,
  ]);
  expect([of.isSpent('a'), of.isSpent('b'), of.isSpent('c')]).toEqual([true, true, false]);
  expect(of.secondsLeft).toBe(1);
  clock.at += 999;
  expect(of.take('a')).toBeUndefined();
  clock.at += 1;
  expect(of.isSpent('a')).toBe(false);
  expect(of.take('a', 3)).toBeDefined();
});

test('an amount that is given back can be used again, but only in the window in which it was counted', () => {
  const { clock, counts: of } = counts(1);
  of.take('a')?.();
  const giveBack = of.take('a');
  expect(giveBack).toBeDefined();
  clock.at += 1_000;
  expect(of.take('a')).toBeDefined();
  giveBack?.();
  expect(of.take('a')).toBeUndefined();
});

test('if there are more than 10,000 keys, the count of the oldest key is forgotten', () => {
  const { counts: of } = counts(1);
  for (let n = 0; n < 10_001; n += 1) of.take(`${n}`);
  expect(of.take('0')).toBeDefined();
  expect(of.take('10000')).toBeUndefined();
});
