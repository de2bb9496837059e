import type { AccountMode } from '../domain/channel.ts';
import { isAutomaticRefundId } from '../domain/ids.ts';
import { Refusal } from '../domain/refusal.ts';
import type { OrderStatus, PaymentStatus } from '../domain/states.ts';
import { Prisma } from '../generated/prisma/client.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import { ORDERS, PAYMENTS, type RawRow, REFUNDS, readRow, rowsOf } from './raw-rows.ts';
import type { Order, Payment, Refund, TimelineEntry } from './rows.ts';

/**
 * This file reads the ledger for the API. Every list is newest first. The next page begins after the time and id of the
 * last row, so that new rows do not shift pages.
 */

/** A payment with its automatic refund, if one is due. */
export type PaymentWithRefund = Payment & { readonly owedRefund: Refund | null };
export type OrderWithPayments = Order & { readonly payments: readonly PaymentWithRefund[] };

/**
 * Adds the due refunds to the payments. Only payments in conflict have one. Without such payments, no database
 * statement is sent.
 */
async function withRefunds(db: LedgerClient, payments: readonly Payment[]): Promise<PaymentWithRefund[]> {
  const ids = payments.filter(({ orderUpdate }) => orderUpdate === 'conflict').map(({ id }) => id);
  const refunds =
    ids.length === 0
      ? []
      : await db.refund.findMany({ where: { paymentId: { in: ids } }, orderBy: { createdAt: 'asc' } });
  return withOwed(payments, refunds);
}

/**
 * @param refunds the refunds of these payments, oldest first. The newest automatic refund of a payment is used, because
 *   the earlier ones were refused.
 */
function withOwed(payments: readonly Payment[], refunds: readonly Refund[]): PaymentWithRefund[] {
  const owed = new Map(
    refunds
      .filter(({ id, paymentId }) => isAutomaticRefundId(id, paymentId))
      .map((refund) => [refund.paymentId, refund]),
  );
  return payments.map((payment) => ({ ...payment, owedRefund: owed.get(payment.id) ?? null }));
}

/** The position of a row in a list that is newest first. */
export interface Place {
  readonly createdAt: Date;
  readonly id: string;
}

export interface Page {
  readonly limit: number;
  readonly after: Place | undefined;
}

export const NEWEST_FIRST = [{ createdAt: 'desc' as const }, { id: 'desc' as const }];

/**
 * The `OR` alone already implies the condition on `createdAt`. The condition lets the index scan start at the right
 * row.
 */
export const beyond = (after: Place | undefined) =>
  after === undefined
    ? {}
    : {
        createdAt: { lte: after.createdAt },
        OR: [{ createdAt: { lt: after.createdAt } }, { createdAt: after.createdAt, id: { lt: after.id } }],
      };

/** A channel at which the merchant has an enabled default account. */
export interface OfferedChannel {
  readonly channel: string;
  readonly mode: AccountMode;
}

/** An order with its payments and the merchant's channels. */
interface WholeOrder {
  readonly order: Order;
  readonly payments: readonly PaymentWithRefund[];
  /** The channels at which the merchant has an enabled default account, in alphabetical order. */
  readonly channels: readonly OfferedChannel[];
}

/**
 * Reads orders (`o`) with their payments, newest first, in one statement, so that all rows come from one snapshot.
 * Two statements could read different snapshots, and the result could contain a paid order with an unpaid payment.
 */
