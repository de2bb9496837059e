import type {
  AccountMode,
  ChannelDeclaration,
  Credentials,
  CurrencyLimits,
  MethodDeclaration,
} from '../../domain/channel.ts';
import { type CurrencyCode, exponentOf } from '../../domain/money.ts';
import { PAYMENT_ID } from './objects.ts';

const HOUR_MS = 3_600_000;

/**
 * The currencies that Mollie accepts for card payments: https://docs.mollie.com/docs/multicurrency. Mollie uses the
 * decimal places of ISO 4217.
 */
const BY_CARD = 'EUR AED AUD CAD CHF CZK DKK GBP HKD HUF ILS ISK JPY NOK NZD PHP PLN RON SEK SGD USD ZAR';
const BY_PAYPAL =
  'EUR AUD BRL CAD CHF CZK DKK GBP HKD HUF ILS JPY MXN MYR NOK NZD PHP PLN SEK SGD THB TWD USD';

/**
 * For Mollie, nodrop accepts amounts below 1,000,000,000 whole units. Mollie itself has lower limits, as the example of
 * https://docs.mollie.com/reference/handling-errors shows. These limits depend on the payment method and the account,
 * and Mollie reports them when it refuses an amount.
 */
const WHOLE_UNITS_BELOW = 1_000_000_000;

const limitsOf = (codes: string): Readonly<Record<CurrencyCode, CurrencyLimits>> =>
  Object.fromEntries(
    [...new Set(codes.split(' '))].map((code) => [
      code,
      { atLeast: 1, atMost: WHOLE_UNITS_BELOW * 10 ** exponentOf(code) - 1 },
    ]),
  );

/** @param codes ISO 4217 codes, separated by spaces */
const methodOf = (name: string, codes: string): MethodDeclaration => ({
  name,
  action: 'redirect',
  currencies: limitsOf(codes),
  // Mollie accepts no expiry in a request. Each payment method has its own expiry:
  // https://docs.mollie.com/docs/handling-payment-status.
  expiry: { atLeastMs: 0, atMostMs: null },
  // Mollie cuts off a `description` that is longer than this: https://docs.mollie.com/reference/create-payment.
  subject: { atMost: 255, countedIn: 'characters' },
  needs: [],
});

/** With this method, the payer chooses on Mollie's page how to pay. All other methods have Mollie's own names. */
export const CHECKOUT = 'checkout';

/**
 * Returns the mode (test or live) that the prefix of the API key shows:
 * https://docs.mollie.com/reference/authentication.
 */
export const modeOf = ({ api_key }: Credentials): AccountMode =>
  api_key?.startsWith('live_') ? 'live' : 'test';

export const declaration: ChannelDeclaration = {
  name: 'mollie',
  title: { en: 'iDEAL, card and more (Mollie)', zh: 'iDEAL、银行卡等（Mollie）' },
  testOnly: false,
  methods: [
    methodOf(CHECKOUT, `${BY_CARD} ${BY_PAYPAL}`),
    methodOf('ideal', 'EUR'),
    methodOf('creditcard', BY_CARD),
    methodOf('bancontact', 'EUR'),
    methodOf('paypal', BY_PAYPAL),
  ],
  rateLimit: {
    // This rate limit counts activities. Each activity sends one request or a few requests to Mollie.
    perSecond: 10,
    source:
      'nodrop: Mollie publishes no limit, and adapts its limits to the traffic that it sees (https://docs.mollie.com/reference/rate-limiting)',
  },
  // Mollie recommends webhooks, and names no intervals for queries.
  querySchedule: null,
  // Mollie removes an idempotency key after an hour: https://docs.mollie.com/reference/api-idempotency. After that, a
  // request with the same key creates a second object.
  repeatableForMs: { create: HOUR_MS, refund: HOUR_MS },
  unknownTradeCanBePaid: false,
  adoption: {
    pattern: PAYMENT_ID,
    rule: 'must be the id of a payment (tr_...)',
    example: 'tr_5B8cwPMGnU6qLbRvo7qEZo',
    isGlobal: true,
  },
  takesCallbackAddress: true,
  settings: [
    {
      name: 'api_key',
      description: 'The API key of the website profile that receives the money, for test or live mode.',
      isSecret: true,
      isRequired: true,
      pattern: [/^(test|live)_[0-9A-Za-z]{20,}$/, 'must start with test_ or live_'],
    },
  ],
  modeOf,
};
