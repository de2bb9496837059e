import currencyCodes from 'currency-codes';

/** An ISO 4217 code in capitals. */
export type CurrencyCode = string;

/** The largest amount, in minor units, that JSON numbers carry exactly. */
export const MAX_AMOUNT = Number.MAX_SAFE_INTEGER;

/** True for an integer from 1 to 2^53-1: the only amounts (minor units) nodrop handles. */
export function isAmount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 1;
}

/** The currencies of several countries among ISO 4217's X codes; the others are metals, funds and tests. */
const SHARED_CURRENCIES = new Set(['XAF', 'XCD', 'XCG', 'XOF', 'XPF']);

/** True for a currency ISO 4217 knows and people pay in (so not XAU, XXX and the like). */
export function isCurrency(code: string): boolean {
  if (!/^[A-Z]{3}$/.test(code) || currencyCodes.code(code) === undefined) return false;
  return !code.startsWith('X') || SHARED_CURRENCIES.has(code);
}

/**
 * Decimal places of a currency by ISO 4217: 2 for CNY, 0 for JPY, 3 for KWD.
 * @throws RangeError for a code ISO 4217 does not know.
 */
export function exponentOf(code: CurrencyCode): number {
  const entry = currencyCodes.code(code);
  if (entry === undefined) throw new RangeError(`${code} is not an ISO 4217 currency`);
  return entry.digits;
}

/** The decimal places of every currency people pay in. */
export function currencyExponents(): Readonly<Record<CurrencyCode, number>> {
  return Object.fromEntries(
    currencyCodes
      .codes()
      .filter(isCurrency)
      .map((code) => [code, exponentOf(code)]),
  );
}

/** Minor units as a decimal string, exactly: `toDecimal(1050, 'CNY')` is `10.50`. */
export function toDecimal(amount: number, code: CurrencyCode): string {
  const exponent = exponentOf(code);
  const digits = BigInt(amount)
    .toString()
    .padStart(exponent + 1, '0');
  return exponent === 0 ? digits : `${digits.slice(0, -exponent)}.${digits.slice(-exponent)}`;
}

/** Minor units with their currency, for people: `19.90 CNY`. */
export const sayAmount = (amount: bigint, currency: CurrencyCode): string =>
  `${toDecimal(Number(amount), currency)} ${currency}`;

/** The smaller of two amounts. */
export const smaller = (a: bigint, b: bigint): bigint => (a < b ? a : b);

/**
 * A channel's decimal string as minor units, exactly.
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
