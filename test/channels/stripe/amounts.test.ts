import { describe, expect, test } from 'vitest';
import { currencyLimits, fromStripe, toStripe } from '../../../src/channels/stripe/amounts.ts';
import { ChannelError } from '../../../src/domain/channel.ts';
import { exponentOf, isCurrentCurrency } from '../../../src/domain/money.ts';

/** Tests the conversion between nodrop's minor units and Stripe's units. */

describe('amounts', () => {
  test.each([
    ['EUR', 1050, 1050],
    ['JPY', 1050, 1050],
    ['KWD', 1050, 1050],
    ['ISK', 5, 500],
    ['UGX', 5, 500],
    ['MGA', 500, 5],
    ['HUF', 17500, 17500],
  ])("amounts in %s are converted to Stripe's units and back", (currency, ours, theirs) => {
    expect(toStripe(ours, currency)).toBe(theirs);
    expect(fromStripe(theirs, currency.toLowerCase())).toEqual({ amount: ours, currency });
  });

  test('an amount from Stripe that nodrop cannot represent is rejected', () => {
    for (const [amount, code] of [
      [150, 'isk'],
      [0, 'eur'],
      [10, 'xxx'],
      [10, 'nope'],
    ] as const) {
      expect(() => fromStripe(amount, code)).toThrow(ChannelError);
    }
  });

  test.each([
    ['MGA', 50],
    ['MGA', 149],
  ])('an amount in %s that Stripe cannot represent is rejected: %i', (currency, amount) => {
    expect(() => toStripe(amount, currency)).toThrow(expect.objectContaining({ kind: 'rejected' }));
  });

  test("only current currencies have limits, and an amount within these limits converts to Stripe's units and back", () => {
    expect(Object.keys(currencyLimits).filter((code) => !isCurrentCurrency(code))).toEqual([]);
    for (const [code, { multipleOf = 1 }] of Object.entries(currencyLimits)) {
      const amount = 7 * multipleOf;
      expect(Number.isInteger(toStripe(amount, code)), code).toBe(true);
      expect(fromStripe(toStripe(amount, code), code).amount, code).toBe(amount);
    }
    expect(currencyLimits.USD).toEqual({ atLeast: 50, atMost: 99_999_999 });
    expect(currencyLimits.KWD).toMatchObject({ multipleOf: 10 });
    expect(currencyLimits.MGA).toMatchObject({ multipleOf: 100 });
    expect(exponentOf('MGA')).toBe(2);
  });
});
