import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { MethodDeclaration } from '../../src/domain/channel.ts';
import { amountFault, canPay, cutSubject, missingOfPayer } from '../../src/domain/limits.ts';

/** Tests the limits that a channel declares. */

const METHOD: MethodDeclaration = {
  name: 'jsapi',
  action: 'sdk',
  currencies: { CNY: { atLeast: 10, atMost: 5_000 }, KWD: { multipleOf: 10 }, JPY: {} },
  expiry: { atLeastMs: 0, atMostMs: null },
  subject: { atMost: 127, countedIn: 'bytes' },
  needs: ['id', 'ip'],
};

describe("the limits of a method's amounts", () => {
  test.each([
    ['CNY', 9, 'must be at least 10'],
    ['CNY', 10, undefined],
    ['CNY', 5_000, undefined],
    ['CNY', 5_001, 'must be at most 5000'],
    ['KWD', 1_234, 'must be a multiple of 10'],
    ['KWD', 1_230, undefined],
    ['JPY', 1, undefined],
  ])('for an amount of %s %i, the reported fault is: %s', (currency, amount, fault) => {
    expect(amountFault(METHOD, currency, amount)).toBe(fault);
  });

  test('if a method has no limits, it accepts every amount', () => {
    expect(amountFault({ currencies: 'any' }, 'CNY', 1)).toBeUndefined();
  });
});

test("missing payer data is reported with the names of the request's fields", () => {
  expect(missingOfPayer(METHOD, undefined)).toEqual(['payer.id', 'payer.ip']);
  expect(missingOfPayer(METHOD, { id: 'openid' })).toEqual(['payer.ip']);
  expect(missingOfPayer({ needs: [] }, undefined)).toEqual([]);
});

test('a payment method is offered if it accepts the currency, the amount and the payer', () => {
  const payer = { id: 'openid', ip: '192.0.2.1' };
  expect(canPay(METHOD, { currency: 'CNY', amount: 10 }, payer)).toBe(true);
  expect(canPay(METHOD, { currency: 'EUR', amount: 10 }, payer)).toBe(false);
  expect(canPay(METHOD, { currency: 'CNY', amount: 9 }, payer)).toBe(false);
  expect(canPay(METHOD, { currency: 'CNY', amount: 10 }, { id: 'openid' })).toBe(false);
});

describe('a subject that is too long for the channel', () => {
  const FAMILY = '👨‍👩‍👧';
  test.each([
    ['kept whole', 'Kaffee', { atMost: 6, countedIn: 'characters' }, 'Kaffee'],
    ['by code points', 'Kaffee', { atMost: 5, countedIn: 'characters' }, 'Kaffe'],
    ['by bytes: three each', '咖啡咖啡', { atMost: 8, countedIn: 'bytes' }, '咖啡'],
    [
      'in UTF-16 units: two for a character outside the Basic Multilingual Plane',
      'a🍰🍰',
      { atMost: 4, countedIn: 'utf16' },
      'a🍰',
    ],
    ['a letter keeps its accent', 'cafe\u0301s', { atMost: 4, countedIn: 'characters' }, 'caf'],
    ['a family stays together', `a${FAMILY}`, { atMost: 3, countedIn: 'characters' }, 'a'],
    ['one character that is too long by itself', FAMILY, { atMost: 1, countedIn: 'characters' }, '👨'],
  ] as const)('is cut to the limit: %s', (_, subject, limit, cut) => {
    expect(cutSubject(subject, limit)).toBe(cut);
  });

  test('is cut to the longest beginning that the channel accepts, and no character is split', () => {
    const text = fc.array(fc.string({ unit: 'grapheme' }), { maxLength: 12 }).map((parts) => parts.join(''));
    const limits = fc.record({
      atMost: fc.integer({ min: 4, max: 30 }),
      countedIn: fc.constantFrom('characters', 'utf16', 'bytes'),
    });
    fc.assert(
      fc.property(text, limits, (subject, limit) => {
        const cut = cutSubject(subject, limit);
        const length = { characters: [...cut].length, utf16: cut.length, bytes: Buffer.byteLength(cut) };
        expect(subject.startsWith(cut)).toBe(true);
        expect(cut).not.toMatch(/\p{Surrogate}/u);
        expect(length[limit.countedIn]).toBeLessThanOrEqual(limit.atMost);
        if (subject.length > 0) expect(cut).not.toBe('');
      }),
    );
  });
});
