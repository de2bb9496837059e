import { FIRST_ACCOUNT } from '../domain/channel.ts';
import type { Event, Order, Payment, Refund } from './rows.ts';

/**
 * This file builds the JSON of rows that a merchant sees in API answers, in events and in the feed. Amounts are numbers
 * in minor units, times are ISO 8601, and a missing value is null.
 */

export const iso = (time: Date | null): string | null => time?.toISOString() ?? null;

/** The payment's JSON without the fields that depend on the caller: the payer's next action, tokens and links. */
export const paymentData = (row: Payment) => ({
  id: row.id,
  orderId: row.orderId,
  channel: row.channel,
  account: row.account ?? FIRST_ACCOUNT,
  method: row.method,
  amount: Number(row.amount),
  currency: row.currency,
  status: row.status,
  orderUpdate: row.orderUpdate,
  refundedAmount: Number(row.refundedAmount),
  createdAt: row.createdAt.toISOString(),
  expiresAt: row.expiresAt.toISOString(),
  paidAt: iso(row.paidAt),
  settledBy: row.settledBy,
  channelPaymentId: row.channelPaymentId,
  receivedAmount: row.receivedAmount === null ? null : Number(row.receivedAmount),
  receivedCurrency: row.receivedCurrency,
  attention: row.attention,
  attentionSince: iso(row.attentionSince),
  attentionDetail: row.attentionDetail,
  metadata: row.metadata as Record<string, string>,
  settledAt: iso(row.settledAt),
  orderUpdatedAt: iso(row.orderUpdatedAt),
  cancelRequestedAt: iso(row.cancelRequestedAt),
  recoveredAt: iso(row.recoveredAt),
});

/** The order's JSON, without the order's payments. */
export const orderData = (row: Order) => ({
  id: row.id,
  amount: Number(row.amount),
  currency: row.currency,
  subject: row.subject,
  status: row.status,
  paidPaymentId: row.paidPaymentId,
  paidAt: iso(row.paidAt),
  metadata: row.metadata as Record<string, string>,
  createdAt: row.createdAt.toISOString(),
  expiresAt: iso(row.expiresAt),
  cancelRequestedAt: iso(row.cancelRequestedAt),
  recoveredAt: iso(row.recoveredAt),
});

export const refundData = (row: Refund) => ({
  id: row.id,
  paymentId: row.paymentId,
  amount: Number(row.amount),
  askedAmount: row.askedAmount === null ? null : Number(row.askedAmount),
  currency: row.currency,
  status: row.status,
  reason: row.reason,
  note: row.note,
  failure: row.failure,
  replacedBy: row.replacedBy,
  channelRefundId: row.channelRefundId,
  createdAt: row.createdAt.toISOString(),
  settledAt: iso(row.settledAt),
});

export interface EventContent {
  readonly payment: ReturnType<typeof paymentData>;
  readonly order: ReturnType<typeof orderData>;
  /** The refund. Only events about a refund have this field. */
  readonly refund?: ReturnType<typeof refundData>;
}

/**
 * The event in the form that merchants receive. Every delivery of an event has the same bytes, because this form is
 * built only from the stored row, and JSON from the database has a fixed order of keys.
 */
export const eventMessage = ({ type, createdAt, data, version }: Event) => ({
  type,
  timestamp: createdAt.toISOString(),
  data: { ...(data as unknown as EventContent), version },
});
