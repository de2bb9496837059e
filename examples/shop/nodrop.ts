// A shop of your own imports this client from the package: import { ... } from '@nodrop/client/server'.
import { createServerClient, NodropError } from '../../clients/js/server.js';
import type { Order } from './orders.ts';
import type { Settings } from './settings.ts';

/** All calls of the shop to nodrop. */
export interface Nodrop {
  /** Starts a payment of the order, or returns the payment that is under way. The call may always be repeated. */
  pay(order: Order): Promise<Started | Refused>;
  /**
   * Cancels the order at nodrop. If the answer is `cancelled`, no money can arrive any longer. After any other answer,
   * money can still arrive.
   */
  cancel(orderId: string): Promise<'cancelled' | 'paid' | 'unsettled'>;
  /** Reads from nodrop whether an order can still be paid. Called when every payment that the shop knows has ended. */
  readReport(orderId: string): Promise<OrderReport>;
  /** The present state of the payment; `unknown` while nodrop does not answer. */
  readPayment(paymentId: string): Promise<PaymentNow | 'unknown'>;
}

/** The fields that decide whether a payment pays its order. */
export interface PaymentNow {
  readonly status: string;
  readonly orderUpdate: string | null;
  /** Null until money has arrived. */
  readonly receivedAmount: number | null;
  readonly refundedAmount: number;
}

/**
 * What nodrop reports about an order. With `open` and `over`, no attempt holds or can receive money for the order.
 * `open`: the order accepts another attempt. `over`: it accepts no other attempt. `unknown`: nodrop reports something
 * else, or does not answer.
 */
export type OrderReport = 'open' | 'over' | 'unknown';

export interface Started {
  readonly paymentId: string;
  /** The URL of nodrop's cashier page. */
  readonly payUrl: string;
}

/**
 * Why nodrop did not start a payment. `over`: nodrop no longer accepts payments for the order. `unresolved`: another
 * attempt is still undecided. `away`: the result is unknown.
 */
export type Refused = 'over' | 'unresolved' | 'away';

/**
 * Time limit of a write. It leaves time for the payment to start at the channel. If it passes, the customer can press
 * the button again.
 */
const WRITE_MS = 15_000;
/** Time limit of a read. It is short, because the customer waits for the page. */
const READ_MS = 3_000;

/**
 * `ENDED` contains the statuses of an attempt that has ended unpaid. `OVER` contains the statuses of an order that
 * accepts no more payments. Neither set contains statuses that a later version of nodrop adds.
 */
const ENDED: ReadonlySet<string> = new Set(['failed', 'cancelled', 'closed']);
const OVER: ReadonlySet<string> = new Set(['cancelled', 'closed', 'refunded']);

/**
 * True for an attempt that has ended without paying the order. Also true for a payment whose money is being refunded or
 * was refunded.
 */
const isOver = ({ status, orderUpdate, receivedAmount, refundedAmount }: PaymentNow) =>
  ENDED.has(status) ||
  orderUpdate === 'conflict' ||
  (receivedAmount !== null && refundedAmount >= receivedAmount);

export function connectNodrop({ nodropUrl, nodropKey, channel, url }: Settings): Nodrop {
  const client = createServerClient({ baseUrl: nodropUrl, key: nodropKey });
  return {
    async pay({ id, amount, currency, subject }) {
      try {
        const payment = await client.createPayment(
          { order: { id, amount, currency, subject }, channel, returnUrl: `${url}/orders/${id}` },
          { timeoutMs: WRITE_MS },
        );
        return { paymentId: payment.id, payUrl: payment.checkoutUrl };
      } catch (error) {
        if (!(error instanceof NodropError)) throw error;
        if (error.code === 'no_answer') return 'away';
        if (error.code === 'order_already_paid' || error.code === 'order_not_payable') return 'over';
        if (error.code === 'attempt_unresolved') return 'unresolved';
        console.error(`nodrop refused the payment of order ${id}: ${error.message} (${error.requestId})`);
        return 'away';
      }
    },
    async cancel(orderId) {
      try {
        const { status } = await client.cancelOrder(orderId, { timeoutMs: WRITE_MS });
        return status === 'cancelled' || status === 'closed' ? 'cancelled' : 'unsettled';
      } catch (error) {
        if (!(error instanceof NodropError)) throw error;
        // nodrop does not have the order, because the customer never started a payment.
        if (error.code === 'order_not_found') return 'cancelled';
        return error.code === 'order_already_paid' ? 'paid' : 'unsettled';
      }
    },
    async readReport(orderId) {
      try {
        const order = await client.getOrder(orderId, { timeoutMs: READ_MS });
        if (!order.payments.every(isOver)) return 'unknown';
        if (order.status === 'unpaid') return 'open';
        return OVER.has(order.status) ? 'over' : 'unknown';
      } catch (error) {
        if (!(error instanceof NodropError)) throw error;
        return 'unknown';
      }
    },
    async readPayment(paymentId) {
      try {
        const payment = await client.getPayment(paymentId, { timeoutMs: READ_MS });
        const { status, orderUpdate, receivedAmount, refundedAmount } = payment;
        return { status, orderUpdate, receivedAmount, refundedAmount };
      } catch (error) {
        if (!(error instanceof NodropError)) throw error;
        return 'unknown';
      }
    },
  };
}
