import { isUndecided } from '../../domain/attempt.ts';
import { isDeliveredByPayment } from '../../domain/delivery.ts';
import { disputesOf } from '../../domain/dispute.ts';
import { deliveryWorkflowId, paymentWorkflowId, refundWorkflowId } from '../../domain/names.ts';
import { isLive } from '../../domain/states.ts';
import { MATCH_FOR_MS, stateOf } from '../../ledger/callbacks.ts';
import { eventMessage, iso, orderData, paymentData, refundData } from '../../ledger/event-data.ts';
import type { DeliveryWithLog } from '../../ledger/event-feed.ts';
import { hasUsableAction, nextActionOf } from '../../ledger/payment-facts.ts';
import type { OrderWithPayments, PaymentOfPayer, PaymentWithRefund } from '../../ledger/queries.ts';
import type { Callback, ChannelAccount, Event, Payment, Refund, TimelineEntry } from '../../ledger/rows.ts';
import type { CallbackView } from '../schemas/callback.ts';
import type { DeliveryView, EventView } from '../schemas/event.ts';
import type { OrderView } from '../schemas/order.ts';
import type { PayerPaymentView, PaymentView } from '../schemas/payment.ts';
import type { RefundView } from '../schemas/refund.ts';
import { backUrl } from './back-url.ts';
import { orderStateOf } from './order-state.ts';

/** Converts rows to API views. Amounts become numbers, times become ISO 8601 strings, and absent values become null. */

/** True while the payer can pay. This requires that the payment is live and its next action has not expired. */
export function isPayable(row: Payment, now: Date): boolean {
  return (
    isLive(row.status) && row.cancelRequestedAt === null && row.expiresAt > now && hasUsableAction(row, now)
  );
}

/**
 * The fields that both merchants and payers see. An ended payment has no next action, so that no payer pays it. An
 * undecided payment has no next action either, so that no payer pays twice.
 * @param checkoutUrl contains the client token, so nodrop sends this URL only to a caller who has the token
 */
function presentCommon(
  row: PaymentWithRefund,
  now: Date,
  checkoutUrl: string | null,
): Omit<PayerPaymentView, 'switchTo' | 'orderState' | 'backUrl'> {
  const action = isPayable(row, now) && !isUndecided(row) ? nextActionOf(row) : null;
  return {
    id: row.id,
    channel: row.channel,
    method: row.method,
    amount: Number(row.amount),
    currency: row.currency,
    status: row.status,
    orderUpdate: row.orderUpdate,
    receivedAmount: row.receivedAmount === null ? null : Number(row.receivedAmount),
    refundedAmount: Number(row.refundedAmount),
    refundReason: row.owedRefund?.reason ?? null,
    refundStatus: refundStatus(row),
    nextAction: action as PayerPaymentView['nextAction'],
    payUrl: action?.url ?? null,
    checkoutUrl,
    createdAt: row.createdAt.toISOString(),
    expiresAt: row.expiresAt.toISOString(),
    paidAt: iso(row.paidAt),
  };
}

/**
 * The view that a payer with a client token gets. It has no next action if another attempt has paid the order or may
 * have paid it.
 */
export function presentPaymentToPayer(
  row: PaymentOfPayer,
  now: Date,
  checkoutUrl: string | null,
  switchTo: PayerPaymentView['switchTo'],
): PayerPaymentView {
  const orderState = orderStateOf(row, now);
  return {
    ...presentCommon(row, now, checkoutUrl),
    ...(orderState === 'open' ? {} : { nextAction: null, payUrl: null }),
    backUrl: backUrl(row),
    orderState,
    switchTo,
  };
}

/**
 * The status of an automatic refund, as the payer sees it. The status is `succeeded` if all received money was
 * refunded, even by another refund.
 */
