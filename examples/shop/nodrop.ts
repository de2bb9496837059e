// In a shop of your own: import { ... } from 'nodrop-client'.
import { createClient, NodropError, NodropNetworkError } from '../../clients/js/index.js';
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
  /** Where the payer pays; null while the channel has not answered. */
  readonly payUrl: string | null;
}

/**
 * `over`: nodrop knows that the order takes no payment any more. `unresolved`: another attempt is being decided.
 * `away`: nothing is known.
 */
export type Refused = 'over' | 'unresolved' | 'away';

const CANCEL_MS = 15_000;
/** A customer waits for the page. */
const READ_MS = 3_000;

/** What an order and an attempt may be when nothing is paid; a word that nobody knows yet is none of these. */
const OPEN = 'unpaid';
const OVER = new Set(['cancelled', 'closed', 'refunded']);
const ENDED = new Set(['failed', 'cancelled', 'closed']);

/** Also one whose money goes back, or is back. */
const isOver = ({ status, orderUpdate, receivedAmount, refundedAmount }: PaymentNow) =>
  ENDED.has(status) ||
  orderUpdate === 'conflict' ||
  (receivedAmount !== null && refundedAmount >= receivedAmount);

export function connectNodrop({ nodropUrl, nodropKey, channel, url }: Settings): Nodrop {
  const client = createClient({ baseUrl: nodropUrl, key: nodropKey });
  return {
    async pay({ id, amount, currency, subject }) {
      try {
        const payment = await client.createPayment({
          order: { id, amount, currency, subject },
          channel,
          returnUrl: `${url}/orders/${id}`,
        });
        // The cashier page where there is one, else straight to the wallet.
        return { paymentId: payment.id, payUrl: payment.checkoutUrl ?? payment.payUrl };
      } catch (error) {
        if (error instanceof NodropNetworkError) return 'away';
        if (!(error instanceof NodropError)) throw error;
        if (error.code === 'order_already_paid' || error.code === 'order_not_payable') return 'over';
        if (error.code === 'attempt_unresolved') return 'unresolved';
        console.error(`nodrop refused the payment of order ${id}: ${error.message} (${error.requestId})`);
        return 'away';
      }
    },
    async cancel(orderId) {
      try {
        const response = await fetch(`${nodropUrl}/v1/orders/${encodeURIComponent(orderId)}/cancel`, {
          method: 'POST',
          headers: { authorization: `Bearer ${nodropKey}` },
          signal: AbortSignal.timeout(CANCEL_MS),
        });
        // 404: nobody has tried to pay it, so nodrop has not heard of it.
        if (response.status === 200 || response.status === 404) return 'cancelled';
        return response.status === 409 ? 'paid' : 'unsettled';
      } catch {
        return 'unsettled';
      }
    },
    async askWord(orderId) {
      try {
        const response = await fetch(`${nodropUrl}/v1/orders/${encodeURIComponent(orderId)}`, {
          headers: { authorization: `Bearer ${nodropKey}` },
          signal: AbortSignal.timeout(READ_MS),
        });
        if (!response.ok) return 'unknown';
        const order = (await response.json()) as { status: string; payments: PaymentNow[] };
        if (!order.payments.every(isOver)) return 'unknown';
        if (order.status === OPEN) return 'open';
        return OVER.has(order.status) ? 'over' : 'unknown';
      } catch {
        return 'unknown';
      }
    },
    async readPayment(paymentId) {
      try {
        const response = await fetch(`${nodropUrl}/v1/payments/${encodeURIComponent(paymentId)}`, {
          headers: { authorization: `Bearer ${nodropKey}` },
          signal: AbortSignal.timeout(READ_MS),
        });
        if (!response.ok) return 'unknown';
        const { status, orderUpdate, receivedAmount, refundedAmount } = (await response.json()) as PaymentNow;
        return { status, orderUpdate, receivedAmount, refundedAmount };
      } catch {
        return 'unknown';
      }
    },
  };
}
