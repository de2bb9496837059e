import { expect, test } from 'vitest';
import { Counts } from '../../../src/api/http/counts.ts';

// How much each sender has left in a window.

function counts(atMost: number) {
  const clock = { at: 1_000_000 };
  return { clock, counts: new Counts({ atMost, windowMs: 1_000 }, () => new Date(clock.at)) };
}

test('so much in each window, and of each key', () => {
  const { clock, counts: of } = counts(3);
  expect([of.take('a'), of.take('a', 2), of.take('a'), of.take('b', 4), of.take('b', 3)]).toEqual([
    true,
    true,
    false,
    false,
    true,
  ]);
  expect(of.secondsLeft).toBe(1);
  clock.at += 999;
  expect(of.take('a')).toBe(false);
  clock.at += 1;
  expect(of.take('a', 3)).toBe(true);
});

test('what is given back is free, but not in another window', () => {
  const { clock, counts: of } = counts(1);
  of.take('a');
  of.give('a');
  expect(of.take('a')).toBe(true);
  clock.at += 1_000;
  of.give('a');
  expect([of.take('a'), of.take('a')]).toEqual([true, false]);
});

test('the oldest of very many keys is forgotten', () => {
  const { counts: of } = counts(1);
  for (let n = 0; n < 10_001; n += 1) of.take(`${n}`);
  expect([of.take('0'), of.take('10000')]).toEqual([true, false]);
});
