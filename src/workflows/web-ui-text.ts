import { ROW_LOST } from '../domain/attention.ts';
import type { DeliveryProgress, DeliverySnapshot } from '../domain/delivery.ts';
import { amountText } from '../domain/money.ts';
import type { PaymentSnapshot, PaymentTerms } from '../domain/payment.ts';
import type { RefundSnapshot } from '../domain/refund.ts';
import { inMarkdown } from '../domain/text.ts';

/** `10:05:30 UTC`, with the day when it is not today's. */
function clock(ms: number): string {
  const iso = new Date(ms).toISOString();
  const sameDay = iso.slice(0, 10) === new Date().toISOString().slice(0, 10);
  return `${sameDay ? '' : `${iso.slice(0, 10)} `}${iso.slice(11, 19)} UTC`;
}

function seconds(ms: number): string {
  if (ms >= 3_600_000) return `${Math.round(ms / 360_000) / 10} h`;
  return ms >= 60_000 ? `${Math.round(ms / 6_000) / 10} min` : `${Math.round(ms / 1000)} s`;
}

/** The coming queries as the workflow knows them. */
export interface NextQueries {
  /** When the first of them is due, epoch ms. */
  readonly at: number;
  /** The waits between them once the retrying activity has taken over; empty before. */
  readonly waits: readonly number[];
}

/**
 * The workflow's current details in the Web UI: what the payment waits for, since when, what the channel said last and
 * when it is asked next, in words a support engineer understands. Markdown; the Web UI shows a headline and three short
 * lines without scrolling.
 */
export function describePayment(
  row: PaymentSnapshot,
  next: NextQueries | undefined,
  telling: DeliveryProgress | null = null,
): string {
  const attention = row.attention === null ? '' : ` Needs attention: ${row.attention}.`;
  return [
    `**${headline(row, telling)}${attention}**`,
    '',
    `- since ${clock(row.createdAt)}, expires ${clock(row.expiresAt)}, order ${inMarkdown(row.orderId)}`,
    ...(row.orderUpdate === 'pending'
      ? deliveryProgress(telling)
      : next === undefined || next.waits.length === 0
        ? [`- ${lastAnswer(row)}`]
        : []),
    ...(next === undefined ? [] : [`- ${nextQuery(next)}`]),
  ].join('\n');
}

/** The same while the database cannot be read. */
export function describeUnreadable(nextLookAt: number): string {
  return `The database cannot be read: tried again at ${clock(nextLookAt)}, or as soon as it is woken.`;
}

/** The same while the ledger has no row of the payment. */
export function describeLostPayment(terms: PaymentTerms, nextLookAt: number): string {
  const { amount, currency, orderId, merchantId, channel, createdAt } = terms;
  return [
    `**The ledger has no row of this payment. Needs attention: ${ROW_LOST}.**`,
    '',
    `- ${amountText(amount, currency)} of order ${inMarkdown(orderId)}, merchant ${merchantId}, by ${channel}`,
    `- since ${clock(createdAt)}; \`recover --lost\` writes the row again`,
    `- looked for next at ${clock(nextLookAt)}, or as soon as it is woken`,
  ].join('\n');
}

/** The same while the ledger has no row of the refund. */
export function describeLostRefund(refundId: string, nextLookAt: number): string {
  return [
    `**The ledger has no row of refund ${refundId}. Needs attention: ${ROW_LOST}.**`,
    '',
    '- see `recover --lost`',
    `- looked for next at ${clock(nextLookAt)}, or as soon as it is woken`,
  ].join('\n');
}

