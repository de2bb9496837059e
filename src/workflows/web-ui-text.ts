import { ROW_LOST } from '../domain/attention.ts';
import type { DeliveryProgress, DeliverySnapshot } from '../domain/delivery.ts';
import { amountText } from '../domain/money.ts';
import type { PaymentSnapshot, PaymentTerms } from '../domain/payment.ts';
import type { RefundSnapshot } from '../domain/refund.ts';
import { inMarkdown } from '../domain/text.ts';

/** Formats a time as `10:05:30 UTC`, with the date in front if the date is not today. */
function clock(ms: number): string {
  const iso = new Date(ms).toISOString();
  const sameDay = iso.slice(0, 10) === new Date().toISOString().slice(0, 10);
  return `${sameDay ? '' : `${iso.slice(0, 10)} `}${iso.slice(11, 19)} UTC`;
}

function seconds(ms: number): string {
  if (ms >= 3_600_000) return `${Math.round(ms / 360_000) / 10} h`;
  return ms >= 60_000 ? `${Math.round(ms / 6_000) / 10} min` : `${Math.round(ms / 1000)} s`;
}

/** The queries that the workflow of a payment or refund has planned. */
export interface NextQueries {
  /** When the first query is due, epoch ms. */
  readonly at: number;
  /** The waits between the queries in ms. Empty until the query activity runs. */
  readonly waits: readonly number[];
}

/**
 * Returns the current details of a payment's workflow in the Temporal Web UI, as Markdown for a support engineer. They
 * say what the payment waits for, since when it waits, what the channel answered last, and when the next query follows.
 * The text is short, because the Web UI shows only a headline and three short lines without scrolling.
 */
export function describePayment(
  row: PaymentSnapshot,
  next: NextQueries | undefined,
  delivery: DeliveryProgress | null = null,
): string {
  const attention = row.attention === null ? '' : ` Needs attention: ${row.attention}.`;
  return [
    `**${headline(row, delivery)}${attention}**`,
    '',
    `- since ${clock(row.createdAt)}, expires ${clock(row.expiresAt)}, order ${inMarkdown(row.orderId)}`,
    ...(row.orderUpdate === 'pending'
      ? deliveryProgress(delivery)
      : next === undefined || next.waits.length === 0
        ? [`- ${lastAnswer(row)}`]
        : []),
    ...(next === undefined ? [] : [`- ${nextQuery(next)}`]),
  ].join('\n');
}

/** The current details of any workflow while the database cannot be read. */
export function describeUnreadable(nextLookAt: number): string {
  return `The database cannot be read. Next attempt at ${clock(nextLookAt)}, or as soon as a signal arrives.`;
}

/** The current details of a payment's workflow while the ledger has no row of the payment. */
export function describeLostPayment(terms: PaymentTerms, nextLookAt: number): string {
  const { amount, currency, orderId, merchantId, channel, createdAt } = terms;
  return [
    `**The ledger has no row for this payment. Needs attention: ${ROW_LOST}.**`,
    '',
    `- ${amountText(amount, currency)} for order ${inMarkdown(orderId)}, merchant ${merchantId}, through ${channel}`,
    `- created ${clock(createdAt)}; \`recover --lost\` restores the row`,
    `- next check at ${clock(nextLookAt)}, or as soon as a signal arrives`,
  ].join('\n');
}

/** The current details of a refund's workflow while the ledger has no row of the refund. */
export function describeLostRefund(refundId: string, nextLookAt: number): string {
  return [
    `**The ledger has no row for refund ${refundId}. Needs attention: ${ROW_LOST}.**`,
    '',
    '- see `recover --lost`',
    `- next check at ${clock(nextLookAt)}, or as soon as a signal arrives`,
  ].join('\n');
}

