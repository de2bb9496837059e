import { ORDER_UNKNOWN_FOR_MS } from './event.ts';
import { REFUND_FAILING_AFTER_MS, REFUND_PROCESSING_AT_MOST_MS } from './refund.ts';

/**
 * Declares each kind of attention. An attention says why a person should look at a payment. The ledger's clearing
 * rules, the API's description and the table in docs/operations.md (`npm run generate`) are derived from these
 * declarations. A new kind needs an entry here and a migration of `payments_attention_check`, which a test compares
 * with this file.
 */

export const SEVERITIES = {
  wait: 'nodrop waits for an answer of the channel and queries it until one comes; the attention `workflow_stuck` replaces such an attention',
  inform: 'an operator should know; usually nothing has to be done',
  act: 'the attention stays until a person acts',
} as const;
export type Severity = keyof typeof SEVERITIES;

/**
 * The events that clear an attention automatically. Each text continues the words "cleared when" in the table of
 * docs/operations.md.
 */
export const OCCASIONS = {
  answered: 'the channel answers',
  configured: 'the channel accepts a call again',
  trade_known: 'the channel confirms that it has the trade',
  decided: 'the channel answers anything but processing',
  ended: 'the payment ends',
  settled: 'the payment is settled',
  order_decided: 'the order service agrees, or all money has been refunded',
  events_told: "the payment's events are delivered, or none has failed for 10 min or longer",
  refunds_get_on: "the payment's refunds make progress again",
  money_back: 'all money is refunded',
  money_back_as_asked: 'all money is refunded, and every refund has the requested amount',
  dispute_decided: 'every dispute is decided',
  reversal_explained: 'the refunded money turns out to be a refund that nodrop requested',
  tasks_done: 'every workflow of the payment has completed its task or ended',
  row_found: 'the missing row is in the database again',
} as const;
export type Occasion = keyof typeof OCCASIONS;

export interface AttentionDeclaration {
  readonly severity: Severity;
  /** The condition that raises the attention. */
  readonly raised: string;
  /** What the operator should do, in Markdown for docs/operations.md. */
  readonly todo: string;
  /** The events that clear the attention automatically. A person can clear every kind of attention. */
  readonly clearedBy: readonly Occasion[];
}

const hours = (ms: number): string => `${ms / 3_600_000} h`;
const days = (ms: number): string => `${ms / 86_400_000} days`;

/**
 * Describes in words how long an order service must keep answering that it does not know an order, before nodrop treats
 * the order as gone.
 */
const UNKNOWN_FOR = `${hours(ORDER_UNKNOWN_FOR_MS)} by default (\`NODROP_ORDER_UNKNOWN_HOURS\`)`;

const ASK_FOR_OUTAGE =
  "Ask the channel whether it has an outage; check the account's credentials and the network.";

