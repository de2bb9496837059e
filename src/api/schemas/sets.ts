import { ATTENTION_NAMES, ATTENTIONS } from '../../domain/attention.ts';
import { DELIVERY_STATUSES, EVENT_TYPES } from '../../domain/event.ts';
import {
  ORDER_STATUSES,
  ORDER_UPDATES,
  PAYER_ORDER_STATES,
  PAYMENT_STATUSES,
  REFUND_REASONS,
  REFUND_STATUSES,
  SETTLED_BY,
} from '../../domain/states.ts';
import { z } from '../http/zod.ts';

/** The sets of values that answers use. The sets are open: later releases of API v1 may add values. */

/**
 * Declares an open set of values in the OpenAPI document. Generated clients get the known values as literals, and still
 * accept values that are added later.
 * @param name the name of the open schema; the schema of the known values is `Known{name}`.
 * @param options `description` for the document, and `example`, by default the first value.
 * @returns `open` for answers: a known value or any other text; `known` for requests: only the known values.
 */
export function openSet<const Value extends string>(
  name: string,
  values: readonly Value[],
  {
    description = 'New values may be added: accept them.',
    example = values[0],
  }: { description?: string; example?: Value } = {},
) {
  const known = z.enum(values).openapi(`Known${name}`);
  return { known, open: z.union([known, z.string()]).openapi(name, { description, example }) };
}

export const orderStatus = openSet('OrderStatus', ORDER_STATUSES, { example: 'paying' });
export const payerOrderState = openSet('PayerOrderState', PAYER_ORDER_STATES, {
  description:
    'The state of the order for its payer, from all attempts; new values may be added: accept them. `open`: the order can be ' +
    'paid. `undecided`: this or another attempt may have received money or waits for a decision, so the payer must not pay ' +
    'again, and it is not certain that nothing was charged. `paid`: this or another attempt has paid the order (also if it ' +
    'was refunded since). `over`: the order can no longer be paid, and no money is known or expected. Unless the state is ' +
    '`open`, `nextAction` is null and `switchTo` is empty.',
});
export const paymentStatus = openSet('PaymentStatus', PAYMENT_STATUSES, { example: 'paying' });
export const orderUpdate = openSet('OrderUpdate', ORDER_UPDATES);
export const settledBy = openSet('SettledBy', SETTLED_BY);
export const ATTENTION_MEANING = [
  'Why an operator should look at the payment. New values may be added: accept them.\n',
  ...ATTENTION_NAMES.map((name) => `- \`${name}\`: ${ATTENTIONS[name].raised}`),
].join('\n');
export const attention = openSet('Attention', ATTENTION_NAMES, { description: ATTENTION_MEANING });
export const refundStatus = openSet('RefundStatus', REFUND_STATUSES, {
  description:
    'New values may be added: accept them. `needs_person`: the channel waits until a person acts there, and nodrop keeps ' +
    'querying it. `failed`: the channel will not refund this money, now or later. `reversed`: the refund failed after it had ' +
    'succeeded, and the merchant has the money again.',
});
export const refundReason = openSet('RefundReason', REFUND_REASONS);
export const eventType = openSet('EventType', EVENT_TYPES);
export const deliveryStatus = openSet('DeliveryStatus', DELIVERY_STATUSES, {
  description:
    'New values may be added: accept them. `superseded`: the event was no longer true before the order service answered, for ' +
    'example a success whose money has been refunded in full. It is no longer delivered; newer events have the current state.',
});