function headline(row: PaymentSnapshot, delivery: DeliveryProgress | null): string {
  switch (row.status) {
    case 'created':
      return `Creating the trade at ${row.channel}: the payer cannot pay yet.`;
    case 'paying':
      if (row.closeNotBefore !== undefined && (row.cancelRequested || row.expiresAt <= Date.now()))
        return `Being closed: ${row.channel} does not close the trade before ${clock(row.closeNotBefore)}.`;
      if (row.noAction === true) return `Being closed: ${row.channel} gives the payer no way to pay.`;
      if (row.cancelRequested) return `Being cancelled, after a last query at ${row.channel}.`;
      if (row.channelState === 'processing')
        return `Waiting for ${row.channel} to decide: the payer has acted.`;
      return `Waiting for the payer to pay, and for ${row.channel} to report it.`;
    case 'succeeded':
      if (row.orderUpdate === 'pending') {
        return delivery === null
          ? 'The money has arrived. Delivering the event to the order service.'
          : `The money has arrived. The order service has not agreed since ${clock(delivery.since)}.`;
      }
      return row.orderUpdate === 'applied'
        ? 'Paid: the order is paid.'
        : `The money has arrived, but does not pay the order (${row.orderUpdate}).`;
    case 'failed':
      return `Failed: ${row.channel} declined. Still watched for late money.`;
    case 'cancelled':
    case 'closed':
      return `Ended unpaid (${row.status}). Still watched for late money.`;
  }
}

function lastAnswer(row: PaymentSnapshot): string {
  if (typeof row.channelErrorSince === 'number')
    return `${row.channel} has given no readable answer since ${clock(row.channelErrorSince)}`;
  if (row.channelState === null || row.channelAnsweredAt === null)
    return `${row.channel} has not been queried yet`;
  return `${row.channel} answered ${row.channelState} at ${clock(row.channelAnsweredAt)}`;
}

/**
 * The line about the next query. While the query activity retries, the workflow does not see the channel's answers.
 * Therefore the line then shows the planned queries, and refers to Pending Activities for the last answer.
 */
function nextQuery({ at, waits }: NextQueries): string {
  if (waits.length === 0) return `next query at ${clock(at)}, or as soon as a callback or hint arrives`;
  const plan: string[] = [];
  for (let i = 0, from = at; i < waits.length && plan.length < 2; ) {
    const wait = waits[i] ?? 0;
    while (i < waits.length && waits[i] === wait) {
      from += wait;
      i += 1;
    }
    plan.push(`every ${seconds(wait)} until ${clock(from)}`);
  }
  return `queries ${plan.join(', ')} ...; last answer: *Pending Activities*`;
}

function deliveryProgress(delivery: DeliveryProgress | null): string[] {
  if (delivery === null) return ['- last answer and next attempt: *Pending Activities*'];
  return [
    `- last answer: ${delivery.lastAnswer}`,
    `- next attempt at ${clock(delivery.nextAt)}, or at once when an operator retries`,
  ];
}

/** The current details of the workflow that delivers one event to the order service. */
export function describeDelivery(row: DeliverySnapshot): string {
  const { type, version, status, telling } = row;
  const notAgreed =
    telling === null ? '' : ` The order service has not agreed since ${clock(telling.since)}.`;
  const headline =
    status === 'pending'
      ? `Delivering ${type} to the order service.${notAgreed}`
      : status === 'superseded'
        ? `${type} was not delivered to the order service: newer events supersede it.`
        : `Sent ${type} to the order service: ${status}.`;
  return [
    `**${headline}**`,
    '',
    `- version ${version} of payment ${row.paymentId}, order ${inMarkdown(row.orderId)}`,
    ...(status === 'pending' ? deliveryProgress(telling) : []),
  ].join('\n');
}

/** The current details of a refund's workflow. */
export function describeRefund(row: RefundSnapshot, next: NextQueries | undefined): string {
  const lines = [
    `- ${amountText(row.amount, row.currency)} of payment ${row.paymentId}, order ${inMarkdown(row.orderId)}: ${row.reason}`,
    `- due since ${clock(row.createdAt)}`,
  ];
  if (row.unknownSince !== null)
    lines.push(`- ${row.channel} has given no definite answer since ${clock(row.unknownSince)}`);
  if (next !== undefined) lines.push(`- ${nextQuery(next)}`);
  return [`**${refundHeadline(row)}**`, '', ...lines].join('\n');
}

function refundHeadline(row: RefundSnapshot): string {
  switch (row.status) {
    case 'created':
      return `Requesting the refund at ${row.channel}. Each retry uses the same refund number.`;
    case 'processing':
      return `${row.channel} is processing the refund.`;
    case 'succeeded':
      return 'The money was refunded.';
    case 'needs_person':
      return `${row.channel} cannot continue the refund until a person acts at the channel. **Needs attention.**`;
    case 'failed':
      return `${row.channel} refused the refund for good.`;
    case 'reversed':
      return 'The refund failed after it had succeeded: the money is back at the merchant.';
  }
}
