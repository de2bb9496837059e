import { paymentWorkflowId, refundWorkflowId } from '../../src/domain/names.ts';
import type { Callback, Order, Payment, Refund } from '../../src/generated/prisma/client.ts';

/** What is true at the end of a case: our ledger, the channel's, and what was asked of either. */
export interface Facts {
  /** Null when nobody got so far as to make one. */
  readonly order: Order | null;
  readonly payments: readonly Payment[];
  readonly refunds: readonly Refund[];
  readonly callbacks: readonly Callback[];
  /** The channel's ledger: the ground truth. */
  readonly trades: readonly Trade[];
  readonly workflows: readonly { readonly id: string; readonly status: string }[];
  /** Given back at the channel itself, past nodrop; minor units by out-trade-no. */
  readonly external: ReadonlyMap<string, number>;
  readonly cancelAsked: boolean;
}

/** As the simulator's ledger has it. Minor units. */
export interface Trade {
  readonly outTradeNo: string;
  readonly amount: number;
  readonly currency: string;
  readonly state: 'NOTPAY' | 'PROCESSING' | 'SUCCESS' | 'CLOSED' | 'REFUND' | 'PAYERROR';
  readonly paidAt: string | null;
  readonly refunded: number;
}

/** The workflows that must have ended. */
export function waitsFor(payments: readonly Payment[], refunds: readonly Refund[]): string[] {
  return [
    ...payments.map(({ id }) => paymentWorkflowId(id)),
    ...refunds.filter(({ reason }) => reason !== 'external').map(({ id }) => refundWorkflowId(id)),
  ];
}

/**
 * The promises, as far as two ledgers can tell, of one order after everything is well again and all time has passed.
 * @returns a sentence for each way in which one is broken.
 */
export function checkPromises(facts: Facts): string[] {
  const { order, payments, refunds, trades } = facts;
  const broken: string[] = [];
  const must = (holds: boolean, sentence: string) => void (holds || broken.push(sentence));
  const tradeOf = ({ id }: Payment) => trades.find(({ outTradeNo }) => outTradeNo === id);
  const refundsOf = ({ id }: Payment) => refunds.filter(({ paymentId }) => paymentId === id);
  const succeeded = (rows: readonly Refund[]) =>
    rows.filter(({ status }) => status === 'succeeded').reduce((sum, { amount }) => sum + Number(amount), 0);

  const known = new Set(payments.map(({ id }) => id));
  for (const { outTradeNo } of trades)
    must(known.has(outTradeNo), `the channel has trade ${outTradeNo}, which is no payment`);

  for (const payment of payments) {
    const { id, status, orderUpdate, attention, cancelRequestedAt } = payment;
    const trade = tradeOf(payment);
    const said = trade === undefined ? 'unknown' : trade.state;
    const what = `payment ${id} (${status}, ${orderUpdate}, ${attention}; at the channel ${said})`;
    const isPaid = trade !== undefined && trade.paidAt !== null;

    // P1: the channel's word has come through. P2: nothing is paid without it.
    must(
      isPaid === (status === 'succeeded'),
      `${what}: the channel ${isPaid ? 'has the money' : 'has no money'}`,
    );
    // P3: only the channel's word ends one.
    if (status === 'failed') must(said === 'PAYERROR', `${what}: the channel never declined it`);
    if (status === 'cancelled') must(cancelRequestedAt !== null, `${what}: nobody asked for that`);
    must(status !== 'created' && status !== 'paying', `${what}: it is still waiting`);
    must(said !== 'PROCESSING', `${what}: the case is not over`);
    if (!isPaid) continue;

    // P1, P2: every cent of it.
    const received = Number(payment.receivedAmount);
    const refunded = Number(payment.refundedAmount);
    const made = refundsOf(payment);
    must(received === trade.amount, `${what}: ${trade.amount} came in, ${received} are recorded`);
    must(refunded === trade.refunded, `${what}: ${trade.refunded} went back, ${refunded} are recorded`);
    must(refunded === succeeded(made), `${what}: its refunds are ${succeeded(made)}, not ${refunded}`);
    must(refunded <= received, `${what}: ${refunded} of ${received} went back`);
    // P5: what went back without our asking is what others gave back; anything more we gave back twice.
    const others = facts.external.get(id) ?? 0;
    const external = succeeded(made.filter(({ reason }) => reason === 'external'));
    must(external === others, `${what}: others gave back ${others}, ${external} are recorded as theirs`);

    if (orderUpdate === 'applied') {
      must(received === Number(order?.amount), `${what}: it pays the order with ${received}`);
      must(order?.paidPaymentId === id, `${what}: the order says ${order?.paidPaymentId} paid it`);
    } else {
      // Money that pays nothing goes back, or a person is told of it.
      must(
        refunded === received || attention !== null,
        `${what}: ${received - refunded} are kept for nothing`,
      );
      must(orderUpdate === 'conflict' || orderUpdate === 'review', `${what}: nobody decided over it`);
      // Nobody has to ask for what the order cannot take; only a refusal of the channel is a person's business.
      must(
        orderUpdate !== 'conflict' || refunded === received || attention === 'refund_failing',
        `${what}: ${received - refunded} are owed back and did not go`,
      );
    }
    if (orderUpdate === 'review') must(attention !== null, `${what}: nobody is asked to decide`);
    if (refunded === received)
      must(attention === null || attention === 'channel_reversed', `${what}: attention for nothing`);
  }

  for (const { id, status } of refunds)
    must(status === 'succeeded' || status === 'failed', `refund ${id} is still ${status}`);
  for (const { id, deliveredAt } of facts.callbacks)
    must(deliveredAt !== null, `callback ${id} was acknowledged and never delivered`);
  for (const { id, status } of facts.workflows) must(status === 'COMPLETED', `workflow ${id} is ${status}`);

  const payers = payments.filter(({ orderUpdate }) => orderUpdate === 'applied');
  must(payers.length <= 1, `${payers.length} payments paid the order`);
  if (order !== null) broken.push(...checkOrder(order, payments, facts.cancelAsked));
  return broken;
}

/** Where an order ends. */
function checkOrder(order: Order, payments: readonly Payment[], cancelAsked: boolean): string[] {
  const payer = payments.find(({ orderUpdate }) => orderUpdate === 'applied');
  const undecided = payments.some(({ orderUpdate }) => orderUpdate === 'review');
  const isBack = payer !== undefined && payer.refundedAmount === payer.receivedAmount;
  const expected =
    payer !== undefined
      ? [isBack ? 'refunded' : 'succeeded']
      : undecided
        ? ['paying', 'unpaid', 'cancelled', 'closed']
        : order.cancelRequestedAt !== null
          ? ['cancelled', 'closed']
          : order.expiresAt !== null
            ? ['closed']
            : ['unpaid'];
  const broken = expected.includes(order.status)
    ? []
    : [`the order is ${order.status}, not ${expected.join(' or ')}`];
  if (cancelAsked && order.cancelRequestedAt === null && payer === undefined && order.status !== 'closed') {
    broken.push('the wish to cancel the order was acknowledged and is not recorded');
  }
  return broken;
}
