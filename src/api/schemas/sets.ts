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

/** The sets of values that answers use. They are open: values are added within v1. */

/**
 * A set of values in the document. Generated clients get its known values as literals, and a value that is added later
 * is valid for them all the same.
 * @param name of the open schema; the one of the known values alone is `Known{name}`.
 * @param about a description for those who read the document, and an example; by default the first value.
 * @returns `open` for answers: one of the known values or any other text; `known` for requests: the known values alone.
 */
export function openSet<const Value extends string>(
  name: string,
  values: readonly Value[],
  { description = 'Accept new ones.', example = values[0] }: { description?: string; example?: Value } = {},
) {
  const known = z.enum(values).openapi(`Known${name}`);
  return { known, open: z.union([known, z.string()]).openapi(name, { description, example }) };
}

export const orderStatus = openSet('OrderStatus', ORDER_STATUSES, { example: 'paying' });
export const payerOrderState = openSet('PayerOrderState', PAYER_ORDER_STATES, {
  description:
    'The order as its payer may know it, by this and every other attempt; accept new ones. `open`: it can be paid. ' +
    '`undecided`: money or a decision is on its way by this or another attempt: do not pay again; nobody knows yet that ' +
    'nothing was charged. `paid`: it is paid, by this or another attempt (also when it was refunded since). `over`: it ' +
    'can no longer be paid, and no money is known or expected. Unless it is `open` there is no `nextAction` and nothing ' +
    'in `switchTo`.',
});
export const paymentStatus = openSet('PaymentStatus', PAYMENT_STATUSES, { example: 'paying' });
export const orderUpdate = openSet('OrderUpdate', ORDER_UPDATES);
export const settledBy = openSet('SettledBy', SETTLED_BY);
export const ATTENTION_MEANING = [
  'Why a person should look at it; accept new ones.\n',
  ...ATTENTION_NAMES.map((name) => `- \`${name}\`: ${ATTENTIONS[name].raised}`),
].join('\n');
export const attention = openSet('Attention', ATTENTION_NAMES, { description: ATTENTION_MEANING });
export const refundStatus = openSet('RefundStatus', REFUND_STATUSES, {
  description:
    'Accept new ones. `needs_person`: the channel waits for somebody to do something there; it is asked on. `failed`: it ' +
    'gives nothing back, now or later. `reversed`: it failed after it had succeeded, and the money is here again.',
});
export const refundReason = openSet('RefundReason', REFUND_REASONS);
export const eventType = openSet('EventType', EVENT_TYPES);
export const deliveryStatus = openSet('DeliveryStatus', DELIVERY_STATUSES, {
  description:
    'Accept new ones. `superseded`: what the event says ceased to be true before the order service answered, as a ' +
    'success once all of its money is back. It is not told any more; newer events say what is true.',
});
