import { randomUUID } from 'node:crypto';
import { Stripe } from 'stripe';
import { createStripeAdapter } from '../../../src/channels/stripe/adapter.ts';
import type {
  CallbackRequest,
  ChannelAccount,
  ChannelAdapter,
  ChannelError,
  Credentials,
  NewTrade,
  Trade,
} from '../../../src/domain/channel.ts';

export const CREDENTIALS = {
  secret_key: 'sk_test_double',
  publishable_key: 'pk_test_double',
  webhook_secret: 'whsec_double',
} as const;

export const accountOf = (...credentials: readonly Credentials[]): ChannelAccount => ({
  id: 'acc_1',
  merchantId: 'default',
  channel: 'stripe',
  credentials,
});

export const ACCOUNT = accountOf(CREDENTIALS);

export const adapterAt = (url: string): ChannelAdapter => createStripeAdapter({ url });

export function newTrade(changes: Partial<NewTrade> = {}): NewTrade {
  const now = Date.now();
  return {
    outTradeNo: `pay_${randomUUID().replaceAll('-', '')}`,
    method: 'checkout',
    amount: 1050,
    currency: 'EUR',
    createdAt: new Date(now).toISOString(),
    expiresAt: new Date(now + 15 * 60_000).toISOString(),
    reference: null,
    subject: 'Two tickets',
    notifyUrl: 'https://shop.example/callbacks/stripe',
    returnUrl: 'https://shop.example/done',
    payer: {},
    ...changes,
  };
}

/** Creates the trade, and returns it with its reference. */
export async function created(adapter: ChannelAdapter, trade: NewTrade = newTrade()): Promise<NewTrade> {
  const made = await adapter.createTrade(ACCOUNT, trade);
  if (made === 'not_renewable' || made.reference === undefined) throw new Error('no trade was created');
  return { ...trade, reference: made.reference };
}

export const idOf = (trade: Trade): string => trade.reference?.id ?? '';

/** Returns the error of a call that must fail. */
export const errorOf = (call: Promise<unknown>): Promise<ChannelError> =>
  call.then(
    (value) => {
      throw new Error(`the call returned ${JSON.stringify(value)}`);
    },
    (error: ChannelError) => error,
  );

/** A callback that Stripe's own library has signed. */
export function signed(
  body: string,
  { secret = CREDENTIALS.webhook_secret, ageS = 0 }: { secret?: string; ageS?: number } = {},
): CallbackRequest {
  const timestamp = Math.floor(Date.now() / 1000) - ageS;
  const header = Stripe.webhooks.generateTestHeaderString({ payload: body, secret, timestamp });
  return { headers: { 'stripe-signature': header }, rawBody: Buffer.from(body) };
}
