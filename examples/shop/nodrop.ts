// In a shop of your own: import { ... } from '@nodrop/client/server'.
import { createServerClient, NodropError } from '../../clients/js/server.js';
import type { Order } from './orders.ts';
import type { Settings } from './settings.ts';

/** All that the shop asks of nodrop. */
export interface Nodrop {
  /** Starts a payment of the order, or finds the one under way; asking again is always safe. */
  pay(order: Order): Promise<Started | Refused>;
  /** Ends what is under way for the order. Only after `cancelled` no money can come any more. */
  cancel(orderId: string): Promise<'cancelled' | 'paid' | 'unsettled'>;
  /** What nodrop says of an order whose known attempts are all over. */
  askWord(orderId: string): Promise<Word>;
  /** The payment as it is now; `unknown` while nodrop does not answer. */
  readPayment(paymentId: string): Promise<PaymentNow | 'unknown'>;
}

/** What decides whether a payment pays its order. */
export interface PaymentNow {
  readonly status: string;
  readonly orderUpdate: string | null;
  /** Null until money came in. */
  readonly receivedAmount: number | null;
  readonly refundedAmount: number;
}

/**
 * `open` and `over`: no attempt has brought money that stays, or still can, and the order takes another one, or none any
 * more. `unknown`: anything else, and no answer.
 */
export type Word = 'open' | 'over' | 'unknown';

export interface Started {
  readonly paymentId: string;
  /** Where the payer pays: nodrop's cashier page. */
  readonly payUrl: string;
}

/**
 * `over`: nodrop knows that the order takes no payment any more. `unresolved`: another attempt is being decided.
 * `away`: nothing is known.
 */
export type Refused = 'over' | 'unresolved' | 'away';

/** A customer waits, and presses again. */
const WRITE_MS = 15_000;
/** A customer waits for the page. */
const READ_MS = 3_000;

/** What an attempt and an order may be when nothing is paid; a word that nobody knows yet is none of these. */
const ENDED: ReadonlySet<string> = new Set(['failed', 'cancelled', 'closed']);
const OVER: ReadonlySet<string> = new Set(['cancelled', 'closed', 'refunded']);

/** Also one whose money goes back, or is back. */
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
        // Nobody has tried to pay it, so nodrop has not heard of it.
        if (error.code === 'order_not_found') return 'cancelled';
        return error.code === 'order_already_paid' ? 'paid' : 'unsettled';
      }
    },
    async askWord(orderId) {
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