function refundStatus({ owedRefund, receivedAmount, refundedAmount }: PaymentWithRefund): string | null {
  if (owedRefund === null) return null;
  // The refund waits for the merchant to act. The payer does not need to know that, so the status is `processing`.
  if (owedRefund.status === 'needs_person') return 'processing';
  return receivedAmount !== null && refundedAmount >= receivedAmount ? 'succeeded' : owedRefund.status;
}

export interface Presentation {
  readonly now: Date;
  /** The URL of a workflow in the Temporal Web UI, or null if the caller may not see the URL. */
  readonly temporalUrl: (workflowId: string) => string | null;
  /** The URL of the cashier page, with the client token. */
  readonly checkoutUrl: (paymentId: string, clientToken: string) => string;
}

/**
 * The view that a caller with a key gets. Only the request that creates a payment gets `clientToken` and
 * `checkoutUrl`.
 */
export function presentPayment(
  row: PaymentWithRefund,
  viewer: Presentation,
  clientToken: string | null = null,
): PaymentView {
  const checkoutUrl = clientToken === null ? null : viewer.checkoutUrl(row.id, clientToken);
  return {
    ...paymentData(row),
    ...presentCommon(row, viewer.now, checkoutUrl),
    adopted:
      row.adopted === null || row.reference === null
        ? null
        : { reference: row.reference, own: row.adopted === 'own' },
    clientToken,
    payer: row.payer as PaymentView['payer'],
    returnUrl: row.returnUrl,
    disputes: disputesOf(row).map(({ isInquiry = false, reason = null, respondBy = null, ...dispute }) => ({
      ...dispute,
      isInquiry,
      reason,
      respondBy,
    })),
    temporalUrl: viewer.temporalUrl(paymentWorkflowId(row.id)),
  };
}

export function presentOrder(row: OrderWithPayments, viewer: Presentation): OrderView {
  return { ...orderData(row), payments: row.payments.map((payment) => presentPayment(payment, viewer)) };
}

export function presentRefund(row: Refund, viewer: Presentation): RefundView {
  return { ...refundData(row), temporalUrl: viewer.temporalUrl(refundWorkflowId(row.id)) };
}

export function presentCallback(row: Callback & { channelAccount: ChannelAccount }, now: Date): CallbackView {
  const age = now.getTime() - row.receivedAt.getTime();
  return {
    id: row.id,
    channel: row.channelAccount.channel,
    channelAccountId: row.channelAccountId,
    notificationId: row.notificationId,
    kind: row.kind,
    outTradeNo: row.outTradeNo,
    reference: row.reference,
    channelPaymentId: row.channelPaymentId,
    state: stateOf(row),
    receivedAt: row.receivedAt.toISOString(),
    ageSeconds: Math.floor(age / 1000),
    retrying: age < MATCH_FOR_MS,
  };
}

export function presentTimelineEntry(row: TimelineEntry) {
  return { at: row.at.toISOString(), kind: row.kind, detail: row.detail, data: row.data };
}

export function presentEvent(row: Event): EventView {
  return { id: row.id, ...eventMessage(row) };
}

export function presentDelivery(row: DeliveryWithLog, { temporalUrl }: Presentation): DeliveryView {
  const hasOwnWorkflow =
    row.handedOverAt !== null || !isDeliveredByPayment(row.event.type, row.payment.orderUpdate);
  return {
    id: row.id,
    eventId: row.eventId,
    paymentId: row.paymentId,
    orderId: row.payment.orderId,
    type: row.event.type,
    version: row.event.version,
    status: row.status,
    attempts: row.attempts,
    firstAttemptAt: iso(row.firstAttemptAt),
    nextAttemptAt: iso(row.nextAttemptAt),
    settledAt: iso(row.settledAt),
    log: row.log.map(({ at, outcome, statusCode, detail, answer, durationMs }) => ({
      at: at.toISOString(),
      outcome,
      statusCode,
      detail,
      answer,
      durationMs,
    })),
    temporalUrl: temporalUrl(hasOwnWorkflow ? deliveryWorkflowId(row.id) : paymentWorkflowId(row.paymentId)),
  };
}
