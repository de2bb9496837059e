import { amountText } from '../domain/money.ts';
import type { Books, Order, Payment, Refund, Trade } from './books.ts';

/** A number of payments, and their sum in minor units by currency. */
export interface Total {
  readonly count: number;
  readonly sums: ReadonlyMap<string, number>;
}

/**
 * The faults that the demo looks for:
 *
 * - `dropped`: paid in the wallet, but neither in the order nor given back;
 * - `unpaid`: succeeded in nodrop, but not paid in the wallet;
 * - `twice`: applied to an order that another payment has already paid;
 * - `different`: in the wallet and in nodrop, but with different amounts or currencies;
 * - `unexplained`: given back without a reason, or with a wrong reason;
 * - `attention`: the payment has an attention for an operator, although nothing in the demo needs an operator;
 * - `doubled`: an order with more than one payment on one channel;
 * - `unproven`: the wallet's ledger differs from what the wallet showed its payers, so the ledger proves nothing.
 */
export type OffenceKind =
  | 'dropped'
  | 'unpaid'
  | 'twice'
  | 'different'
  | 'unexplained'
  | 'attention'
  | 'doubled'
  | 'unproven';

export interface Offence {
  readonly kind: OffenceKind;
  /** Null if the payment belongs to no order. */
  readonly orderId: string | null;
  readonly paymentId: string | null;
  readonly detail: string;
  readonly temporalUrl: string | null;
}

/** How nodrop learned that a payment was paid, and how long this took. */
export interface Found {
  readonly settledBy: string;
  /** True if no callback of the payment reached nodrop. */
  readonly callbackLost: boolean;
  /**
   * Time in seconds from the payment in the wallet (by the wallet's clock) until nodrop settled the payment (by
   * nodrop's clock).
   */
  readonly seconds: number;
}

/**
 * The payments of one scene. A scene is a case in which money arrives twice, too late, or after the cancellation of the
 * order.
 */
export interface Scene {
  readonly count: number;
  /** The longest time in seconds between a payment in the wallet and its refund. Null when nothing was given back. */
  readonly backWithin: number | null;
}

export type SceneName = 'paidTwice' | 'paidLate' | 'cancelled';

export interface Accounts {
  readonly wallet: Total;
  /** The paid orders that keep their money, and the sum of their amounts. */
  readonly orders: Total;
  /** Succeeded refunds in nodrop, by reason. */
  readonly refunds: ReadonlyMap<string, Total>;
  /** Money that belongs to no order and was not given back. Its payment has an attention for an operator. */
  readonly attention: Total;
  /**
   * `wallet` minus `orders`, `refunds` and `attention`, in minor units by currency. It is negative if the wallet has
   * less money than the other three together.
   */
  readonly difference: ReadonlyMap<string, number>;
  /**
   * The payments by scene. `paidTwice`: an order's second payment. `paidLate`: a payment that was paid too late and
   * still paid its order. `cancelled`: a payment that was paid after the order's cancellation.
   */
  readonly scenes: Readonly<Record<SceneName, Scene>>;
  readonly offences: readonly Offence[];
  readonly found: readonly Found[];
  /**
   * Number of payments that are still live. Payments that are too young for the channel to close them are not counted.
   */
  readonly live: number;
  /** Number of unpaid payments by status. */
  readonly unpaid: ReadonlyMap<string, number>;
}

const PAID = ['succeeded', 'refunded'];
const LIVE = ['created', 'paying'];

/**
 * The channels that refuse to close a new order for some time after its creation. WeChat Pay refuses this in the first
 * five minutes, which is longer than a run takes.
 */
const CLOSES_LATER = ['wechatpay'];
const CLOSED_LATER = 'too young to be closed';

/** A trade that a payer paid, with its order, payment and refunds in nodrop. */
interface Paid {
  readonly trade: Trade & { readonly paidAt: string };
  readonly order: Order | undefined;
  readonly payment: Payment | undefined;
  readonly refunds: readonly Refund[];
}

/**
 * Compares every row of the wallet's books with nodrop's books. If they differ, the check does not assume that either
 * book is right.
 * @param confirmed payments whose payer saw "paid" in the wallet.
 * @param now epoch ms.
 */
