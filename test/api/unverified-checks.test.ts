import { expect, test } from 'vitest';
import {
  CHECKED_A_SECOND,
  CHECKED_OF_ADDRESS,
  CHECKED_OF_SHARES,
  UnverifiedChecks,
} from '../../src/api/unverified-checks.ts';

const SIZE = 252 * 1024;
/** The fixed cost of checking a callback. The callback's size is added to it. */
const COST = 256 * 1024;

test('the callbacks from all addresses share one limit of checks per second', () => {
  let at = 0;
  const checks = new UnverifiedChecks(() => new Date(at));
  const takeAll = () => {
    let taken = 0;
    for (let address = 0; address < 100; address += 1)
      for (let n = 0; n < CHECKED_OF_ADDRESS / COST + 2; n += 1)
        if (checks.take(`address-${address}`, SIZE) !== undefined) taken += COST;
    return taken;
  };
  for (let n = 0; n < CHECKED_A_SECOND / COST; n += 1) expect(checks.take('flood', SIZE)).toBeDefined();
  expect(checks.take('flood', SIZE)).toBeUndefined();
  const giveBack = checks.take('first', SIZE);
  expect(takeAll()).toBe(CHECKED_OF_SHARES - COST);
  expect(checks.take('late', SIZE)).toBeUndefined();
  // A refused check costs nothing. If the callback turns out to be verified, its cost no longer counts against the
  // limit.
  giveBack?.();
  expect(checks.take('late', SIZE)).toBeDefined();
  at = 1_000;
  expect(checks.take('flood', SIZE)).toBeDefined();
});
