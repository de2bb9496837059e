import type { LatePayment } from '../../src/domain/decision.ts';
import { requestedRefundId } from '../../src/domain/ids.ts';
import { deliveryWorkflowId, paymentWorkflowId, refundWorkflowId } from '../../src/domain/names.ts';
import type { Callback, Delivery, Event, Order, Payment, Refund } from '../../src/ledger/rows.ts';
import type { HandOut } from './shop.ts';

/**
 * The facts at the end of a case: the contents of nodrop's ledger and of the channel's ledger, and all
 * requests.
 */
export interface Facts {
  /** Null when no order was created. */
  readonly order: Order | null;
  readonly payments: readonly Payment[];
  readonly refunds: readonly Refund[];
  readonly callbacks: readonly Callback[];
  /** Empty if the merchant does not have its own shop. */
  readonly deliveries: readonly (Delivery & { readonly event: Event })[];
  /** The goods that the shop granted. */
  readonly handedOut: readonly HandOut[];
  /** The channel's ledger, which shows what really happened. */
  readonly trades: readonly Trade[];
  readonly workflows: readonly { readonly id: string; readonly status: string }[];
  /** The amounts that were refunded directly at the channel, in minor units by out-trade-no. */
  readonly external: ReadonlyMap<string, number>;
  /**
   * How much of a payment's refunded money the bank returned to the merchant, in minor units. This includes refunds
   * that nodrop did not request.
   */
  readonly reversedOf: (paymentId: string) => { readonly ours: number; readonly others: number };
  readonly cancelAsked: boolean;
  /** Payments whose cancellation the API accepted. */
  readonly cancelled: ReadonlySet<string>;
  /** The ids of the notifications that the API acknowledged. */
  readonly acknowledged: ReadonlySet<string>;
  /** Payments for which the API acknowledged a notification that cannot be verified. */
  readonly noticed: ReadonlySet<string>;
  /** When the channel accepted the payer's money, or began to decide about it. Epoch ms, by out-trade-no. */
  readonly actedAt: ReadonlyMap<string, number>;
  /** The amounts that merchants requested for the order, in minor units. */
  readonly asked: readonly number[];
  /**
   * Trades for which a query did not report the complete state. So nodrop may not know why the channel refuses a
   * refund, and an operator must decide.
   */
  readonly hidden: ReadonlySet<string>;
  /** The ids of the payments and refunds that the API has returned. */
  readonly made: ReadonlySet<string>;
  readonly latePayment: LatePayment;
  /** Whether the merchant has its own shop. */
  readonly hasShop: boolean;
  /** How much of the time between two moments was skipped, in ms of the test's clock. */
  readonly skipped: (from: Date, to: Date) => number;
}

/** A trade in the simulator's ledger. Its amounts are in minor units. */
export interface Trade {
  readonly outTradeNo: string;
  readonly amount: number;
  readonly currency: string;
  readonly state: 'NOTPAY' | 'PROCESSING' | 'SUCCESS' | 'CLOSED' | 'REFUND' | 'PAYERROR';
  readonly paidAt: string | null;
  readonly refunded: number;
}

/**
 * Two moments are different only if more than this time was skipped between them. No time is skipped while work is
 * being done.
 */
const SAME_MOMENT_MS = 5_000;

/** The ids of the workflows that must have ended. */
export function waitsFor(
  payments: readonly Payment[],
  refunds: readonly Refund[],
  deliveries: Facts['deliveries'],
): string[] {
  return [
    ...payments.map(({ id }) => paymentWorkflowId(id)),
    ...refunds.filter(({ reason }) => reason !== 'external').map(({ id }) => refundWorkflowId(id)),
    // The payment's workflow delivers `payment.succeeded`. The delivery workflow of a superseded event may never have
    // started.
    ...deliveries
      .filter(({ event, status }) => event.type !== 'payment.succeeded' && status !== 'superseded')
      .map(({ id }) => deliveryWorkflowId(id)),
  ];
}

/**
 * Checks the promises for one order by comparing both ledgers, after all faults and waits have ended.
 * @returns a sentence for each violation
 */