/** The attentions that a payment's row can hold. */
export const ATTENTIONS = {
  channel_unreachable: {
    severity: 'wait',
    raised:
      'The channel gave no readable answer for 5 min, or for 6 attempts to close the trade. Or it refused to close the trade ' +
      'as paid 6 times in a row, while its queries report the trade as unpaid.',
    todo: ASK_FOR_OUTAGE,
    clearedBy: ['answered', 'ended', 'settled'],
  },
  create_unknown: {
    severity: 'wait',
    raised: 'After 8 attempts (about 90 s) the channel has not confirmed whether it created the trade.',
    todo: ASK_FOR_OUTAGE,
    clearedBy: ['trade_known', 'ended', 'settled'],
  },
  channel_misconfigured: {
    severity: 'act',
    raised:
      'At once, when the channel rejects our credentials, permissions or clock, in any call. No payment fails because of ' +
      'it, and the queries continue. Not raised while an attention about money is shown.',
    todo:
      '`attentionDetail` says what to correct: the credentials of the account, their permissions at the channel, or the ' +
      "clock of the machine. The account's other payments get the attention with the next call for them.",
    clearedBy: ['configured', 'ended', 'settled', 'money_back'],
  },
  channel_undecided: {
    severity: 'inform',
    raised:
      'One day after the expiry of the payment the channel still answers `processing`. The order accepts no new attempt ' +
      'meanwhile.',
    todo: 'Ask the channel when it will decide.',
    clearedBy: ['decided', 'ended', 'settled'],
  },
  order_update_failing: {
    severity: 'act',
    raised:
      'The money has arrived, but for 10 min the order was not updated: the order service does not agree or cannot be ' +
      "reached, or 16 attempts in nodrop's database failed. Raised at once when the order, read back, is not paid.",
    todo: 'See [below](#order_update_failing).',
    clearedBy: ['settled', 'order_decided'],
  },
  order_unknown: {
    severity: 'act',
    raised:
      'The money has arrived, but the last answer of the order service was that it does not know the order: 404 or 410 with ' +
      `the code \`order_unknown\`. Delivery is retried. After ${UNKNOWN_FOR} of such answers the order counts as gone. A 404 ` +
      'without the code decides nothing.',
    todo:
      "Check the order service's address, the start of its answer in the delivery log, and whether the service has the order. " +
      'Create the order there, then `retry`. Use `accept` if the order is marked as paid by hand, `refund` if there is no such ' +
      'order.',
    clearedBy: ['settled', 'order_decided'],
  },
  delivery_failing: {
    severity: 'act',
    raised:
      'For 10 min the order service has not answered an event for which the payment does not wait (of a refund, a conflict, ' +
      'or an end without money). Raised only while no other attention is shown; any other attention replaces it.',
    todo:
      "See [the table below](#order_update_failing) for the meaning of the order service's last answer. Once the problem is " +
      'fixed, `POST /v1/deliveries/redeliver` delivers all waiting events. `PaymentAttention` shows this attention only ' +
      "while the payment's own workflow runs.",
    clearedBy: ['events_told'],
  },
  order_conflict: {
    severity: 'inform',
    raised:
      'The order was already paid, cancelled or closed; or the merchant refunds late money; or the order service answered ' +
      `that the order is paid in another way or gone, or has not known the order for ${UNKNOWN_FOR}. A refund is recorded as due. ` +
      'With `orderUpdate` `review`, an operator decides instead: the trade is only watched, or another payment has adopted ' +
      'the same trade at another account and has received its money.',
    todo:
      "Usually nothing: nodrop refunds automatically. See the payment's refunds. If one order service causes many of these, ask " +
      'its owner whether it answers 409 or 410 by mistake, before more money is refunded.',
    clearedBy: ['money_back'],
  },
  amount_mismatch: {
    severity: 'act',
    raised:
      'The channel reports another amount or currency than requested, or the money belongs to an attempt from before the ' +
      "order's amount was changed: the order is not paid. Or the channel refunded another amount than requested: the " +
      "channel's amount is recorded, and `askedAmount` has the requested one. Or the channel reports that some or all of the " +
      'money was refunded, but not how much, and no known refund explains it: the order is not paid.',
    todo:
      "Compare with the channel's own records. Refund the excess and `accept` the rest, or `refund` everything. The order " +
      'accepts no new attempt; if an earlier attempt pays the order, this money is refunded automatically. For a refund: ' +
      'request the rest, or settle the excess with the channel, then `dismiss`; in a conflict `refund` requests the rest. For ' +
      'an unknown refunded amount, look at the channel: `accept` if enough is left, `refund` if everything is left, `dismiss` ' +
      'if nothing is left; if only a part is left, request a refund of that part first.',
    clearedBy: ['money_back_as_asked'],
  },
  late_payment_review: {
    severity: 'act',
    raised:
      "The money arrived after the end of the payment, and the merchant's setting `late_payment` is `review`.",
    todo: 'Decide with the merchant.',
    clearedBy: ['money_back'],
  },
  refund_failing: {
    severity: 'act',
    raised:
      'The channel refused a refund that is due, for another reason than an earlier partial refund at the channel; or it ' +
      'refused any refund of a conflict whose order was recovered. Or the channel waits for a person to act there: raised at ' +
      "once, with the channel's words. Or for " +
      `${hours(REFUND_FAILING_AFTER_MS)} the channel has not answered about a refund, has not known it, or has refused it ` +
      'temporarily (its balance is too low). Or the channel has been processing a refund for ' +
      `${days(REFUND_PROCESSING_AT_MOST_MS)}; banks take some days.`,
    todo:
      'Ask the channel for the reason. If the balance is too low, top it up: the refund is retried automatically, within ' +
      'about an hour. `resolve` with `retry` or `refund` requests a refused refund again, for all that is left, under a new ' +
      'number. `retry` also continues a refund for which the channel has stored only failures under all keys so far.',
    clearedBy: ['refunds_get_on', 'money_back'],
  },
  refund_reversed: {
    severity: 'act',
    raised:
      'A refund failed after it had succeeded: the bank returned the money to the merchant. It is not retried automatically, ' +
      'and an order that is `refunded` stays so.',
    todo:
      'Ask the payer for another way to give the money back. Request another refund, or use `refund` if the refund is due ' +
      '(a conflict); `dismiss` if the money was given back in another way.',
    clearedBy: ['money_back'],
  },
  statement_mismatch: {
    severity: 'act',
    raised: 'Reserved for a later release: nothing raises it.',
    todo: '',
    clearedBy: ['settled'],
  },
  disputed: {
    severity: 'act',
    raised:
      'The payer disputes the trade at their bank. Replaces every other attention, which is shown again afterwards. ' +
      'Meanwhile no refund is requested, because the channel decides about the money. Also raised when a dispute is lost in ' +
      'another currency than the received one.',
    todo:
      'Answer the dispute at the channel before the time in `attentionDetail`. A lost dispute is recorded as a refund ' +
      '(`dispute`), unless it has another currency: then settle it with the channel, and `dismiss`.',
    clearedBy: ['dispute_decided'],
  },
  channel_reversed: {
    severity: 'inform',
    raised:
      'Money of a paid order was refunded at the channel without a request to nodrop, even if the channel does not say how ' +
      'much; or a dispute of the payment is lost.',
    todo: 'Find out who refunded it; then `dismiss`.',
    clearedBy: ['reversal_explained'],
  },
  workflow_stuck: {
    severity: 'act',
    raised:
      'The workflow task of the payment, of one of its refunds or of one of its deliveries failed more than 5 times in a ' +
      'row. Not raised while an attention of another severity than `wait` is shown.',
    todo:
      "The cause is a bug, or a worker of another release: the workflow's history in the Web UI has the error. Deploy a " +
      'worker with a fix, or _Reset_ the workflow to an event before the error. Meanwhile the sweep settles the money on ' +
      'record, and `delivery/{id}` delivers the event to the order service. `PaymentAttention` does not show this attention, ' +
      'because a stuck workflow cannot set it.',
    clearedBy: ['tasks_done'],
  },
} as const satisfies Record<string, AttentionDeclaration>;

