import { toDecimal } from '../domain/money.ts';
import type { PaymentSnapshot } from '../domain/payment.ts';
import type { RefundSnapshot } from '../domain/refund.ts';

/** `10:05:30 UTC`, with the day when it is not today's. */
function clock(ms: number): string {
  const iso = new Date(ms).toISOString();
  const sameDay = iso.slice(0, 10) === new Date().toISOString().slice(0, 10);
  return `${sameDay ? '' : `${iso.slice(0, 10)} `}${iso.slice(11, 19)} UTC`;
}

/** What the query under way, or to come, looks like from the workflow. */
export interface NextQuery {
  /** Epoch ms. */
  readonly nextQueryAt: number;
  /** True when the retrying activity has taken over the schedule. */
  readonly asking: boolean;
}

/**
 * The workflow's current details in the Web UI: what the payment waits for, since when, what the channel said
 * last and when it is asked next, in words a support engineer understands. Markdown.
 */
export function describePayment(row: PaymentSnapshot, next: NextQuery | undefined): string {
  return [`**${headline(row)}**`, '', ...facts(row, next)].join('\n');
}

function headline(row: PaymentSnapshot): string {
  switch (row.status) {
    case 'created':
      return `Creating the trade at ${row.channel}: the payer has nothing to pay with yet.`;
    case 'paying':
      if (row.cancelRequested) return `Being cancelled: ${row.channel} is asked first.`;
      if (row.channelState === 'processing')
        return `Waiting for ${row.channel} to decide: the payer has acted.`;
      return `Waiting for the payer to pay, and for ${row.channel} to say so.`;
    case 'succeeded':
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

function facts(row: PaymentSnapshot, next: NextQuery | undefined): string[] {
  const lines = [
    `- order ${row.orderId}, waiting since ${clock(row.createdAt)}, expires ${clock(row.expiresAt)}`,
  ];
  lines.push(
    row.channelState === null || row.channelAnsweredAt === null
      ? `- ${row.channel} has not been asked yet`
      : `- ${row.channel}'s last answer: ${row.channelState}, at ${clock(row.channelAnsweredAt)}`,
  );
  if (next?.asking === false)
    lines.push(`- it is asked next at ${clock(next.nextQueryAt)}, or as soon as a callback or hint comes`);
  if (next?.asking === true) {
    lines.push(
      `- it is being asked on schedule since ${clock(next.nextQueryAt)}: the last answer and the next time are under *Pending Activities*, \`queryChannel\``,
    );
  }
  if (row.attention !== null) lines.push(`- needs attention: ${row.attention}`);
  return lines;
}

/** The same for a refund. */
export function describeRefund(row: RefundSnapshot, next: NextQuery | undefined): string {
  const lines = [
    `- ${toDecimal(row.amount, row.currency)} ${row.currency} of payment ${row.paymentId}, order ${row.orderId}: ${row.reason}`,
    `- owed since ${clock(row.createdAt)}`,
  ];
  if (row.unknownSince !== null)
    lines.push(`- ${row.channel} has given no definite answer since ${clock(row.unknownSince)}`);
  if (next?.asking === false)
    lines.push(`- it is asked next at ${clock(next.nextQueryAt)}, or as soon as a callback comes`);
  if (next?.asking === true) {
    lines.push(
      `- it is being asked on schedule since ${clock(next.nextQueryAt)}: the last answer and the next time are under *Pending Activities*, \`queryRefund\``,
    );
  }
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
    case 'failed':
      return `${row.channel} refused the refund for good.`;
  }
}
