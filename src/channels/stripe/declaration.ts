import type {
  AccountMode,
  ChannelDeclaration,
  Credentials,
  FormDeclaration,
  MethodDeclaration,
} from '../../domain/channel.ts';
import { currencyLimits } from './amounts.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/**
 * A Checkout Session expires 30 min to 24 h after its creation: `expires_at` of
 * https://docs.stripe.com/api/checkout/sessions/create.
 */
export const SHORTEST_SESSION_MS = 30 * MINUTE_MS;

/**
 * The time from the expiry of a payment to the expiry of its session at Stripe. The value is the shortest lifetime of a
 * session, plus some minutes for clock differences. So Stripe accepts the first create request even if nodrop sends it
 * just before the payment expires. Repeated requests have the same parameters.
 */
export const SESSION_OUTLIVES_MS = SHORTEST_SESSION_MS + 5 * MINUTE_MS;

/** The maximum length of a payment intent's `description` according to Stripe's OpenAPI document. */
const SUBJECT = { atMost: 1000, countedIn: 'characters' } as const;

const CHECKOUT: MethodDeclaration = {
  name: 'checkout',
  action: 'redirect',
  currencies: currencyLimits,
  // A session can last 24 h at Stripe. The maximum for a payment is lower, because the session must expire after the
  // payment.
  expiry: { atLeastMs: SHORTEST_SESSION_MS, atMostMs: 23 * HOUR_MS },
  subject: SUBJECT,
  needs: [],
};

/**
 * Stripe.js must be loaded from Stripe: https://docs.stripe.com/js/including. Stripe lists the sources that Stripe.js
 * needs: https://docs.stripe.com/security/guide#content-security-policy.
 */
const formOf = (scriptUrl: string, apiUrl: string): FormDeclaration => {
  const { origin } = new URL(scriptUrl);
  return {
    script: {
      url: scriptUrl,
      sources: {
        script: [origin, 'https://*.js.stripe.com'],
        connect: [new URL(apiUrl).origin],
        frame: [origin, 'https://*.js.stripe.com', 'https://hooks.stripe.com'],
      },
    },
  };
};

const PAYMENT_INTENT: MethodDeclaration = {
  name: 'payment_intent',
  action: 'sdk',
  currencies: currencyLimits,
  expiry: { atLeastMs: 0, atMostMs: null },
  subject: SUBJECT,
  needs: [],
};

/** Returns the mode (test or live) that the prefix of the secret key shows: https://docs.stripe.com/keys. */
export const modeOf = ({ secret_key }: Credentials): AccountMode =>
  /^(sk|rk)_live_/.test(secret_key ?? '') ? 'live' : 'test';

/** @param scriptUrl the URL of Stripe.js @param apiUrl the base URL of Stripe's API */
export const declarationWith = (scriptUrl: string, apiUrl: string): ChannelDeclaration => ({
  ...declaration,
  methods: [CHECKOUT, { ...PAYMENT_INTENT, form: formOf(scriptUrl, apiUrl) }],
});

export const declaration: ChannelDeclaration = {
  name: 'stripe',
  title: { en: 'Card and more (Stripe)', zh: '银行卡等（Stripe）' },
  testOnly: false,
  methods: [CHECKOUT, PAYMENT_INTENT],
  // This rate limit counts activities. An activity sends up to three requests to Stripe, because a query of a paid
  // trade also reads the refunds and disputes of the trade.
  rateLimit: {
    perSecond: 8,
    source:
      'https://docs.stripe.com/rate-limits: 25 requests a second for an endpoint, and in a sandbox for all endpoints together; a call sends up to three',
  },
  // Stripe recommends webhooks, and names no intervals for queries.
  querySchedule: null,
  // Stripe may remove an idempotency key once it is at least 24 h old: https://docs.stripe.com/api/idempotent_requests.
  repeatableForMs: { create: 24 * HOUR_MS, refund: 24 * HOUR_MS },
  unknownTradeCanBePaid: false,
  adoption: {
    pattern: /^(cs|pi)_[0-9A-Za-z_]{1,190}$/,
    rule: 'must be the id of a Checkout Session (cs_...) or of a payment intent (pi_...)',
    example: 'cs_test_a1b2c3',
    isGlobal: true,
  },
  takesCallbackAddress: false,
  settings: [
    {
      name: 'secret_key',
      description:
        'The secret key, or a restricted key that may write Checkout Sessions, PaymentIntents and refunds and read disputes.',
      isSecret: true,
      isRequired: true,
      pattern: [
        /^(sk|rk)_(test|live)_[0-9A-Za-z]+$/,
        'must start with sk_test_, sk_live_, rk_test_ or rk_live_',
      ],
    },
    {
      name: 'publishable_key',
      description:
        'The publishable key of the same mode, for the method payment_intent. The cashier page passes it to Stripe.js.',
      isSecret: false,
      isRequired: false,
      pattern: [/^pk_(test|live)_[0-9A-Za-z]+$/, 'must start with pk_test_ or pk_live_'],
    },
    {
      name: 'webhook_secret',
      description:
        'The signing secret of the webhook endpoint, which you create for the address that `channels add` prints. Without the secret, callbacks are refused.',
      isSecret: true,
      // An account can be created without this setting. Stripe issues the webhook secret only when the merchant
      // registers the account's callback URL.
      isRequired: false,
      pattern: [/^whsec_[0-9A-Za-z+/=_-]+$/, 'must start with whsec_'],
    },
  ],
  modeOf,
};
