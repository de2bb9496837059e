import { isAutomaticRefundId } from '../domain/ids.ts';
import type { OrderStatus, PaymentStatus } from '../domain/states.ts';
import type { LedgerClient } from './client.ts';
import type { Order, Payment, Refund, TimelineEntry } from './rows.ts';

/** What the API reads. Every list is newest first and pages by the last row's place, so that new rows shift nothing. */

/** With the refund nodrop owes of it by itself, if it does. */
export type PaymentWithRefund = Payment & { readonly owedRefund: Refund | null };
export type OrderWithPayments = Order & { readonly payments: readonly PaymentWithRefund[] };

/** Only payments in conflict owe a refund, so that all others cost nothing here. */
async function withRefunds(db: LedgerClient, payments: readonly Payment[]): Promise<PaymentWithRefund[]> {
  const ids = payments.filter(({ orderUpdate }) => orderUpdate === 'conflict').map(({ id }) => id);
  const refunds =
    ids.length === 0
      ? []
      : await db.refund.findMany({ where: { paymentId: { in: ids } }, orderBy: { createdAt: 'asc' } });
  // The newest one: those before it were refused.
  const owed = new Map(
    refunds
      .filter(({ id, paymentId }) => isAutomaticRefundId(id, paymentId))
      .map((refund) => [refund.paymentId, refund]),
  );
  return payments.map((payment) => ({ ...payment, owedRefund: owed.get(payment.id) ?? null }));
}

async function withPayments(
  db: LedgerClient,
  orders: readonly (Order & { readonly payments: Payment[] })[],
): Promise<OrderWithPayments[]> {
  const payments = await withRefunds(
    db,
    orders.flatMap((order) => order.payments),
  );
  const byId = new Map(payments.map((payment) => [payment.id, payment]));
  return orders.map((order) => ({
    ...order,
    payments: order.payments.flatMap(({ id }) => byId.get(id) ?? []),
  }));
}

/** A row's place in a list that is newest first. */
export interface Place {
  readonly createdAt: Date;
  readonly id: string;
}

export interface Page {
  readonly limit: number;
  readonly after: Place | undefined;
}

export const NEWEST_FIRST = [{ createdAt: 'desc' as const }, { id: 'desc' as const }];

/** The first condition is implied by the second; it lets the index start at the right row. */
export const beyond = (after: Place | undefined) =>
  after === undefined
    ? {}
    : {
        createdAt: { lte: after.createdAt },
        OR: [{ createdAt: { lt: after.createdAt } }, { createdAt: after.createdAt, id: { lt: after.id } }],
      };

export async function findOrder(
  db: LedgerClient,
  merchantId: string,
  orderId: string,
): Promise<OrderWithPayments | null> {
  const order = await db.order.findUnique({
    where: { merchantId_id: { merchantId, id: orderId } },
    include: { payments: { orderBy: NEWEST_FIRST } },
  });
  return order === null ? null : { ...order, payments: await withRefunds(db, order.payments) };
}

export async function listOrders(
  db: LedgerClient,
  merchantId: string,
  filter: { readonly status?: OrderStatus | undefined },
  page: Page,
): Promise<OrderWithPayments[]> {
  const orders = await db.order.findMany({
    where: {
      merchantId,
      ...(filter.status === undefined ? {} : { status: filter.status }),
      ...beyond(page.after),
    },
    include: { payments: { orderBy: NEWEST_FIRST } },
    orderBy: NEWEST_FIRST,
    take: page.limit,
  });
  return await withPayments(db, orders);
}

/** Whoever's it is: the caller checks that it may be seen. */
export async function findPayment(db: LedgerClient, paymentId: string): Promise<PaymentWithRefund | null> {
  const payment = await db.payment.findUnique({ where: { id: paymentId } });
  return payment === null ? null : ((await withRefunds(db, [payment]))[0] ?? null);
}

/** One that is known to be there. */
export async function getPayment(db: LedgerClient, paymentId: string): Promise<PaymentWithRefund> {
  const payment = await findPayment(db, paymentId);
  if (payment === null) throw new Error(`payment ${paymentId} is gone`);
  return payment;
}

/** A payment with what decides on what its payer can do instead. */
export type PaymentOfPayer = PaymentWithRefund & {
  readonly order: Order & { readonly payments: readonly Payment[] };
  readonly merchant: { readonly channelAccounts: readonly { readonly channel: string }[] };
};

/** The same for its payer. */
export async function findPaymentOfPayer(
  db: LedgerClient,
  paymentId: string,
): Promise<PaymentOfPayer | null> {
  const payment = await db.payment.findUnique({
    where: { id: paymentId },
    include: {
      order: { include: { payments: true } },
      merchant: { select: { channelAccounts: { select: { channel: true }, orderBy: { channel: 'asc' } } } },
    },
  });
  if (payment === null) return null;
  const [{ owedRefund } = { owedRefund: null }] = await withRefunds(db, [payment]);
  return { ...payment, owedRefund };
}

export interface PaymentFilter {
  readonly status?: PaymentStatus | undefined;
  readonly orderId?: string | undefined;
  readonly channel?: string | undefined;
  /** True: only those a person should look at. */
  readonly attention?: boolean | undefined;
}

export async function listPayments(
  db: LedgerClient,
  merchantId: string,
  filter: PaymentFilter,
  page: Page,
): Promise<PaymentWithRefund[]> {
  const payments = await db.payment.findMany({
    where: {
      merchantId,
      ...(filter.status === undefined ? {} : { status: filter.status }),
      ...(filter.orderId === undefined ? {} : { orderId: filter.orderId }),
      ...(filter.channel === undefined ? {} : { channel: filter.channel }),
      ...(filter.attention === true ? { attention: { not: null } } : {}),
      ...beyond(page.after),
    },
    orderBy: NEWEST_FIRST,
    take: page.limit,
  });
  return await withRefunds(db, payments);
}

/** Whoever's it is: the caller checks that it may be seen. */
export async function findRefund(db: LedgerClient, refundId: string): Promise<Refund | null> {
  return await db.refund.findUnique({ where: { id: refundId } });
}

export async function listRefunds(db: LedgerClient, paymentId: string, page: Page): Promise<Refund[]> {
  return await db.refund.findMany({
    where: { paymentId, ...beyond(page.after) },
    orderBy: NEWEST_FIRST,
    take: page.limit,
  });
}

/** The payment's timeline after entry `after`, oldest first. */
export async function listTimeline(
  db: LedgerClient,
  paymentId: string,
  page: { readonly limit: number; readonly after: bigint | undefined },
): Promise<TimelineEntry[]> {
  return await db.timelineEntry.findMany({
    where: { paymentId, ...(page.after === undefined ? {} : { id: { gt: page.after } }) },
    orderBy: { id: 'asc' },
    take: page.limit,
  });
}

/** True when the merchant can be paid through the channel. */
export async function hasAccount(db: LedgerClient, merchantId: string, channel: string): Promise<boolean> {
  const account = await db.channelAccount.findUnique({
    where: { merchantId_channel: { merchantId, channel } },
    select: { id: true },
  });
  return account !== null;
}
