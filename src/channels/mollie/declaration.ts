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
 * Below a thousand million whole units: that is more than Mollie takes, by the example of
 * https://docs.mollie.com/reference/handling-errors. The limits of a method depend on the account; Mollie says them when it
 * refuses an amount.
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
  // Mollie takes no expiry and has one for each means of payment: https://docs.mollie.com/docs/handling-payment-status.
  expiry: { atLeastMs: 0, atMostMs: null },
  // `description` of https://docs.mollie.com/reference/create-payment: what is longer is cut off.
  subject: { atMost: 255, countedIn: 'characters' },
  needs: [],
});

/** The method whose payer chooses on Mollie's page; every other one is Mollie's own name of it. */
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
    // Of activities, each of one request or a few.
    perSecond: 10,
    source:
      'nodrop: Mollie publishes no figure, and sets limits by what it has seen (https://docs.mollie.com/reference/rate-limiting)',
  },
  // Mollie advises webhooks, and no waits between queries.
  querySchedule: null,
  // https://docs.mollie.com/reference/api-idempotency: a key is removed after an hour, and makes another one then.
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
      description: 'The API key of the website profile that is paid, for tests or live.',
      isSecret: true,
      isRequired: true,
      pattern: [/^(test|live)_[0-9A-Za-z]{20,}$/, 'must start with test_ or live_'],
    },
  ],
  modeOf,
};
