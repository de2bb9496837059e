import type { AccountMode, ChannelAdapter, Payer } from '../../domain/channel.ts';
import { canPay } from '../../domain/limits.ts';
import { isLive } from '../../domain/states.ts';
import type { PaymentOfPayer } from '../../ledger/queries.ts';
import type { PayerPaymentView } from '../schemas/payment.ts';
import { orderStateOf } from './order-state.ts';

/**
 * If an order already has this number of attempts, a payer with a client token cannot create another attempt. The
 * number is limited, because each attempt creates a trade at a channel.
 */
export const ATTEMPTS_OF_PAYERS = 20;

/**
 * Returns the other channels and methods with which the payer can pay the order now. The list is empty if the order
 * state is not `open`.
 */
export function switchOptions(
  payment: PaymentOfPayer,
  channels: ReadonlyMap<string, ChannelAdapter>,
  mode: AccountMode,
  now: Date,
): PayerPaymentView['switchTo'] {
  if (orderStateOf(payment, now) !== 'open' || payment.order.payments.length >= ATTEMPTS_OF_PAYERS) return [];
  const money = { currency: payment.currency, amount: Number(payment.amount) };
  return payment.channels
    .filter((offered) => offered.mode === mode)
    .flatMap(({ channel }) => channels.get(channel) ?? [])
    .flatMap(({ declaration: { name, methods } }) =>
      methods
        .filter((method) => canPay(method, money, payment.payer as Payer | null))
        .map((method) => ({ channel: name, method: method.name })),
    )
    .filter(
      ({ channel, method }) =>
        !isLive(payment.status) || channel !== payment.channel || method !== payment.method,
    );
}
