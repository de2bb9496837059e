import { ChannelError, type CurrencyLimits } from '../../domain/channel.ts';
import { type CurrencyCode, exponentOf, isAmount, isCurrency } from '../../domain/money.ts';

/**
 * Amounts as Stripe counts them (https://docs.stripe.com/currencies): in the currency's minor unit, with exceptions.
 * - Zero-decimal currencies have no smaller unit there; of these the ariary (MGA) has one by ISO 4217.
 * - The Icelandic króna (ISK) and the Uganda shilling (UGX) have no smaller unit and are written with two decimals all
 *   the same, which are always 00.
 * - Of three decimals the last one must be 0.
 * The forint (HUF) and the Taiwan dollar (TWD) are whole numbers in payouts alone, which are none of ours.
 */
const ZERO_DECIMAL: ReadonlySet<string> = new Set(
  'BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF'.split(' '),
);
const THREE_DECIMAL: ReadonlySet<string> = new Set('BHD JOD KWD OMR TND'.split(' '));

/** The presentment currencies of Stripe's list that are current by ISO 4217. */
const PRESENTMENT =
  'AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CLP CNY COP CRC CVE CZK DJF DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR ISK JMD JOD JPY KES KGS KHR KMF KRW KWD KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SEK SGD SHP SLE SOS SRD SZL THB TJS TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW'.split(
    ' ',
  );

/**
 * The smallest charges Stripe publishes, in Stripe's units. Of the other currencies the smallest depends on the rate to
 * the merchant's settlement currency: Stripe refuses what is below it (`amount_too_small`).
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
 * The largest by the same page: eight digits of most currencies, and up to twelve of some with small units. Which those
 * are, Stripe is left to say (`amount_too_large`), but for the ones with a published smallest charge.
 */
const LARGEST = 99_999_999;
const LARGEST_OF_ANY = 999_999_999_999;
/** They have a smallest charge, and may be larger. */
const SMALL_UNITS: ReadonlySet<string> = new Set(['HUF', 'INR', 'JPY']);

function decimalsAtStripe(currency: CurrencyCode): number {
  if (ZERO_DECIMAL.has(currency)) return 0;
  return THREE_DECIMAL.has(currency) ? 3 : 2;
}

/** How many of Stripe's units one minor unit of ours is: 1, 100 or 1/100. */
const unitsOf = (currency: CurrencyCode): number => 10 ** (decimalsAtStripe(currency) - exponentOf(currency));

/** Minor units of ISO 4217 as Stripe's; exact for every amount within the declared limits. */
export const toStripe = (amount: number, currency: CurrencyCode): number => {
  const units = unitsOf(currency);
  return units < 1 ? Math.round(amount / (1 / units)) : amount * units;
};

/**
 * What Stripe says, as an amount of ours.
 * @throws ChannelError `garbage` for what is none.
 */
export function fromStripe(amount: number, code: string): { amount: number; currency: CurrencyCode } {
  const currency = code.toUpperCase();
  if (isCurrency(currency)) {
    const units = unitsOf(currency);
    const ours = units < 1 ? amount * Math.round(1 / units) : amount / units;
    if (isAmount(ours)) return { amount: ours, currency };
  }
  throw new ChannelError('garbage', `stripe gave an amount that is none: ${amount} ${code}`);
}

/** What Stripe takes, by currency and in minor units of ISO 4217. */
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