async function readOrders(db: LedgerClient, which: Prisma.Sql): Promise<WholeOrder[]> {
  const rows = await rowsOf<{
    order: RawRow;
    payments: RawRow[];
    refunds: RawRow[];
    channels: OfferedChannel[];
  }>(
    db,
    Prisma.sql`
      SELECT to_jsonb(o) AS "order",
        (
          SELECT COALESCE(jsonb_agg(to_jsonb(p) ORDER BY p.created_at DESC, p.id DESC), '[]') FROM payments AS p
          WHERE p.merchant_id = o.merchant_id AND p.order_id = o.id
        ) AS payments,
        (
          SELECT COALESCE(jsonb_agg(to_jsonb(r) ORDER BY r.created_at), '[]')
          FROM payments AS p JOIN refunds AS r ON r.payment_id = p.id
          WHERE p.merchant_id = o.merchant_id AND p.order_id = o.id AND p.order_update = 'conflict'
        ) AS refunds,
        (
          SELECT COALESCE(jsonb_agg(jsonb_build_object('channel', a.channel, 'mode', a.mode) ORDER BY a.channel), '[]')
          FROM channel_accounts AS a
          WHERE a.merchant_id = o.merchant_id AND a.is_merchant_default AND a.disabled_at IS NULL
        ) AS channels
      FROM orders AS o ${which}`,
  );
  return rows.map(({ order, payments, refunds, channels }) => ({
    order: readRow(ORDERS, order),
    payments: withOwed(
      payments.map((row) => readRow(PAYMENTS, row)),
      refunds.map((row) => readRow(REFUNDS, row)),
    ),
    channels,
  }));
}

/** Identifies an order. */
export interface OrderName {
  readonly merchantId: string;
  readonly orderId: string;
}

/**
 * @returns one entry for each given name, in the sequence of the names. An entry is null if its order does not exist.
 */
export async function findOrders(
  db: LedgerClient,
  names: readonly OrderName[],
): Promise<(OrderWithPayments | null)[]> {
  const found = await readOrders(
    db,
    Prisma.sql`
      WHERE (o.merchant_id, o.id) IN (
        SELECT * FROM unnest(
          ${names.map(({ merchantId }) => merchantId)}::text[], ${names.map(({ orderId }) => orderId)}::text[]
        )
      )`,
  );
  // "/" is a safe separator, because a merchant's id contains no "/".
  const byName = new Map(
    found.map(({ order, payments }) => [`${order.merchantId}/${order.id}`, { ...order, payments }]),
  );
  return names.map(({ merchantId, orderId }) => byName.get(`${merchantId}/${orderId}`) ?? null);
}

export async function findOrder(
  db: LedgerClient,
  merchantId: string,
  orderId: string,
): Promise<OrderWithPayments | null> {
  const [found] = await findOrders(db, [{ merchantId, orderId }]);
  return found ?? null;
}

export async function listOrders(
  db: LedgerClient,
  merchantId: string,
  filter: { readonly status?: OrderStatus | undefined },
  { after, limit }: Page,
): Promise<OrderWithPayments[]> {
  const status = filter.status === undefined ? Prisma.empty : Prisma.sql`AND o.status = ${filter.status}`;
  const place =
    after === undefined
      ? Prisma.empty
      : Prisma.sql`AND (o.created_at, o.id) < (${after.createdAt}::timestamptz, ${after.id})`;
  const found = await readOrders(
    db,
    Prisma.sql`
      WHERE o.merchant_id = ${merchantId} ${status} ${place}
      ORDER BY o.created_at DESC, o.id DESC LIMIT ${limit}`,
  );
  return found.map(({ order, payments }) => ({ ...order, payments }));
}

/** A payment of any merchant. The caller checks who may see the payment. */
export async function findPayment(db: LedgerClient, paymentId: string): Promise<PaymentWithRefund | null> {
  const payment = await db.payment.findUnique({ where: { id: paymentId } });
  return payment === null ? null : ((await withRefunds(db, [payment]))[0] ?? null);
}

/** Reads a payment that must exist. */
export async function getPayment(db: LedgerClient, paymentId: string): Promise<PaymentWithRefund> {
  const payment = await findPayment(db, paymentId);
  if (payment === null) throw new Error(`payment ${paymentId} does not exist`);
  return payment;
}

/** A payment with all data that decides which alternatives nodrop offers to its payer. */
export type PaymentOfPayer = PaymentWithRefund & {
  readonly order: OrderWithPayments;
  /** The channels at which the merchant has an enabled default account, in alphabetical order. */
  readonly channels: readonly OfferedChannel[];
};

/**
 * @returns one entry for each given id, in the sequence of the ids. An entry is null if its payment does not exist.
 */