function headline(row: PaymentSnapshot, telling: DeliveryProgress | null): string {
  switch (row.status) {
    case 'created':
      return `Creating the trade at ${row.channel}: the payer has nothing to pay with yet.`;
    case 'paying':
      if (row.closeNotBefore !== undefined && (row.cancelRequested || row.expiresAt <= Date.now()))
        return `Being closed: ${row.channel} does not close it before ${clock(row.closeNotBefore)}.`;
      if (row.noAction === true) return `Being closed: ${row.channel} gives the payer nothing to pay with.`;
      if (row.cancelRequested) return `Being cancelled: ${row.channel} is asked first.`;
      if (row.channelState === 'processing')
        return `Waiting for ${row.channel} to decide: the payer has acted.`;
      return `Waiting for the payer to pay, and for ${row.channel} to say so.`;
    case 'succeeded':
      if (row.orderUpdate === 'pending') {
        return telling === null
          ? 'The money is in; the order service is being told.'
          : `The money is in; the order service has not agreed since ${clock(telling.since)}.`;
      }
      return row.orderUpdate === 'applied'
        ? 'Paid: the order is paid.'
        : `Money received, and the order is not paid by it (${row.orderUpdate}).`;
    case 'failed':
      return `Failed: ${row.channel} declined. Money that still came would be found.`;
    case 'cancelled':
    case 'closed':
      return `Ended unpaid (${row.status}). Money that still came would be found.`;
  }
}

function lastAnswer(row: PaymentSnapshot): string {
  if (typeof row.channelErrorSince === 'number')
    return `${row.channel} gives no readable answer since ${clock(row.channelErrorSince)}`;
  if (row.channelState === null || row.channelAnsweredAt === null)
    return `${row.channel} has not been asked yet`;
  return `${row.channel} answered ${row.channelState} at ${clock(row.channelAnsweredAt)}`;
}

/** While the activity asks, this run learns nothing of its answers: where they are to be read, and what is planned. */
function nextQuery({ at, waits }: NextQueries): string {
  if (waits.length === 0) return `asked next at ${clock(at)}, or as soon as a callback or hint comes`;
  const plan: string[] = [];
  for (let i = 0, from = at; i < waits.length && plan.length < 2; ) {
    const wait = waits[i] ?? 0;
    while (i < waits.length && waits[i] === wait) {
      from += wait;
      i += 1;
    }
    plan.push(`every ${seconds(wait)} until ${clock(from)}`);
  }
  return `asked ${plan.join(', ')} ...; last answer: *Pending Activities*`;
}

function deliveryProgress(telling: DeliveryProgress | null): string[] {
  if (telling === null) return ['- last answer and next time: *Pending Activities*'];
  return [
    `- its last answer: ${telling.lastAnswer}`,
    `- told next at ${clock(telling.nextAt)}, or at once when an operator retries`,
  ];
}

/** The same for an event on its way to the order service. */
export function describeDelivery(row: DeliverySnapshot): string {
  const { type, version, status, telling } = row;
  const how = telling === null ? '' : ` It has not agreed since ${clock(telling.since)}.`;
  const headline =
    status === 'pending'
      ? `The order service is being told of ${type}.${how}`
      : status === 'superseded'
        ? `The order service is not told of ${type} any more: it is superseded by newer events.`
        : `The order service was told of ${type}: ${status}.`;
  return [
    `**${headline}**`,
    '',
    `- version ${version} of payment ${row.paymentId}, order ${inMarkdown(row.orderId)}`,
    ...(status === 'pending' ? deliveryProgress(telling) : []),
  ].join('\n');
}

/** The same for a refund. */
export function describeRefund(row: RefundSnapshot, next: NextQueries | undefined): string {
  const lines = [
    `- ${amountText(row.amount, row.currency)} of payment ${row.paymentId}, order ${inMarkdown(row.orderId)}: ${row.reason}`,
    `- owed since ${clock(row.createdAt)}`,
  ];
  if (row.unknownSince !== null)
    lines.push(`- ${row.channel} has given no definite answer since ${clock(row.unknownSince)}`);
  if (next !== undefined) lines.push(`- ${nextQuery(next)}`);
  return [`**${refundHeadline(row)}**`, '', ...lines].join('\n');
}

function refundHeadline(row: RefundSnapshot): string {
  switch (row.status) {
    case 'created':
      return `Asking ${row.channel} to give the money back, under one number however often.`;
    case 'processing':
      return `${row.channel} has the refund in process.`;
    case 'succeeded':
      return 'The money went back.';
    case 'needs_person':
      return `${row.channel} waits for a person before it goes on with the refund. **Needs attention.**`;
    case 'failed':
      return `${row.channel} refused the refund for good.`;
    case 'reversed':
      return 'The refund failed after it had succeeded: the money is here again.';
  }
}
