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

/** https://docs.mollie.com/docs/multicurrency. Its decimal places are those of ISO 4217. */
const BY_CARD = 'EUR AED AUD CAD CHF CZK DKK GBP HKD HUF ILS ISK JPY NOK NZD PHP PLN RON SEK SGD USD ZAR';
const BY_PAYPAL =
  'EUR AUD BRL CAD CHF CZK DKK GBP HKD HUF ILS JPY MXN MYR NOK NZD PHP PLN SEK SGD THB TWD USD';

/**
 * Amounts are below 1,000,000,000 whole units. That is more than Mollie accepts, by the example of
 * https://docs.mollie.com/reference/handling-errors. The limits of a method depend on the account: Mollie
 * reports them when it refuses an amount.
 */
const WHOLE_UNITS_BELOW = 1_000_000_000;

const limitsOf = (codes: string): Readonly<Record<CurrencyCode, CurrencyLimits>> =>
  Object.fromEntries(
    [...new Set(codes.split(' '))].map((code) => [
      code,
      { atLeast: 1, atMost: WHOLE_UNITS_BELOW * 10 ** exponentOf(code) - 1 },
    ]),
  );

/** @param codes ISO 4217 codes with spaces between */
const methodOf = (name: string, codes: string): MethodDeclaration => ({
  name,
  action: 'redirect',
  currencies: limitsOf(codes),
  // Mollie accepts no expiry: each payment method has its own, see
  // https://docs.mollie.com/docs/handling-payment-status.
  expiry: { atLeastMs: 0, atMostMs: null },
  // `description` of https://docs.mollie.com/reference/create-payment: Mollie cuts off a longer text.
  subject: { atMost: 255, countedIn: 'characters' },
  needs: [],
});

/** With this method the payer chooses on Mollie's page. Every other method has Mollie's own name for it. */
export const CHECKOUT = 'checkout';

/** Test or live, by the prefix of the key: https://docs.mollie.com/reference/authentication. */
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
    // Counts activities; each sends one request or a few.
    perSecond: 10,
    source:
      'nodrop: Mollie publishes no limit, and adapts its limits to the traffic that it sees (https://docs.mollie.com/reference/rate-limiting)',
  },
  // Mollie recommends webhooks, and names no intervals for queries.
  querySchedule: null,
  // https://docs.mollie.com/reference/api-idempotency: Mollie removes a key after an hour. The same key then
  // creates a second object.
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
