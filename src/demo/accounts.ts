import type { Books, Order, Payment, Trade } from './books.ts';

/** A number of payments, and their sum in minor units by currency. */
export interface Total {
  readonly count: number;
  readonly sums: ReadonlyMap<string, number>;
}

/**
 * - `dropped`: paid in the wallet, and its order is not a succeeded one;
 * - `unpaid`: succeeded, and the wallet has no money for it;
 * - `different`: both, with another amount or currency;
 * - `doubled`: an order with more than one payment, though each was bought once;
 * - `unproven`: the wallet's ledger is not what the wallet told its payers, so it proves nothing.
 */
export type OffenceKind = 'dropped' | 'unpaid' | 'different' | 'doubled' | 'unproven';

export interface Offence {
  readonly kind: OffenceKind;
  /** Null when no order has the payment. */
  readonly orderId: string | null;
  readonly paymentId: string | null;
  readonly detail: string;
  readonly temporalUrl: string | null;
}

/** A payment that became a paid order, and how it was found out. */
export interface Found {
  readonly settledBy: string;
  /** The channel never sent its callback. */
  readonly callbackLost: boolean;
  /** From the wallet's clock to the order's. */
  readonly seconds: number;
}

export interface Accounts {
  readonly wallet: Total;
  /** Orders that are paid, with the amounts they were paid by. */
  readonly orders: Total;
  readonly offences: readonly Offence[];
  readonly found: readonly Found[];
  /** Payments that are neither succeeded nor ended. */
  readonly live: number;
  /** How payments that never brought money stand, by status. */
  readonly unpaid: ReadonlyMap<string, number>;
}

const PAID = ['succeeded', 'refunded'];
const LIVE = ['created', 'paying'];

/**
 * Compares the two books, every row of each: no sampling, and neither is believed about the other.
 * @param confirmed payments whose payer read "paid" in the wallet.
 */
export function reconcile({ orders, trades }: Books, confirmed: ReadonlySet<string>): Accounts {
  const tradeOf = new Map(trades.map((trade) => [trade.outTradeNo, trade]));
  const orderOf = new Map(orders.flatMap((order) => order.payments.map(({ id }) => [id, order] as const)));
  const paidTrades = trades.filter(({ paidAt }) => paidAt !== null);
  const paidOrders = orders.filter(({ status }) => PAID.includes(status));
  const hasMoney = (paymentId: string | null) =>
    paymentId !== null && (tradeOf.get(paymentId)?.paidAt ?? null) !== null;

  const payments = orders.flatMap((order) => order.payments);
  return {
    wallet: total(paidTrades),
    orders: total(paidOrders),
    offences: [
      ...paidTrades.flatMap((trade) => checkTrade(trade, orderOf.get(trade.outTradeNo))),
      ...orders.flatMap((order) => checkOrder(order, hasMoney)),
      ...unproven(paidTrades, confirmed),
    ],
    found: paidTrades.flatMap((trade) => {
      const order = orderOf.get(trade.outTradeNo);
      return order === undefined ? [] : findings(trade, order);
    }),
    live: payments.filter(({ status }) => LIVE.includes(status)).length,
    unpaid: countBy(payments.filter(({ id }) => !hasMoney(id)).map(({ status }) => status)),
  };
}

/** A paid trade must be a succeeded order, paid by it, with exactly its money. */
function checkTrade(trade: Trade, order: Order | undefined): Offence[] {
  const paymentId = trade.outTradeNo;
  const money = `${trade.amount} ${trade.currency}`;
  if (order === undefined) {
    const detail = `${money} paid in the wallet at ${trade.paidAt}; no order has this payment`;
    return [{ kind: 'dropped', orderId: null, paymentId, detail, temporalUrl: null }];
  }
  const payment = order.payments.find(({ id }) => id === paymentId);
  const of = { orderId: order.id, paymentId, temporalUrl: payment?.temporalUrl ?? null };
  const isApplied = payment?.status === 'succeeded' && payment.orderUpdate === 'applied';
  if (order.status !== 'succeeded' || order.paidPaymentId !== paymentId || !isApplied) {
    const state = `order ${order.status}, payment ${payment?.status}, order update ${payment?.orderUpdate}`;
    return [{ ...of, kind: 'dropped', detail: `paid in the wallet at ${trade.paidAt}; ${state}` }];
  }
  const asked = `${order.amount} ${order.currency}`;
  const received = `${payment.receivedAmount} ${payment.receivedCurrency}`;
  if (asked === money && received === money) return [];
  const detail = `${money} in the wallet, ${asked} in the order, ${received} in the payment (minor units)`;
  return [{ ...of, kind: 'different', detail }];
}

/** An order may be paid only by a payment of its own that has money; and so may a payment be succeeded. */
function checkOrder(order: Order, hasMoney: (paymentId: string | null) => boolean): Offence[] {
  const offence = (kind: OffenceKind, payment: Payment | undefined, detail: string): Offence => ({
    kind,
    orderId: order.id,
    paymentId: payment?.id ?? order.paidPaymentId,
    detail,
    temporalUrl: payment?.temporalUrl ?? null,
  });
  const offences: Offence[] = [];
  const paidBy = order.payments.find(({ id }) => id === order.paidPaymentId);
  if (PAID.includes(order.status) && (paidBy === undefined || !hasMoney(paidBy.id)))
    offences.push(offence('unpaid', paidBy, `order ${order.status}; the wallet has no money for it`));
  for (const payment of order.payments) {
    if (payment === paidBy || payment.status !== 'succeeded' || hasMoney(payment.id)) continue;
    offences.push(offence('unpaid', payment, 'payment succeeded; the wallet has no money for it'));
  }
  if (order.payments.length > 1)
    offences.push(offence('doubled', order.payments[0], `${order.payments.length} payments`));
  return offences;
}

/** Without this an emptied ledger would make every run a success. */
function unproven(paidTrades: readonly Trade[], confirmed: ReadonlySet<string>): Offence[] {
  const paid = new Set(paidTrades.map(({ outTradeNo }) => outTradeNo));
  const of = (paymentId: string, detail: string): Offence => ({
    kind: 'unproven',
    orderId: null,
    paymentId,
    detail,
    temporalUrl: null,
  });
  return [
    ...[...confirmed]
      .filter((id) => !paid.has(id))
      .map((id) => of(id, 'a payer read "paid"; not in the ledger')),
    ...[...paid]
      .filter((id) => !confirmed.has(id))
      .map((id) => of(id, 'paid in the ledger; no payer did it')),
  ];
}

function findings(trade: Trade, order: Order): Found[] {
  const payment = order.payments.find(({ id }) => id === trade.outTradeNo);
  if (payment?.status !== 'succeeded' || payment.settledAt === null || trade.paidAt === null) return [];
  return [
    {
      settledBy: payment.settledBy ?? 'unknown',
      callbackLost: trade.callbackAttempts === 0,
      seconds: (Date.parse(payment.settledAt) - Date.parse(trade.paidAt)) / 1000,
    },
  ];
}

function total(rows: readonly { readonly amount: number; readonly currency: string }[]): Total {
  const sums = new Map<string, number>();
  for (const { amount, currency } of rows) sums.set(currency, (sums.get(currency) ?? 0) + amount);
  return { count: rows.length, sums };
}

function countBy(values: readonly string[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}
