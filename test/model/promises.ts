import type { LatePayment } from '../../src/domain/decision.ts';
import { requestedRefundId } from '../../src/domain/ids.ts';
import { deliveryWorkflowId, paymentWorkflowId, refundWorkflowId } from '../../src/domain/names.ts';
import type { Callback, Delivery, Event, Order, Payment, Refund } from '../../src/ledger/rows.ts';
import type { HandOut } from './shop.ts';

/** What is true at the end of a case: our ledger, the channel's, and what was asked of either. */
export interface Facts {
  /** Null when nobody got so far as to make one. */
  readonly order: Order | null;
  readonly payments: readonly Payment[];
  readonly refunds: readonly Refund[];
  readonly callbacks: readonly Callback[];
  /** None of a merchant without a shop of its own. */
  readonly deliveries: readonly (Delivery & { readonly event: Event })[];
  /** What the shop made of them. */
  readonly handedOut: readonly HandOut[];
  /** The channel's ledger: the ground truth. */
  readonly trades: readonly Trade[];
  readonly workflows: readonly { readonly id: string; readonly status: string }[];
  /** Given back at the channel itself, past nodrop; minor units by out-trade-no. */
  readonly external: ReadonlyMap<string, number>;
  /** What the bank returned of a payment's refunds, of ours and of others'; minor units. */
  readonly reversedOf: (paymentId: string) => { readonly ours: number; readonly others: number };
  readonly cancelAsked: boolean;
  /** Payments whose cancel was acknowledged as taken. */
  readonly cancelled: ReadonlySet<string>;
  /** Ids of the notifications that were acknowledged. */
  readonly acknowledged: ReadonlySet<string>;
  /** Payments of which a notification was acknowledged that cannot be verified. */
  readonly noticed: ReadonlySet<string>;
  /** When the channel took the payer's money, or began to decide over it. Epoch ms, by out-trade-no. */
  readonly actedAt: ReadonlyMap<string, number>;
  /** What merchants asked the order to cost. Minor units. */
  readonly asked: readonly number[];
  /** Trades of which a query said less than was true: a refusal that it does not explain waits for a person. */
  readonly hidden: ReadonlySet<string>;
  /** Ids of the payments and refunds that were said to be made. */
  readonly made: ReadonlySet<string>;
  readonly latePayment: LatePayment;
  /** Whether the merchant's orders are in its own shop. */
  readonly hasShop: boolean;
  /** Ms of the test's clock that were skipped from one time to another. */
  readonly skipped: (from: Date, to: Date) => number;
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

/** No time is skipped while anybody does something: what has more than this skipped between it was not at once. */
const SAME_MOMENT_MS = 5_000;

/** The workflows that must have ended. */
export function waitsFor(
  payments: readonly Payment[],
  refunds: readonly Refund[],
  deliveries: Facts['deliveries'],
): string[] {
  return [
    ...payments.map(({ id }) => paymentWorkflowId(id)),
    ...refunds.filter(({ reason }) => reason !== 'external').map(({ id }) => refundWorkflowId(id)),
    // What pays an order is told by its payment's workflow; what was superseded nobody need have begun to tell.
    ...deliveries
      .filter(({ event, status }) => event.type !== 'payment.succeeded' && status !== 'superseded')
      .map(({ id }) => deliveryWorkflowId(id)),
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
  const isAfter = (later: Date, earlier: Date) =>
    later > earlier && facts.skipped(earlier, later) > SAME_MOMENT_MS;
  const refundsOf = ({ id }: Payment) => refunds.filter(({ paymentId }) => paymentId === id);
  const succeeded = (rows: readonly Refund[]) =>
    rows.filter(({ status }) => status === 'succeeded').reduce((sum, { amount }) => sum + Number(amount), 0);

  const known = new Set(payments.map(({ id }) => id));
  for (const { outTradeNo } of trades)
    must(known.has(outTradeNo), `the channel has trade ${outTradeNo}, which is no payment`);

  for (const payment of payments) {
    const { id, status, orderUpdate, attention, cancelRequestedAt, endedAt } = payment;
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
    if (facts.cancelled.has(id))
      must(cancelRequestedAt !== null, `${what}: its cancel was acknowledged and is not recorded`);
    const actedAt = facts.actedAt.get(id);
    must(
      actedAt === undefined || endedAt === null || !isAfter(endedAt, new Date(actedAt)),
      `${what}: it ended at ${endedAt?.toISOString()}, though the channel had the payer's money or was deciding`,
    );
    must(status !== 'created' && status !== 'paying', `${what}: it is still waiting`);
    must(said !== 'PROCESSING', `${what}: the case is not over`);
    if (!isPaid) continue;

    // P1, P2: every cent of it.
    const received = Number(payment.receivedAmount);
    const refunded = Number(payment.refundedAmount);
    const made = refundsOf(payment);
    must(received === trade.amount, `${what}: ${trade.amount} came in, ${received} are recorded`);
    const reversed = facts.reversedOf(id);
    const isReversed = reversed.ours + reversed.others > 0;
    const back = trade.refunded - reversed.ours - reversed.others;
    must(refunded === back, `${what}: ${back} went back, ${refunded} are recorded`);
    must(refunded === succeeded(made), `${what}: its refunds are ${succeeded(made)}, not ${refunded}`);
    must(refunded <= received, `${what}: ${refunded} of ${received} went back`);
    // P5: what went back without our asking is what others gave back; anything more we gave back twice.
    const others = (facts.external.get(id) ?? 0) - reversed.others;
    const external = succeeded(made.filter(({ reason }) => reason === 'external'));
    must(external === others, `${what}: others gave back ${others}, ${external} are recorded as theirs`);

    if (orderUpdate === 'applied') {
      must(!isLate(payment) || facts.latePayment === 'apply', `${what}: it came late, and nobody applied it`);
      must(
        received === Number(order?.amount),
        `${what}: it pays the order of ${order?.amount} with ${received}`,
      );
      must(payment.amount === order?.amount, `${what}: it was made for ${payment.amount}`);
      must(order?.paidPaymentId === id, `${what}: the order says ${order?.paidPaymentId} paid it`);
    } else {
      // Money that pays nothing goes back, or a person is told of it.
      must(
        refunded === received || attention !== null,
        `${what}: ${received - refunded} are kept for nothing`,
      );
      must(orderUpdate === 'conflict' || orderUpdate === 'review', `${what}: nobody decided over it`);
      // Nobody has to ask for what the order cannot take, nor for the rest when others gave back a part of it. Only a
      // refusal that the trade does not explain is a person's business.
      const isAPersons =
        (attention === 'refund_failing' && facts.hidden.has(id)) || (isReversed && attention !== null);
      must(
        orderUpdate !== 'conflict' || refunded === received || isAPersons,
        `${what}: ${received - refunded} are owed back and did not go`,
      );
    }
    // All that was left was asked for, and nothing else was refused: it is back, whoever gave back a part of it.
    const isAllAskedFor = made.some(isOfAll);
    const isPartRefused = made.some((refund) => refund.status === 'failed' && isOfPart(refund));
    must(
      !isAllAskedFor || isPartRefused || refunded === received || facts.hidden.has(id) || isReversed,
      `${what}: all that was left was asked for, and ${received - refunded} did not go`,
    );
    if (orderUpdate === 'review') must(attention !== null, `${what}: nobody is asked to decide`);
    must(
      // What came back was all gone before the shop agreed.
      orderUpdate === 'applied' || refunded === received || isReversed || isRefused(facts, payment),
      `${what}: the order could have taken it`,
    );
    // What came back is still gone to this channel.
    const isLess = isReversed || others > 0;
    for (const refund of made)
      must(refund.status !== 'failed' || isLess, `${what}: the channel refused refund ${refund.id}`);
    if (refunded === received)
      must(attention === null || attention === 'channel_reversed', `${what}: attention for nothing`);
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
    `${came} came in, ${paid} pay the order, ${back} went back, ${shown} shown`,
  );

  // P4: what was acknowledged is there.
  const stored = new Set(facts.callbacks.map(({ notificationId }) => notificationId));
  for (const id of facts.acknowledged)
    must(stored.has(id), `callback ${id} was acknowledged and is not stored`);
  for (const { id, noticedAt } of payments)
    must(!facts.noticed.has(id) || noticedAt === null, `the channel has news of ${id}, and was not asked`);
  for (const id of facts.made)
    must(
      known.has(id) || refunds.some((refund) => refund.id === id),
      `${id} was acknowledged and is not there`,
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
      // Each reads its clock before it waits for the order.
      const endedBefore = endedAt !== null && !isAfter(endedAt, settledAt);
      const isOver = status === 'succeeded' || endedBefore;
      must(isOver || cancelRequestedAt !== null, `${paidBy} paid the order, and ${id} was not told to end`);
    }
  must(
    order === null || facts.asked.includes(Number(order.amount)),
    `the order costs ${order?.amount}, and was to cost ${facts.asked.join(', ')}`,
  );
  if (order !== null) broken.push(...checkOrder(order, payments, facts));
  broken.push(...checkGoods(facts, isAfter));
  return broken;
}

/** What the shop was told, and what it made of that. */
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
    // One that was under way when the last of the money went back may arrive after it.
    must(
      !isBack || !isAfter(new Date(at), new Date(last)),
      `goods went out for ${paymentId} at ${new Date(at).toISOString()}, and all of its money was back at ${new Date(last).toISOString()}`,
    );
  }
  const out = handedOut.filter(({ takenBack }) => !takenBack);
  must(out.length <= 1, `goods are out for ${out.map(({ paymentId }) => paymentId).join(' and ')}`);
  for (const { id, orderUpdate, refundedAmount, receivedAmount } of payments) {
    const isOut = out.some(({ paymentId }) => paymentId === id);
    must(!isOut || orderUpdate === 'applied', `goods are out for ${id}, which is ${orderUpdate}`);
    const mustBeOut = facts.hasShop && orderUpdate === 'applied' && refundedAmount !== receivedAmount;
    must(isOut || !mustBeOut, `${id} pays the order, and no goods are out for it`);
  }
  return broken;
}

