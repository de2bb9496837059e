import { EVENT_TYPES, type EventType } from '../domain/event.ts';
import { automaticRefundId, newEventId, newPaymentId, requestedRefundId } from '../domain/ids.ts';
import { amountText } from '../domain/money.ts';
import { json } from './client.ts';
import { type EventContent, eventMessage, orderData, paymentData, refundData } from './event-data.ts';
import { versionAfter } from './events.ts';
import type { Event, Order, Payment, Refund } from './rows.ts';

/**
 * This file builds sample events about a payment that does not exist. The code that builds real events also builds
 * these.
 */

/** The body of an event. `test` marks a test event, which is not about a real payment. */
export type EventBody = ReturnType<typeof eventMessage> & { readonly test?: true };

const AMOUNT = 1990n;
const CURRENCY = 'CNY';

/**
 * Returns one sample event of each type for docs/events. Each sample is an event that the ledger could write. The
 * samples are the same in every run.
 */
export const sampleEvents = (): ReadonlyMap<EventType, EventBody> =>
  new Map(
    EVENT_TYPES.map((type) => {
      const at = new Date('2026-11-21T10:00:02.113Z');
      return [type, toBody(type, sample(type, 'order-1001', 'pay_01KAKD7Z7C8Q6W4Y9V5T3R1P0N', at), at)];
    }),
  );

/**
 * Returns one test event of each type, with its `webhook-id`, for `merchants test-event`. A test event must not change
 * an order. Therefore it is marked as a test, and its order and payment do not exist. The test event
 * `payment.succeeded` contains a fully refunded payment, because such a payment pays no order. A real event of this
 * type never contains one. Test events of other types are like the samples.
 * @param now the time of the events
 */
export const testEvents = (now: Date): { readonly id: string; readonly body: EventBody }[] =>
  EVENT_TYPES.map((type) => {
    const paymentId = newPaymentId();
    // The test event contains a fully refunded payment, but not the refund itself.
    const of = type === 'payment.succeeded' ? 'refund.succeeded' : type;
    const rows = sample(of, `nodrop-test-${paymentId}`, paymentId, now);
    const { data, ...head } = toBody(type, rows, now);
    return { id: newEventId(), body: { ...head, test: true, data } };
  });

/** Columns of the rows that an event contains. */
interface Rows {
  readonly payment: Partial<Payment>;
  readonly order: Partial<Order>;
  readonly refund?: Partial<Refund>;
}

function toBody(type: EventType, { payment, order, refund }: Rows, at: Date): EventBody {
  const content: EventContent = {
    payment: paymentData(payment as Payment),
    order: orderData(order as Order),
    ...(type.startsWith('refund.') ? { refund: refundData(refund as Refund) } : {}),
  };
  // A sample event is the first event of its payment, so the last event version before it is 0.
  const version = versionAfter({ eventVersion: 0, createdAt: payment.createdAt as Date }, at);
  return eventMessage({ type, createdAt: at, data: json(content), version } as Event);
}