/** The name of an attention: the reason why a person should look at a payment. */
export type Attention = keyof typeof ATTENTIONS;
export const ATTENTION_NAMES = Object.keys(ATTENTIONS) as Attention[];

/**
 * These attentions are raised when the workflow's row is missing, so no row can store them. The workflow shows them
 * only in its search attribute, and neither the database nor the API contains them.
 */
export const UNSTORED_ATTENTIONS = {
  row_lost: {
    severity: 'act',
    raised:
      "A workflow's row is missing in the database. Shown only in the Web UI (`PaymentAttention`), as no row can store it.",
    todo: 'See [lost rows](#lost-rows).',
    clearedBy: ['row_found'],
  },
} as const satisfies Record<string, AttentionDeclaration>;

export const ROW_LOST = 'row_lost' satisfies keyof typeof UNSTORED_ATTENTIONS;

/**
 * True if a new attention may be raised. The payment must have no attention, or only `delivery_failing`, which every
 * other attention replaces.
 */
export const isFree = (attention: Attention | null): boolean =>
  attention === null || attention === 'delivery_failing';

export const severityOf = (attention: Attention): Severity => ATTENTIONS[attention].severity;

/** True if one of these events clears the attention. */
export function isClearedBy(attention: Attention, occasions: readonly Occasion[]): boolean {
  const { clearedBy }: AttentionDeclaration = ATTENTIONS[attention];
  return occasions.some((occasion) => clearedBy.includes(occasion));
}