export async function findPaymentsOfPayers(
  db: LedgerClient,
  paymentIds: readonly string[],
): Promise<(PaymentOfPayer | null)[]> {
  const found = await readOrders(
    db,
    Prisma.sql`
      WHERE (o.merchant_id, o.id) IN (
        SELECT merchant_id, order_id FROM payments WHERE id = ANY(${paymentIds}::text[])
      )`,
  );
  const byId = new Map(
    found.flatMap(({ order, payments, channels }) =>
      payments.map((payment) => [payment.id, { ...payment, order: { ...order, payments }, channels }]),
    ),
  );
  return paymentIds.map((id) => byId.get(id) ?? null);
}

export async function findPaymentOfPayer(
  db: LedgerClient,
  paymentId: string,
): Promise<PaymentOfPayer | null> {
  const [found] = await findPaymentsOfPayers(db, [paymentId]);
  return found ?? null;
}

export interface PaymentFilter {
  readonly status?: PaymentStatus | undefined;
  readonly orderId?: string | undefined;
  readonly channel?: string | undefined;
  /** If this filter is true, only payments with an attention are listed. */
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

/** A refund of any merchant. The caller checks who may see the refund. */
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

/** The channel account that a request for a payment names. */
export interface WantedAccount {
  readonly channel: string;
  /** The account's name. If it is absent, the merchant's default account is used. */
  readonly account?: string | undefined;
  /** The account's mode. If it is absent, an account of any mode can be used. */
  readonly mode?: AccountMode;
}

const usable = ({ mode }: WantedAccount) => ({ disabledAt: null, ...(mode === undefined ? {} : { mode }) });

/**
 * Makes the refusal for a request that names an account which accepts no payments. The code is `unknown_account` if the
 * merchant has usable accounts at the channel, and otherwise `unknown_channel`. The refusal lists the usable accounts.
 * @param isChannelKnown false if this deployment does not have the channel
 */
export async function unknownAccount(
  db: LedgerClient | LedgerTx,
  merchantId: string,
  wanted: WantedAccount,
  isChannelKnown = true,
): Promise<Refusal> {
  const accounts = await db.channelAccount.findMany({
    where: { merchantId, ...usable(wanted) },
    select: { channel: true, name: true },
    orderBy: [{ channel: 'asc' }, { name: 'asc' }],
  });
  const { channel, account } = wanted;
  const here = accounts.filter((one) => one.channel === channel).map(({ name }) => name);
  if (isChannelKnown && here.length > 0) {
    const message = `must be one of ${here.join(', ')}`;
    const detail =
      account === undefined
        ? `The default account at ${channel} accepts no payments`
        : `There is no account ${account} at ${channel} that accepts payments`;
    return new Refusal('unknown_account', `${detail}: account ${message}.`, {
      errors: [{ path: 'account', message }],
    });
  }
  return unknownChannel(channel, accounts);
}

/**
 * Makes the refusal for a request that names a channel where the merchant has no account that accepts payments.
 * @param accounts the merchant's accounts that accept payments
 */
function unknownChannel(channel: string, accounts: readonly { readonly channel: string }[]): Refusal {
  const others = [...new Set(accounts.map((one) => one.channel))].filter((other) => other !== channel);
  const detail = `There is no channel ${channel} for this merchant`;
  if (others.length === 0) return new Refusal('unknown_channel', `${detail}, which has no channel.`);
  const message = `must be one of ${others.join(', ')}`;
  return new Refusal('unknown_channel', `${detail}: channel ${message}.`, {
    errors: [{ path: 'channel', message }],
  });
}

/**
 * True if the merchant has an enabled account with this name at the channel. Without a name, true if the merchant has
 * an enabled default account there.
 */
export async function hasAccount(
  db: LedgerClient,
  merchantId: string,
  wanted: WantedAccount,
): Promise<boolean> {
  const { channel, account } = wanted;
  const which = account === undefined ? { isMerchantDefault: true } : { name: account };
  return (await db.channelAccount.count({ where: { merchantId, channel, ...which, ...usable(wanted) } })) > 0;
}