/** Returns the rows as they are after an event of this type. */
function sample(type: EventType, orderId: string, paymentId: string, at: Date): Rows {
  const before = (seconds: number) => new Date(at.getTime() - seconds * 1000);
  const created = (secondsAgo: number) => ({
    createdAt: before(secondsAgo),
    expiresAt: before(secondsAgo - 1800),
  });
  const unpaid = {
    id: paymentId,
    orderId,
    channel: 'simulator',
    method: 'wallet',
    amount: AMOUNT,
    currency: CURRENCY,
    refundedAmount: 0n,
    ...created(60),
    orderUpdate: null,
    paidAt: null,
    settledBy: null,
    channelPaymentId: null,
    receivedAmount: null,
    receivedCurrency: null,
    attention: null,
    attentionSince: null,
    attentionDetail: null,
    metadata: {},
    settledAt: null,
    orderUpdatedAt: null,
    cancelRequestedAt: null,
    recoveredAt: null,
  } satisfies Partial<Payment>;
  const paid = (secondsAgo: number, orderUpdate: Payment['orderUpdate']) => ({
    ...unpaid,
    status: 'succeeded' as const,
    orderUpdate,
    paidAt: before(secondsAgo + 2),
    settledBy: 'callback' as const,
    channelPaymentId: 'sim_1001',
    receivedAmount: AMOUNT,
    receivedCurrency: CURRENCY,
    settledAt: before(secondsAgo),
    // Null while the payment waits for the order service's agreement.
    orderUpdatedAt: orderUpdate === 'pending' ? null : before(secondsAgo),
  });
  const shown = (attention: Payment['attention'], attentionDetail: string) => ({
    ...{ attention, attentionDetail, attentionSince: at },
  });
  const unpaidOrder = {
    id: orderId,
    amount: AMOUNT,
    currency: CURRENCY,
    subject: 'Coffee',
    status: 'unpaid',
    paidPaymentId: null,
    paidAt: null,
    metadata: {},
    createdAt: before(60),
    expiresAt: null,
    cancelRequestedAt: null,
    recoveredAt: null,
  } satisfies Partial<Order>;
  const cancel = { cancelRequestedAt: before(30) };
  const cancelledOrder = { ...unpaidOrder, ...cancel, status: 'cancelled' as const };
  const refund = {
    paymentId,
    amount: AMOUNT,
    askedAmount: null,
    currency: CURRENCY,
    note: null,
    replacedBy: null,
    createdAt: before(5),
    settledAt: at,
  } satisfies Partial<Refund>;

  switch (type) {
    case 'payment.succeeded': {
      const payment = paid(0, 'pending');
      const order = {
        ...unpaidOrder,
        ...{ status: 'succeeded' as const, paidPaymentId: paymentId, paidAt: payment.paidAt },
      };
      return { payment, order };
    }
    case 'payment.conflict': {
      const why = 'The order was already cancelled when the money arrived: the payment must be refunded.';
      const payment = { ...paid(0, 'conflict'), ...cancel, ...shown('order_conflict', why) };
      return { payment, order: cancelledOrder };
    }
    case 'payment.review': {
      const why = 'The money arrived after the payment had ended; the merchant wants to decide.';
      const times = created(1830);
      const payment = { ...paid(0, 'review'), ...times, ...shown('late_payment_review', why) };
      return { payment, order: { ...unpaidOrder, createdAt: times.createdAt } };
    }
    case 'payment.failed':
      return { payment: { ...unpaid, status: 'failed' }, order: unpaidOrder };
    case 'payment.cancelled':
      return { payment: { ...unpaid, ...cancel, status: 'cancelled' }, order: cancelledOrder };
    case 'payment.closed': {
      const times = created(1801);
      const payment = { ...unpaid, ...times, status: 'closed' as const };
      return { payment, order: { ...unpaidOrder, createdAt: times.createdAt } };
    }
    case 'refund.succeeded': {
      const times = created(3600);
      const payment = { ...paid(3550, 'applied'), ...times, refundedAmount: AMOUNT };
      const order = {
        ...{ ...unpaidOrder, createdAt: times.createdAt },
        ...{ status: 'refunded' as const, paidPaymentId: paymentId, paidAt: payment.paidAt },
      };
      const request = {
        merchantId: 'mer_sample',
        paymentId,
        idempotencyKey: 'sample',
        amount: 'all' as const,
      };
      const requested = { id: requestedRefundId(request), status: 'succeeded', reason: 'requested' } as const;
      const given = { ...refund, ...requested, failure: null, channelRefundId: 'sim_2001' };
      return { payment, order, refund: given };
    }
    case 'refund.failed': {
      const id = automaticRefundId(paymentId);
      const failure = 'The account of the payer is closed.';
      const why = `The channel refused refund ${id} of ${amountText(AMOUNT, CURRENCY)}: ${failure}`;
      const payment = { ...paid(5, 'conflict'), ...cancel, ...shown('refund_failing', why) };
      const owed = { id, status: 'failed', reason: 'late_payment' } as const;
      const refused = { ...refund, ...owed, failure, channelRefundId: null };
      return { payment, order: cancelledOrder, refund: refused };
    }
    case 'refund.reversed': {
      const times = created(700_000);
      const id = automaticRefundId(paymentId);
      const failure = 'The bank returned it.';
      const why = `Refund ${id} of ${amountText(AMOUNT, CURRENCY)} failed after it had succeeded, and the money is back at the merchant: ${failure}`;
      const cancelled = { cancelRequestedAt: before(699_970) };
      const payment = {
        ...{ ...paid(699_950, 'conflict'), ...times, ...cancelled },
        ...shown('refund_reversed', why),
      };
      const owed = { id, status: 'reversed', reason: 'late_payment' } as const;
      const returned = { ...refund, createdAt: before(699_940), settledAt: before(699_935) };
      const reversed = { ...returned, ...owed, failure, channelRefundId: 'sim_2001' };
      const order = { ...cancelledOrder, ...cancelled, createdAt: times.createdAt };
      return { payment, order, refund: reversed };
    }
  }
}
