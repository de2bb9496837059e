import { afterAll, afterEach, beforeAll, beforeEach, vi } from 'vitest';
import type { ChannelAdapter, NewRefund, NewTrade } from '../../../src/domain/channel.ts';
import type { Outcome } from '../../doubles/stripe/books.ts';
import { type StripeDouble, startStripeDouble } from '../../doubles/stripe/start.ts';
import { adapterAt, idOf } from './support.ts';

/**
 * Shared set-up of the Stripe adapter's tests against the double. The double is a separate process with its own books.
 */

export let double: StripeDouble;
export let adapter: ChannelAdapter;

beforeAll(async () => {
  double = await startStripeDouble();
  adapter = adapterAt(double.url);
});
afterAll(() => double.stop());
beforeEach(async () => {
  await double.tell('faults', []);
  await double.tell('clock', { offsetS: 0 });
  await double.tell('balance', { isPoor: false });
  await double.tell('refundPlan', { status: 'succeeded' });
  await double.tell('requests', {});
});
afterEach(() => {
  vi.useRealTimers();
});

export const METHODS = ['checkout', 'payment_intent'] as const;

/**
 * Pays the trade, as the payer does.
 * @returns the payment intent
 */
export async function pay(trade: NewTrade, outcome: Outcome = 'paid'): Promise<string> {
  const { payment } = (await double.tell('pay', { id: idOf(trade), outcome })) as { payment: string };
  return payment;
}

export const refundOf = (changes: Partial<NewRefund> = {}): NewRefund => ({
  outRefundNo: `ref_${Math.random().toString(36).slice(2)}`,
  channelRefundId: null,
  attempt: 1,
  amount: 1050,
  currency: 'EUR',
  total: 1050,
  ...changes,
});

export const requests = async () =>
  (await double.tell('requests', {})) as {
    method: string;
    path: string;
    key?: string;
    version?: string;
    body: string;
  }[];

export const path = (method: (typeof METHODS)[number]) =>
  method === 'checkout' ? '/v1/checkout/sessions' : '/v1/payment_intents';