export function reconcile(books: Books, confirmed: ReadonlySet<string>, now = Date.now()): Accounts {
  const { orders, refunds } = books;
  const payments = orders.flatMap((order) => order.payments);
  const paymentOf = new Map(payments.map((payment) => [payment.id, payment]));
  const orderOf = new Map(orders.flatMap((order) => order.payments.map(({ id }) => [id, order] as const)));
  const paid = books.trades.filter(isPaid).map((trade): Paid => {
    const { outTradeNo: id } = trade;
    return { trade, order: orderOf.get(id), payment: paymentOf.get(id), refunds: refunds.get(id) ?? [] };
  });
  const withMoney = new Set(paid.map(({ trade }) => trade.outTradeNo));
  const unpaid = payments.filter(({ id }) => !withMoney.has(id));

  const wallet = total(paid.map(({ trade }) => trade));
  const paidOrders = total(orders.filter(({ status }) => status === 'succeeded'));
  const given = [...refunds.values()].flat().filter(isBack);
  const attention = total(
    paid
      .filter((one) => one.payment !== undefined && one.payment.attention !== null && !paysOrder(one))
      .map(({ trade }) => ({ ...trade, amount: trade.amount - trade.refunded })),
  );
  return {
    wallet,
    orders: paidOrders,
    refunds: totalsByReason(given),
    attention,
    difference: subtract(wallet, [paidOrders, total(given), attention]),
    scenes: {
      paidTwice: scene(paid.filter((one) => wentBack(one, 'duplicate_payment'))),
      paidLate: scene(paid.filter((one) => paysOrder(one) && isLate(one))),
      cancelled: scene(
        paid.filter((one) => one.order?.status === 'cancelled' && wentBack(one, 'late_payment')),
      ),
    },
    offences: [
      ...paid.flatMap(checkTrade),
      ...orders.flatMap((order) => checkOrder(order, withMoney, refunds)),
      ...unproven(withMoney, confirmed),
    ],
    found: paid.flatMap(findings),
    live: payments.filter((payment) => isLive(payment) && !isClosedLater(payment, now)).length,
    unpaid: countBy(unpaid.map((payment) => (isClosedLater(payment, now) ? CLOSED_LATER : payment.status))),
  };
}

const isPaid = (trade: Trade): trade is Paid['trade'] => trade.paidAt !== null;

const isLive = ({ status }: Payment): boolean => LIVE.includes(status);

const isClosedLater = (payment: Payment, now: number): boolean =>
  isLive(payment) && CLOSES_LATER.includes(payment.channel) && Date.parse(payment.expiresAt) <= now;

/**
 * True when the payment was paid too late, that is, after its expiry. But if the order has only this payment and the
 * shop has requested its cancellation, "too late" means after that request.
 */
function isLate({ trade, payment, order }: Paid): boolean {
  if (payment === undefined) return false;
  const { expiresAt, cancelRequestedAt } = payment;
  const isOnly = order?.payments.length === 1;
  return trade.paidAt >= (isOnly && cancelRequestedAt !== null ? cancelRequestedAt : expiresAt);
}

/** True if the channel has confirmed the refund. */
const isBack = ({ status }: Refund) => status === 'succeeded';

const wentBack = ({ refunds }: Paid, why: string) =>
  refunds.some((refund) => isBack(refund) && refund.reason === why);

function scene(played: readonly Paid[]): Scene {
  const seconds = played.flatMap(({ trade, refunds }) =>
    refunds.flatMap(({ settledAt }) => (settledAt === null ? [] : secondsBetween(trade.paidAt, settledAt))),
  );
  return { count: played.length, backWithin: seconds.length === 0 ? null : Math.max(...seconds) };
}

/** True if this payment paid the order. */
function paysOrder({ payment, order }: Paid): boolean {
  if (payment === undefined || order === undefined) return false;
  const isApplied = payment.status === 'succeeded' && payment.orderUpdate === 'applied';
  return isApplied && order.status === 'succeeded' && order.paidPaymentId === payment.id;
}

/** The reason why nodrop must refund this payment automatically. Undefined while the order may keep the money. */
function reasonToRefund(payment: Payment, order: Order): string | undefined {
  if (order.paidPaymentId !== null && order.paidPaymentId !== payment.id) return 'duplicate_payment';
  return order.status === 'cancelled' || order.status === 'closed' ? 'late_payment' : undefined;
}

/** Checks that the money of a paid trade either paid its order exactly or was given back completely. */
function checkTrade(paid: Paid): Offence[] {
  const { trade, order, payment } = paid;
  const money = amountText(trade.amount, trade.currency);
  const offence = (kind: OffenceKind, detail: string): Offence => ({
    kind,
    orderId: order?.id ?? null,
    paymentId: trade.outTradeNo,
    detail,
    temporalUrl: payment?.temporalUrl ?? null,
  });
  if (order === undefined || payment === undefined) {
    return [offence('dropped', `${money} paid in the wallet at ${trade.paidAt}; no order has this payment`)];
  }
  const offences = checkRefunds(trade, payment, order, paid.refunds).map((found) => offence(...found));
  if (paysOrder(paid)) {
    const asked = amountText(order.amount, order.currency);
    const { receivedAmount, receivedCurrency } = payment;
    const received =
      receivedAmount === null || receivedCurrency === null
        ? 'nothing'
        : amountText(receivedAmount, receivedCurrency);
    if (asked === money && received === money) return offences;
    const detail = `${money} in the wallet, ${asked} in the order, ${received} in the payment`;
    return [...offences, offence('different', detail)];
  }
  const state = `order ${order.status}, payment ${payment.status}, order update ${payment.orderUpdate}`;
  if (payment.orderUpdate === 'applied' && order.status === 'succeeded') {
    const detail = `applied to an order that payment ${order.paidPaymentId} has paid; ${state}`;
    return [...offences, offence('twice', detail)];
  }
  // A payment with an attention is not reported here, because `checkOrder` reports it.
  if (trade.refunded >= trade.amount || payment.attention !== null) return offences;
  const kept = `${amountText(trade.amount - trade.refunded, trade.currency)} of ${money} not given back`;
  return [...offences, offence('dropped', `paid in the wallet at ${trade.paidAt}; ${state}; ${kept}`)];
}

