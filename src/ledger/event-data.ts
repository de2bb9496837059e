import { FIRST_ACCOUNT } from '../domain/channel.ts';
import type { Event, Order, Payment, Refund } from './rows.ts';

/**
 * What a merchant sees of its rows wherever it sees them: in the API's answers, in events and in the feed. Amounts are
 * numbers, times ISO 8601, and what is not there is null.
 */

export const iso = (time: Date | null): string | null => time?.toISOString() ?? null;

/** Without what depends on the caller: the payer's next action, tokens, links. */
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

/** Without its payments. */
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
  /** Of a refund's events. */
  readonly refund?: ReturnType<typeof refundData>;
}

/**
 * An event as merchants get it. Made of the stored row alone, whose JSON has one order of keys, so that the text of it
 * is the same to the byte however often it is sent.
 */
export const eventMessage = ({ type, createdAt, data, version }: Event) => ({
  type,
  timestamp: createdAt.toISOString(),
  data: { ...(data as unknown as EventContent), version },
});