export function checkPromises(facts: Facts): string[] {
  const { order, payments, refunds, trades } = facts;
  const broken: string[] = [];
  const must = (holds: boolean, sentence: string) => void (holds || broken.push(sentence));
  const tradeOf = ({ id }: Payment) => trades.find(({ outTradeNo }) => outTradeNo === id);
  const isAfter = (later: Date, earlier: Date) =>
    later > earlier && facts.skipped(earlier, later) > SAME_MOMENT_MS;
  const refundsOf = ({ id }: Payment) => refunds.filter(({ paymentId }) => paymentId === id);
  const succeeded = (rows: readonly Refund[]) =>
    rows.filter(({ status }) => status === 'succeeded').reduce((sum, { amount }) => sum + Number(amount), 0);

  const known = new Set(payments.map(({ id }) => id));
  for (const { outTradeNo } of trades)
    must(known.has(outTradeNo), `the channel has trade ${outTradeNo}, which is not a payment of nodrop`);

  for (const payment of payments) {
    const { id, status, orderUpdate, attention, cancelRequestedAt, endedAt } = payment;
    const trade = tradeOf(payment);
    const said = trade === undefined ? 'unknown' : trade.state;
    const what = `payment ${id} (${status}, ${orderUpdate}, ${attention}; at the channel ${said})`;
    const isPaid = trade !== undefined && trade.paidAt !== null;

    // P1: the ledger contains the channel's answer. P2: a payment is paid only if the channel has the money.
    must(
      isPaid === (status === 'succeeded'),
      `${what}: the channel ${isPaid ? 'has the money' : 'has no money'}`,
    );
    // P3: a payment ends only because of an answer of the channel.
    if (status === 'failed') must(said === 'PAYERROR', `${what}: the channel never declined it`);
    if (status === 'cancelled') must(cancelRequestedAt !== null, `${what}: no cancellation was requested`);
    if (facts.cancelled.has(id))
      must(cancelRequestedAt !== null, `${what}: its cancellation was accepted and is not recorded`);
    const actedAt = facts.actedAt.get(id);
    must(
      actedAt === undefined || endedAt === null || !isAfter(endedAt, new Date(actedAt)),
      `${what}: it ended at ${endedAt?.toISOString()}, though the channel had the payer's money or was deciding`,
    );
    must(status !== 'created' && status !== 'paying', `${what}: it is still waiting`);
    must(said !== 'PROCESSING', `${what}: the channel has not decided`);
    if (!isPaid) continue;

    // P1 and P2: the ledger records all money.
    const received = Number(payment.receivedAmount);
    const refunded = Number(payment.refundedAmount);
    const made = refundsOf(payment);
    must(received === trade.amount, `${what}: ${trade.amount} was received, ${received} is recorded`);
    const reversed = facts.reversedOf(id);
    const isReversed = reversed.ours + reversed.others > 0;
    const back = trade.refunded - reversed.ours - reversed.others;
    must(refunded === back, `${what}: ${back} was refunded, ${refunded} is recorded`);
    must(refunded === succeeded(made), `${what}: its refunds add up to ${succeeded(made)}, not ${refunded}`);
    must(refunded <= received, `${what}: ${refunded} of ${received} was refunded`);
    // P5: others must have refunded all money that was refunded without a request of nodrop. Otherwise the money was
    // refunded twice.
    const others = (facts.external.get(id) ?? 0) - reversed.others;
    const external = succeeded(made.filter(({ reason }) => reason === 'external'));
    must(external === others, `${what}: others refunded ${others}, ${external} is recorded as external`);

    if (orderUpdate === 'applied') {
      must(
        !isLate(payment) || facts.latePayment === 'apply',
        `${what}: the order was paid by a late payment, which its merchant does not allow`,
      );
      must(
        received === Number(order?.amount),
        `${what}: it pays the order of ${order?.amount} with ${received}`,
      );
      must(payment.amount === order?.amount, `${what}: it was made for ${payment.amount}`);
      must(order?.paidPaymentId === id, `${what}: the order says ${order?.paidPaymentId} paid it`);
    } else {
      // If money does not pay the order, it is refunded, or an attention is raised.
      must(
        refunded === received || attention !== null,
        `${what}: ${received - refunded} is kept although it pays nothing`,
      );
      must(orderUpdate === 'conflict' || orderUpdate === 'review', `${what}: it has no decision`);
      // If the order cannot accept money, the money is refunded automatically, except for a part that others
      // have refunded. An operator is needed only if the trade does not explain a refusal, or if the bank returned
      // money.
      const needsOperator =
        (attention === 'refund_failing' && facts.hidden.has(id)) || (isReversed && attention !== null);
      must(
        orderUpdate !== 'conflict' || refunded === received || needsOperator,
        `${what}: ${received - refunded} is owed and was not refunded`,
      );
    }
    // If a refund of all remaining money was requested, and no partial refund was refused, all money is refunded. This
    // holds even if others refunded a part.
    const isAllAskedFor = made.some(isOfAll);
    const isPartRefused = made.some((refund) => refund.status === 'failed' && isOfPart(refund));
    must(
      !isAllAskedFor || isPartRefused || refunded === received || facts.hidden.has(id) || isReversed,
      `${what}: a refund of all that was left was requested, and ${received - refunded} was not refunded`,
    );
    if (orderUpdate === 'review') must(attention !== null, `${what}: no attention asks for a decision`);
    must(
      // Money that the bank returned later was refunded in full before the shop acknowledged. So this check treats it
      // as refunded.
      orderUpdate === 'applied' || refunded === received || isReversed || isRefused(facts, payment),
      `${what}: the order could have accepted the money`,
    );
    // This channel treats money as refunded even after the bank has returned it.
    const isLess = isReversed || others > 0;
    for (const refund of made)
      must(refund.status !== 'failed' || isLess, `${what}: the channel refused refund ${refund.id}`);
    if (refunded === received)
      must(attention === null || attention === 'channel_reversed', `${what}: an attention without a reason`);
  }

  const total = (count: (payment: Payment, trade: Trade | undefined) => number) =>
    payments.reduce((sum, payment) => sum + count(payment, tradeOf(payment)), 0);
  const came = total((_, trade) => (trade === undefined || trade.paidAt === null ? 0 : trade.amount));
  const reversedOf = ({ id }: Payment) => facts.reversedOf(id).ours + facts.reversedOf(id).others;
  const back = total((payment, trade) => (trade?.refunded ?? 0) - reversedOf(payment));
  const left = ({ receivedAmount, refundedAmount }: Payment) =>
    Number((receivedAmount ?? 0n) - refundedAmount);
  const paid = total((payment) => (payment.orderUpdate === 'applied' ? left(payment) : 0));
  const shown = total((payment) =>
    payment.orderUpdate !== 'applied' && payment.attention !== null ? left(payment) : 0,
  );
  must(
    came === paid + back + shown,
    `received ${came}: ${paid} pays the order, ${back} is refunded, ${shown} needs an operator`,
  );

  // P4: every callback that the API acknowledged is stored.
  const stored = new Set(facts.callbacks.map(({ notificationId }) => notificationId));
  for (const id of facts.acknowledged)
    must(stored.has(id), `callback ${id} was acknowledged and is not stored`);
  for (const { id, noticedAt } of payments)
    must(
      !facts.noticed.has(id) || noticedAt === null,
      `a notice of ${id} was acknowledged, and the channel was not queried`,
    );
  for (const id of facts.made)
    must(
      known.has(id) || refunds.some((refund) => refund.id === id),
      `${id} was acknowledged and does not exist`,
    );

  for (const { id, status } of refunds)
    must(['succeeded', 'failed', 'reversed'].includes(status), `refund ${id} is still ${status}`);
  for (const { id, deliveredAt, paymentId } of facts.callbacks)
    must(deliveredAt !== null || paymentId === null, `callback ${id} was acknowledged and never delivered`);
  for (const { id, status } of facts.workflows) must(status === 'COMPLETED', `workflow ${id} is ${status}`);

  const payers = payments.filter(({ orderUpdate }) => orderUpdate === 'applied');
  must(payers.length <= 1, `${payers.length} payments paid the order`);
  if (payers.length > 0)
    for (const { id, orderUpdate } of payments)
      must(orderUpdate !== 'review', `the order is paid, and payment ${id} waits for a decision`);
  for (const { id: paidBy, settledAt } of payers)
    for (const { id, createdAt, endedAt, status, cancelRequestedAt } of payments) {
      if (id === paidBy || settledAt === null || createdAt > settledAt) continue;
      // Each transaction reads its clock before it waits for the order's lock. So nearly equal times do not show the
      // sequence.
      const endedBefore = endedAt !== null && !isAfter(endedAt, settledAt);
      const isOver = status === 'succeeded' || endedBefore;
      must(
        isOver || cancelRequestedAt !== null,
        `${paidBy} paid the order, and no cancellation of ${id} was requested`,
      );
    }
  must(
    order === null || facts.asked.includes(Number(order.amount)),
    `the order's amount is ${order?.amount}, and the requested amounts were ${facts.asked.join(', ')}`,
  );
  if (order !== null) broken.push(...checkOrder(order, payments, facts));
  broken.push(...checkGoods(facts, isAfter));
  return broken;
}