/**
 * Checks that the wallet, nodrop's refunds and the payment agree on the refunded amount, and that the reason of each
 * refund is right.
 */
function checkRefunds(
  trade: Trade,
  payment: Payment,
  order: Order,
  refunds: readonly Refund[],
): (readonly [OffenceKind, string])[] {
  const given = refunds.filter(isBack);
  const sum = given.reduce((amount, refund) => amount + refund.amount, 0);
  const said = `${trade.refunded} given back in the wallet, ${sum} in refunds, ${payment.refundedAmount} in the payment (minor units of ${trade.currency})`;
  if (trade.refunded > sum) return [['unexplained', said]];
  if (
    trade.refunded < sum ||
    payment.refundedAmount !== sum ||
    given.some(({ currency }) => currency !== trade.currency)
  )
    return [['different', said]];
  const reason = reasonToRefund(payment, order);
  return given
    .filter((refund) => refund.reason !== reason)
    .map((refund) => [
      'unexplained',
      `refund ${refund.id} has the reason ${refund.reason}; the order is ${order.status}, paid by ${order.paidPaymentId}`,
    ]);
}

/**
 * Checks that a paid order was paid by one of its payments. This payment and every other succeeded payment must be paid
 * in the wallet.
 */
function checkOrder(order: Order, withMoney: ReadonlySet<string>, refunds: Books['refunds']): Offence[] {
  const offence = (kind: OffenceKind, payment: Payment | undefined, detail: string): Offence => ({
    kind,
    orderId: order.id,
    paymentId: payment?.id ?? order.paidPaymentId,
    detail,
    temporalUrl: payment?.temporalUrl ?? null,
  });
  const offences: Offence[] = [];
  const paidBy = order.payments.find(({ id }) => id === order.paidPaymentId);
  if (PAID.includes(order.status) && (paidBy === undefined || !withMoney.has(paidBy.id)))
    offences.push(offence('unpaid', paidBy, `order ${order.status}; the wallet has no money for it`));
  for (const payment of order.payments) {
    if (payment.attention !== null)
      offences.push(offence('attention', payment, `${payment.attention}: ${payment.attentionDetail}`));
    if (withMoney.has(payment.id)) continue;
    if (payment !== paidBy && payment.status === 'succeeded')
      offences.push(offence('unpaid', payment, 'payment succeeded; the wallet has no money for it'));
    if (payment.refundedAmount > 0 || refunds.get(payment.id)?.some(isBack))
      offences.push(offence('unexplained', payment, 'given back; the wallet has no money for it'));
  }
  const channels = order.payments.map(({ channel }) => channel);
  if (new Set(channels).size < channels.length)
    offences.push(offence('doubled', order.payments[0], `payments on ${channels.join(', ')}`));
  return offences;
}

/** Compares the ledger with what payers saw. Without this comparison, a run whose ledger is empty would pass. */
function unproven(withMoney: ReadonlySet<string>, confirmed: ReadonlySet<string>): Offence[] {
  const of = (paymentId: string, detail: string): Offence => ({
    kind: 'unproven',
    orderId: null,
    paymentId,
    detail,
    temporalUrl: null,
  });
  return [
    ...[...confirmed]
      .filter((id) => !withMoney.has(id))
      .map((id) => of(id, 'a payer saw "paid", but the ledger has no payment')),
    ...[...withMoney]
      .filter((id) => !confirmed.has(id))
      .map((id) => of(id, 'paid in the ledger, but no payer paid it')),
  ];
}

function findings({ trade, payment }: Paid): Found[] {
  if (payment?.status !== 'succeeded' || payment.settledAt === null) return [];
  return [
    {
      settledBy: payment.settledBy ?? 'unknown',
      callbackLost: trade.callbackAttempts === 0,
      seconds: secondsBetween(trade.paidAt, payment.settledAt),
    },
  ];
}

function total(rows: readonly { readonly amount: number; readonly currency: string }[]): Total {
  const sums = new Map<string, number>();
  for (const { amount, currency } of rows) sums.set(currency, (sums.get(currency) ?? 0) + amount);
  return { count: rows.length, sums };
}

function totalsByReason(refunds: readonly Refund[]): ReadonlyMap<string, Total> {
  const reasons = [...new Set(refunds.map(({ reason }) => reason))].sort();
  return new Map(reasons.map((reason) => [reason, total(refunds.filter((one) => one.reason === reason))]));
}

/** Subtracts the sums of `others` from the sums of `from`, by currency. */
function subtract(from: Total, others: readonly Total[]): ReadonlyMap<string, number> {
  const rest = new Map(from.sums);
  for (const { sums } of others)
    for (const [currency, sum] of sums) rest.set(currency, (rest.get(currency) ?? 0) - sum);
  return rest;
}

/** Seconds between two ISO 8601 times. */
const secondsBetween = (from: string, to: string) => (Date.parse(to) - Date.parse(from)) / 1000;

function countBy(values: readonly string[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}