/** Somebody asked for all that was left. */
const isOfAll = ({ id, merchantId, paymentId, idempotencyKey }: Refund): boolean =>
  idempotencyKey !== null &&
  id === requestedRefundId({ merchantId, paymentId, idempotencyKey, amount: 'all' });

/** Somebody asked for a named amount: when it is refused, it is theirs to ask again. */
const isOfPart = (refund: Refund): boolean => refund.idempotencyKey !== null && !isOfAll(refund);

/** The money came in after the payment had ended and its time was up. */
const isLate = ({ paidAt, endedAt, expiresAt }: Payment): boolean =>
  paidAt !== null && endedAt !== null && endedAt <= paidAt && expiresAt <= paidAt;

/** There is a reason for which the money does not pay the order. */
function isRefused({ order, payments, latePayment }: Facts, payment: Payment): boolean {
  const isTaken = payments.some(({ id, orderUpdate }) => id !== payment.id && orderUpdate === 'applied');
  const isOver = order?.status === 'cancelled' || order?.status === 'closed';
  const isOther = payment.receivedAmount !== order?.amount || payment.amount !== order.amount;
  return isTaken || isOver || isOther || (isLate(payment) && latePayment !== 'apply');
}

/** Where an order ends. */
function checkOrder(
  order: Order,
  payments: readonly Payment[],
  { cancelAsked, reversedOf }: Pick<Facts, 'cancelAsked' | 'reversedOf'>,
): string[] {
  const payer = payments.find(({ orderUpdate }) => orderUpdate === 'applied');
  // Once refunded it stays so, also when money comes back.
  const cameBack = payer === undefined ? 0 : reversedOf(payer.id).ours + reversedOf(payer.id).others;
  const undecided = payments.some(({ orderUpdate }) => orderUpdate === 'review');
  const isBack = payer !== undefined && payer.refundedAmount === payer.receivedAmount;
  // It paid the order, and all of its money went back before the shop agreed.
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
    broken.push('the wish to cancel the order was acknowledged and is not recorded');
  }
  return broken;
}