/** Checks the events that the shop got, and the goods that it granted. */
function checkGoods(facts: Facts, isAfter: (later: Date, earlier: Date) => boolean): string[] {
  const { payments, refunds, deliveries, handedOut } = facts;
  const broken: string[] = [];
  const must = (holds: boolean, sentence: string) => void (holds || broken.push(sentence));
  for (const { id, status, event } of deliveries)
    must(status !== 'pending', `delivery ${id} of ${event.type} is still pending`);

  for (const { paymentId, at } of handedOut) {
    const back = refunds.filter((refund) => refund.paymentId === paymentId && refund.status === 'succeeded');
    const payment = payments.find(({ id }) => id === paymentId);
    const isBack = payment !== undefined && payment.refundedAmount === payment.receivedAmount;
    const last = back.map(({ settledAt }) => settledAt?.getTime() ?? 0).reduce((a, b) => Math.max(a, b), 0);
    // An event whose delivery began before the last refund may arrive after that refund.
    must(
      !isBack || !isAfter(new Date(at), new Date(last)),
      `goods were granted for ${paymentId} at ${new Date(at).toISOString()}, and it was refunded in full at ${new Date(last).toISOString()}`,
    );
  }
  const out = handedOut.filter(({ takenBack }) => !takenBack);
  must(out.length <= 1, `goods are granted for ${out.map(({ paymentId }) => paymentId).join(' and ')}`);
  for (const { id, orderUpdate, refundedAmount, receivedAmount } of payments) {
    const isOut = out.some(({ paymentId }) => paymentId === id);
    must(!isOut || orderUpdate === 'applied', `goods are granted for ${id}, which is ${orderUpdate}`);
    const mustBeOut = facts.hasShop && orderUpdate === 'applied' && refundedAmount !== receivedAmount;
    must(isOut || !mustBeOut, `${id} pays the order, and no goods are granted for it`);
  }
  return broken;
}

