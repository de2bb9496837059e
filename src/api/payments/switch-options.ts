import { type ChannelAdapter, takesCurrency } from '../../domain/channel.ts';
import { isLive } from '../../domain/states.ts';
import type { PaymentOfPayer } from '../../ledger/views.ts';
import type { PayerPaymentView } from '../schemas/payment.ts';
import { orderStateOf } from './order-state.ts';

/** A payer may change their mind; whoever does so without end costs the channels a trade each time. */
export const ATTEMPTS_OF_PAYERS = 20;

/** What else a payer can pay the order with now; nothing unless it is open. */
export function switchOptions(
  payment: PaymentOfPayer,
  channels: ReadonlyMap<string, ChannelAdapter>,
  now: Date,
): PayerPaymentView['switchTo'] {
  if (orderStateOf(payment, now) !== 'open' || payment.order.payments.length >= ATTEMPTS_OF_PAYERS) return [];
  return payment.channels
    .flatMap((channel) => channels.get(channel) ?? [])
    .flatMap(({ declaration: { name, methods } }) =>
      methods
        .filter((method) => takesCurrency(method, payment.currency))
        .map((method) => ({ channel: name, method: method.name })),
    )
    .filter(
      ({ channel, method }) =>
        !isLive(payment.status) || channel !== payment.channel || method !== payment.method,
    );
}
