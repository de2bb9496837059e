import type { ChannelAdapter } from '../domain/channel.ts';
import { isLive, type PaymentStatus } from '../domain/states.ts';
import { refusesAttempts } from '../ledger/intake.ts';
import type { PaymentOfPayer } from '../ledger/views.ts';
import { isUndecided } from './resolve-other-attempts.ts';
import type { PayerPaymentView } from './schemas/payment.ts';

/** What else a payer can pay the order with now; nothing when it takes no attempt, or one is still being decided. */
export function switchOptions(
  payment: PaymentOfPayer,
  channels: ReadonlyMap<string, ChannelAdapter>,
  now: Date,
): PayerPaymentView['switchTo'] {
  const { order, merchant } = payment;
  if (refusesAttempts(order, order.payments, now) !== null || order.payments.some(isUndecided)) return [];
  return merchant.channelAccounts
    .flatMap(({ channel }) => channels.get(channel) ?? [])
    .filter((adapter) => takes(adapter, payment.currency))
    .flatMap(({ name, methods }) => methods.map((method) => ({ channel: name, method })))
    .filter(
      ({ channel, method }) =>
        !isLive(payment.status as PaymentStatus) || channel !== payment.channel || method !== payment.method,
    );
}

/** True when the channel can be paid in this currency. */
export const takes = ({ currencies }: ChannelAdapter, currency: string): boolean =>
  currencies.length === 0 || currencies.includes(currency);
