import { ChannelError, type CurrencyLimits } from '../../domain/channel.ts';
import { type CurrencyCode, exponentOf, isAmount, isCurrency } from '../../domain/money.ts';

/**
 * Stripe counts amounts in the currency's minor unit (https://docs.stripe.com/currencies), with these exceptions:
 * - Zero-decimal currencies have no smaller unit at Stripe. But for one of these currencies, the ariary (MGA), ISO 4217
 * defines a smaller unit.
 * - The Icelandic króna (ISK) and the Uganda shilling (UGX) have no smaller unit, but Stripe writes them with two
 * decimals, which are always 00.
 * - In a currency with three decimals, the last decimal must be 0. Stripe requires whole amounts of forint (HUF) and
 * Taiwan dollars (TWD) only for payouts, which nodrop does not make.
 */
const ZERO_DECIMAL: ReadonlySet<string> = new Set(
  'BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF'.split(' '),
);
const THREE_DECIMAL: ReadonlySet<string> = new Set('BHD JOD KWD OMR TND'.split(' '));

/** The presentment currencies of Stripe that ISO 4217 still lists as current. */
const PRESENTMENT =
  'AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CLP CNY COP CRC CVE CZK DJF DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR ISK JMD JOD JPY KES KGS KHR KMF KRW KWD KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SEK SGD SHP SLE SOS SRD SZL THB TJS TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW'.split(
    ' ',
  );

/**
 * The smallest charges that Stripe publishes, in Stripe's units. For a currency that is not listed here, the smallest
 * charge depends on the exchange rate to the merchant's settlement currency. Stripe refuses a smaller charge with
 * `amount_too_small`.
 */
const SMALLEST: Readonly<Record<string, number>> = {
  AED: 200,
  AUD: 50,
  BRL: 50,
  CAD: 50,
  CHF: 50,
  CZK: 1500,
  DKK: 250,
  EUR: 50,
  GBP: 30,
  HKD: 400,
  HUF: 17500,
  INR: 50,
  JPY: 50,
  MXN: 1000,
  MYR: 200,
  NOK: 300,
  NZD: 50,
  PLN: 200,
  RON: 200,
  SEK: 300,
  SGD: 50,
  THB: 1000,
  USD: 50,
};

/**
 * The largest charges in Stripe's units, from the page that lists the smallest charges. Most currencies allow eight
 * digits, and some currencies with small units allow up to twelve digits. For a currency without a published smallest
 * charge, nodrop does not know the largest charge. Stripe then refuses a charge that is too large with
 * `amount_too_large`.
 */
const LARGEST = 99_999_999;
const LARGEST_OF_ANY = 999_999_999_999;
/** Currencies with a published smallest charge in which a charge may have up to twelve digits. */
const SMALL_UNITS: ReadonlySet<string> = new Set(['HUF', 'INR', 'JPY']);

function decimalsAtStripe(currency: CurrencyCode): number {
  if (ZERO_DECIMAL.has(currency)) return 0;
  return THREE_DECIMAL.has(currency) ? 3 : 2;
}

/** The number of Stripe's units in one minor unit of ISO 4217: 1, 100 or 1/100. */
const unitsOf = (currency: CurrencyCode): number => 10 ** (decimalsAtStripe(currency) - exponentOf(currency));

/**
 * Converts minor units of ISO 4217 to Stripe's units.
 * @throws ChannelError `rejected` for an amount that Stripe cannot represent. Amounts within the declared limits never
 *   cause this error.
 */
export function toStripe(amount: number, currency: CurrencyCode): number {
  const units = unitsOf(currency);
  const theirs = units < 1 ? amount / Math.round(1 / units) : amount * units;
  if (Number.isSafeInteger(theirs)) return theirs;
  throw new ChannelError('rejected', `stripe cannot represent ${amount} minor units of ${currency}`);
}

export interface StripeAmount {
  readonly amount: number;
  readonly currency: CurrencyCode;
}

/** Converts Stripe's amount to minor units of ISO 4217. @throws ChannelError `garbage` if the value is not an amount */
export function fromStripe(amount: number, code: string): StripeAmount {
  const ours = oursOf(amount, code);
  if (ours !== undefined && isAmount(ours.amount)) return ours;
  throw noAmount(amount, code);
}

/**
 * Converts a refunded or disputed amount to minor units. The result is rounded and is at least 1. The dashboard or an
 * exchange rate can produce a fraction of a minor unit. Such a fraction must not make the whole payment unreadable.
 * @throws ChannelError `garbage` if the value is not an amount
 */
export function aboutFromStripe(amount: number, code: string): StripeAmount {
  const ours = oursOf(amount, code);
  const rounded = ours === undefined ? undefined : { ...ours, amount: Math.max(1, Math.round(ours.amount)) };
  if (rounded !== undefined && isAmount(rounded.amount)) return rounded;
  throw noAmount(amount, code);
}

function oursOf(amount: number, code: string): StripeAmount | undefined {
  const currency = code.toUpperCase();
  if (!isCurrency(currency)) return undefined;
  const units = unitsOf(currency);
  return { amount: units < 1 ? amount * Math.round(1 / units) : amount / units, currency };
}

const noAmount = (amount: number, code: string): ChannelError =>
  new ChannelError('garbage', `stripe answered with an invalid amount: ${amount} ${code}`);

/** The amounts that Stripe accepts, by currency, in minor units of ISO 4217. */
export const currencyLimits: Readonly<Record<CurrencyCode, CurrencyLimits>> = Object.fromEntries(
  PRESENTMENT.map((currency) => {
    const units = unitsOf(currency);
    const smallest = SMALLEST[currency];
    const largest = smallest === undefined || SMALL_UNITS.has(currency) ? LARGEST_OF_ANY : LARGEST;
    const multipleOf = THREE_DECIMAL.has(currency) ? 10 : units < 1 ? Math.round(1 / units) : 1;
    return [
      currency,
      {
        ...(smallest === undefined ? {} : { atLeast: smallest }),
        atMost: Math.floor(largest / units),
        ...(multipleOf === 1 ? {} : { multipleOf }),
      },
    ];
  }),
);
