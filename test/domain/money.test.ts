import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { describe, expect, test } from 'vitest';
import { money, PRODUCTS } from '../../examples/shop/products.ts';
import {
  amountText,
  currencyExponents,
  exponentOf,
  fromDecimal,
  isCurrency,
  isCurrentCurrency,
  MAX_AMOUNT,
  toDecimal,
} from '../../src/domain/money.ts';

/** Tests that the currencies agree with two official lists, from ISO 4217 and from CLDR. */

const read = (path: string | URL) => JSON.parse(readFileSync(path, 'utf8'));

/** List One of ISO 4217 as its maintenance agency publishes it; the file names its source. */
const iso: {
  readonly published: string;
  readonly minorUnits: Readonly<Record<string, number | null>>;
  readonly funds: readonly string[];
} = read(new URL('iso-4217-list-one.json', import.meta.url));

/**
 * The present and past currencies of each region. `_to` is the end date. `_tender` false marks currencies that
 * are not used to pay.
 */
const cldr: Readonly<Record<string, readonly Record<string, { _to?: string; _tender?: string }>[]>> = read(
  createRequire(import.meta.url).resolve('cldr-core/supplemental/currencyData.json'),
).supplemental.currencyData.region;

/**
 * These codes are not used to pay, but ISO's list does not mark them. One is a pension unit, and one is a unit
 * of account.
 */
const ACCOUNTED_ONLY = ['UYW', 'XAD'];

const current = () => Object.keys(currencyExponents()).filter(isCurrentCurrency).sort();

test('the current currencies are those of ISO 4217 List One without funds codes and without codes that have no minor unit', () => {
  const listed = Object.keys(iso.minorUnits).filter(
    (code) => iso.minorUnits[code] !== null && !iso.funds.includes(code) && !ACCOUNTED_ONLY.includes(code),
  );
  expect(listed.length).toBeGreaterThan(150);
  expect(current()).toEqual(listed.sort());
});

test('the current currencies are the legal tenders in CLDR, and two more currencies that ISO has not withdrawn', () => {
  const tender = Object.values(cldr)
    .flat()
    .flatMap((currencies) => Object.entries(currencies))
    .filter(([, { _to, _tender }]) => _to === undefined && _tender !== 'false')
    .map(([code]) => code);
  // ISO still lists El Salvador's colón (SVC), and the bolívar unit that Venezuela's banks use (VED).
  expect(current()).toEqual([...new Set([...tender, 'SVC', 'VED'])].sort());
});

test('currencies have the decimal places of List One', () => {
  for (const code of Object.keys(currencyExponents()))
    if (Object.hasOwn(iso.minorUnits, code))
      expect([code, exponentOf(code)]).toEqual([code, iso.minorUnits[code]]);
});

test('XCG, the currency of Curaçao and Sint Maarten since 2025, is accepted', () => {
  expect([isCurrentCurrency('XCG'), toDecimal(1050, 'XCG')]).toEqual([true, '10.50']);
});

describe('a code that a new order cannot use as its currency', () => {
  test.each([
    ['a funds code', ['BOV', 'CHE', 'CHW', 'CLF', 'COU', 'MXV', 'USN', 'UYI', 'UYW']],
    ['a unit of account', ['XAD', 'XDR', 'XSU', 'XUA']],
    [
      'codes of metals, bond markets, tests, and no currency',
      ['XAG', 'XAU', 'XBA', 'XBB', 'XBC', 'XBD', 'XPD', 'XPT', 'XTS', 'XXX'],
    ],
    ['withdrawn currencies', ['ANG', 'BGN', 'CUC', 'HRK', 'SLL', 'ZWL', 'DEM', 'MRO', 'VEF']],
    ['texts that are not a code', ['', 'ABC', 'cny', 'CNY ', 'toString', '__proto__']],
  ])('%s', (_, codes) => {
    expect(codes.filter(isCurrentCurrency)).toEqual([]);
  });
});

test('a stored amount stays valid if its currency has been withdrawn, or if its currency is a funds code that was accepted earlier', () => {
  for (const [code, text] of [
    ['ANG', '10.50'],
    ['BGN', '10.50'],
    ['BOV', '10.50'],
    ['CHE', '10.50'],
    ['CHW', '10.50'],
    ['CLF', '0.1050'],
    ['COU', '10.50'],
    ['CUC', '10.50'],
    ['HRK', '10.50'],
    ['MXV', '10.50'],
    ['SLL', '10.50'],
    ['USN', '10.50'],
    ['UYI', '1050'],
    ['UYW', '0.1050'],
    ['ZWL', '10.50'],
  ] as const) {
    expect([code, isCurrency(code), toDecimal(1050, code)]).toEqual([code, true, text]);
    expect(fromDecimal(text, code)).toBe(1050);
  }
});

test('a code that has never been the currency of an amount is rejected', () => {
  expect(['XAU', 'XXX', 'XDR', 'XTS', 'DEM', 'ABC', 'cny', ''].filter(isCurrency)).toEqual([]);
  expect(() => exponentOf('XAU')).toThrow(RangeError);
});

test('an amount has the same format everywhere, with the currency code, groups of three digits, and the decimal places of ISO 4217', async () => {
  expect(amountText(1990, 'CNY')).toBe('CNY 19.90');
  expect(amountText(5n, 'CNY')).toBe('CNY 0.05');
  expect(amountText(5800, 'JPY')).toBe('JPY 5,800');
  expect(amountText(1_234_567, 'KWD')).toBe('KWD 1,234.567');
  expect(amountText(1, 'CLF')).toBe('CLF 0.0001');
  expect(amountText(MAX_AMOUNT, 'CNY')).toBe('CNY 90,071,992,547,409.91');

  // The cashier's script runs in browsers, and shops copy the example shop. So the cashier's script and the example
  // shop each have their own copy of `amountText`.
  const script = readFileSync(new URL('../../src/api/checkout/money.js', import.meta.url), 'utf8').replace(
    "import { EXPONENTS } from './currencies.js';",
    `const EXPONENTS = ${JSON.stringify(currencyExponents())};`,
  );
  const { formatAmount } = await import(`data:text/javascript,${encodeURIComponent(script)}`);
  for (const currency of Object.keys(currencyExponents()))
    for (const amount of [1, 12, 123, 1234, 12_345, 123_456, 1_234_567, 12_345_678, MAX_AMOUNT])
      expect(formatAmount(amount, currency)).toBe(amountText(amount, currency));
  for (const currency of PRODUCTS.map((product) => product.currency))
    for (const amount of [1, 999, 1000, 123_456, 1_234_567_890])
      expect(money(amount, currency)).toBe(amountText(amount, currency));
});