/** True if this refund was requested for all remaining money. */
const isOfAll = ({ id, merchantId, paymentId, idempotencyKey }: Refund): boolean =>
  idempotencyKey !== null &&
  id === requestedRefundId({ merchantId, paymentId, idempotencyKey, amount: 'all' });

/**
 * True if this refund was requested for a fixed amount. If the channel refuses it, the requester must request it again.
 */
const isOfPart = (refund: Refund): boolean => refund.idempotencyKey !== null && !isOfAll(refund);

/** True if the money arrived after the payment had ended and expired. */
const isLate = ({ paidAt, endedAt, expiresAt }: Payment): boolean =>
  paidAt !== null && endedAt !== null && endedAt <= paidAt && expiresAt <= paidAt;

/** True if there is a reason why the money does not pay the order. */
function isRefused({ order, payments, latePayment }: Facts, payment: Payment): boolean {
  const isTaken = payments.some(({ id, orderUpdate }) => id !== payment.id && orderUpdate === 'applied');
  const isOver = order?.status === 'cancelled' || order?.status === 'closed';
  const isOther = payment.receivedAmount !== order?.amount || payment.amount !== order.amount;
  return isTaken || isOver || isOther || (isLate(payment) && latePayment !== 'apply');
}

/** Checks the final state of the order. */
function checkOrder(
  order: Order,
  payments: readonly Payment[],
  { cancelAsked, reversedOf }: Pick<Facts, 'cancelAsked' | 'reversedOf'>,
): string[] {
  const payer = payments.find(({ orderUpdate }) => orderUpdate === 'applied');
  // A refunded order stays refunded, even if the bank returns the money later.
  const cameBack = payer === undefined ? 0 : reversedOf(payer.id).ours + reversedOf(payer.id).others;
  const undecided = payments.some(({ orderUpdate }) => orderUpdate === 'review');
  const isBack = payer !== undefined && payer.refundedAmount === payer.receivedAmount;
  // True if a payment paid the order and was refunded in full before the shop acknowledged it.
  const isSuperseded = payer === undefined && order.paidPaymentId !== null;
  const expected =
    payer !== undefined || isSuperseded
      ? [
          ...(isBack || isSuperseded || cameBack > 0 ? ['refunded'] : []),
          ...(isBack || isSuperseded ? [] : ['succeeded']),
        ]
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
  if (
    cancelAsked &&
    order.cancelRequestedAt === null &&
    payer === undefined &&
    !isSuperseded &&
    order.status !== 'closed'
  ) {
    broken.push('the cancellation of the order was acknowledged and is not recorded');
  }
  return broken;
}
