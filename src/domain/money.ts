import { CURRENT_CURRENCIES, KNOWN_CURRENCIES } from './currencies.ts';

/** An ISO 4217 code in capitals. */
export type CurrencyCode = string;

/** The largest amount, in minor units, that a JSON number represents exactly. */
export const MAX_AMOUNT = Number.MAX_SAFE_INTEGER;

/** True for an integer from 1 to 2^53-1. nodrop handles only such amounts, in minor units. */
export function isAmount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 1;
}

/**
 * True for a currency that a new order may use. These are the currencies of the current ISO 4217 in which people pay.
 */
export const isCurrentCurrency = (code: string): boolean => CURRENT_CURRENCIES.has(code);

/**
 * True for a currency that an amount may have. These are the current currencies, and the withdrawn currencies that
 * stored orders may still have. False for the codes of metals, tests and similar units (XAU, XXX).
 */
export const isCurrency = (code: string): boolean => KNOWN_CURRENCIES.has(code);

/**
 * The decimal places of a current or withdrawn currency by ISO 4217: 2 for CNY, 0 for JPY, 3 for KWD.
 * @throws RangeError for a code that is not a currency.
 */
export function exponentOf(code: CurrencyCode): number {
  const places = KNOWN_CURRENCIES.get(code);
  if (places === undefined) throw new RangeError(`${code} is not an ISO 4217 currency`);
  return places;
}

/** The decimal places of every currency that an amount may have. */
export const currencyExponents = (): Readonly<Record<CurrencyCode, number>> =>
  Object.fromEntries(KNOWN_CURRENCIES);

/** Converts minor units to an exact decimal string: `toDecimal(1050, 'CNY')` is `10.50`. */
export function toDecimal(amount: number | bigint, code: CurrencyCode): string {
  const exponent = exponentOf(code);
  const digits = BigInt(amount)
    .toString()
    .padStart(exponent + 1, '0');
  return exponent === 0 ? digits : `${digits.slice(0, -exponent)}.${digits.slice(-exponent)}`;
}

/**
 * Formats an amount for people in the same way in every language, for example `CNY 1,234.50`. It uses the code instead
 * of a symbol, because `¥` means both CNY and JPY. The cashier's script (`checkout/money.js`) and the example shop
 * format amounts in the same way, and a test compares the three.
 * @throws RangeError for a code that is not a currency.
 */
export function amountText(amount: number | bigint, currency: CurrencyCode): string {
  const [whole = '', fraction] = toDecimal(amount, currency).split('.');
  const digits = whole.replace(/\B(?=(\d{3})+$)/g, ',');
  return `${currency} ${fraction === undefined ? digits : `${digits}.${fraction}`}`;
}

/** The smaller of two amounts. */
export const smaller = (a: bigint, b: bigint): bigint => (a < b ? a : b);

/**
 * Converts a channel's decimal string to minor units, exactly.
 * @throws RangeError when it is not a plain decimal, has more places than the currency, or is out of range.
 */
export function fromDecimal(text: string, code: CurrencyCode): number {
  const exponent = exponentOf(code);
  const match = /^(\d{1,17})(?:\.(\d+))?$/.exec(text);
  const fraction = (match?.[2] ?? '').replace(/0+$/, '');
  if (match === null || fraction.length > exponent)
    throw new RangeError(`${text} is not an amount in ${code}`);
  const minor = Number(BigInt(`${match[1]}${fraction.padEnd(exponent, '0')}`));
  if (!isAmount(minor)) throw new RangeError(`${text} ${code} is out of range`);
  return minor;
}
