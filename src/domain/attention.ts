import { ORDER_UNKNOWN_FOR_MS } from './event.ts';
import { REFUND_FAILING_AFTER_MS, REFUND_PROCESSING_AT_MOST_MS } from './refund.ts';

/**
 * Why a person should look at a payment: everything that is known of each kind, in one declaration. What the ledger
 * clears, the API's description and the table in docs/operations.md (`npm run generate`) follow from it. A new kind is
 * an entry here and a migration of `payments_attention_check`, which a test compares with this.
 */

export const SEVERITIES = {
  wait: 'the channel owes an answer and is asked until it gives one; a workflow that is stuck is shown instead',
  inform: 'a person should know of it; mostly nothing has to be done',
  act: 'it lasts until somebody does something',
} as const;
export type Severity = keyof typeof SEVERITIES;

/** What clears an attention without a person, as the table says it after "cleared when". */
export const OCCASIONS = {
  answered: 'the channel answers',
  configured: 'the channel takes a call again',
  trade_known: 'the channel says that it has the trade',
  decided: 'the channel says something else than processing',
  ended: 'the payment ends',
  settled: 'the payment is settled',
  order_decided: 'the order service agrees, or all money is back before it does',
  events_told: 'its events have been told, or none of them fails for 10 min any more',
  refunds_get_on: 'its refunds get on',
  money_back: 'all money is back',
  money_back_as_asked: 'all money is back, and no refund has another amount than asked',
  dispute_decided: 'every dispute is decided',
  reversal_explained: 'what went back was a refund of ours',
  tasks_done: 'every workflow of the payment has completed its task or ended',
  row_found: 'the row is there again',
} as const;
export type Occasion = keyof typeof OCCASIONS;

export interface AttentionDeclaration {
  readonly severity: Severity;
  /** What it means: when it is raised. */
  readonly raised: string;
  /** What the person is to do, in Markdown as docs/operations.md has it. */
  readonly todo: string;
  /** Each of these clears it; a person can clear every kind. */
  readonly clearedBy: readonly Occasion[];
}

const hours = (ms: number): string => `${ms / 3_600_000} h`;
const days = (ms: number): string => `${ms / 86_400_000} days`;

/** How long an order service may not know an order. */
const UNKNOWN_FOR = `${hours(ORDER_UNKNOWN_FOR_MS)} by default (\`NODROP_ORDER_UNKNOWN_HOURS\`)`;

const ASK_FOR_OUTAGE = 'Ask the channel whether it has an outage; check our credentials and network.';

/** The kinds that a payment's row can hold, from the channel's silence to our own mistakes. */
export const ATTENTIONS = {
  channel_unreachable: {
    severity: 'wait',
    raised:
      'No readable answer for 5 min, or after 6 tries to close; or 6 closes refused as paid, and the query says unpaid.',
    todo: ASK_FOR_OUTAGE,
    clearedBy: ['answered', 'ended', 'settled'],
  },
  create_unknown: {
    severity: 'wait',
    raised: 'The channel did not say after 8 tries (about 90 s) whether it created the trade.',
    todo: ASK_FOR_OUTAGE,
    clearedBy: ['trade_known', 'ended', 'settled'],
  },
  channel_misconfigured: {
    severity: 'act',
    raised:
      'At once, when the channel does not take our credentials, permissions or clock, in whichever call. It says nothing ' +
      'of any payment: none fails by it, and each is asked on. Not while something is shown that concerns money.',
    todo:
      '`attentionDetail` says what to mend: the credentials of the account, what they may do at the channel, or the clock ' +
      'of the machine. Other payments of the account are shown when the channel is next called for them.',
    clearedBy: ['configured', 'ended', 'settled', 'money_back'],
  },
  channel_undecided: {
    severity: 'inform',
    raised:
      'A day past its expiry the channel still says that it processes the payment. The order takes no new attempt meanwhile.',
    todo: 'Ask the channel when it decides.',
    clearedBy: ['decided', 'ended', 'settled'],
  },
  order_update_failing: {
    severity: 'act',
    raised:
      'The money is in, and for 10 min the order did not take it: its order service does not agree or could not be ' +
      'told at all, or 16 tries in our own database failed. At once when the order, read back, is not paid.',
    todo: 'See [below](#order_update_failing).',
    clearedBy: ['settled', 'order_decided'],
  },
  order_unknown: {
    severity: 'act',
    raised:
      'The money is in, and the last answer of the order service was that it does not know the order: 404 or 410 with the ' +
      `code \`order_unknown\`. It is told again; when the service has not known it for ${UNKNOWN_FOR}, the order counts as gone. Not by ` +
      'a 404 without the code: that settles nothing.',
    todo:
      'Look at the address, at the start of the answer in the log of deliveries, and for the order at its service: create ' +
      'it there, and `retry`. `accept` when it is paid by hand; `refund` when there is no such order.',
    clearedBy: ['settled', 'order_decided'],
  },
  delivery_failing: {
    severity: 'act',
    raised:
      'For 10 min the order service has not answered an event of the payment on which the payment does not wait: of a ' +
      'refund, a conflict, an end. Only while nothing else is shown, and everything else takes its place.',
    todo:
      'See [the table below](#order_update_failing) for what its last answer means. Once it is mended, ' +
      '`POST /v1/deliveries/redeliver` tells everything that waits. `PaymentAttention` shows it only while the ' +
      "payment's own workflow runs.",
    clearedBy: ['events_told'],
  },
  order_conflict: {
    severity: 'inform',
    raised:
      'The order was already paid, cancelled or closed, the merchant refunds late money, or its order service says ' +
      `that the order is paid otherwise or gone, or has not known it for ${UNKNOWN_FOR}. An owed refund is recorded. In ` +
      '`review`: the trade is only watched, or two accounts see one adopted trade, whose money another payment has received.',
    todo:
      "Nothing, usually: the refund goes out by itself. See it under the payment's refunds. Many of them from one " +
      'order service: ask its owner whether it answers 409 or 410 by mistake, before more money goes back.',
    clearedBy: ['money_back'],
  },
  amount_mismatch: {
    severity: 'act',
    raised:
      'The channel itself says another amount or currency than asked, or the money is of an attempt made before the ' +
      "order's amount was changed: the order is not paid. Or the channel gave back another amount than a refund asked " +
      "for: the channel's is recorded, `askedAmount` is ours. Or it says that money came in and some or all of it went " +
      'back, and not how much, and no refund is known that explains it: the order is not paid.',
    todo:
      "Compare with the channel's own records. Pay back what is too much and `accept` the rest, or `refund` it all. " +
      'The order takes no new attempt; if one made before pays it, this money goes back by itself. Of a refund: ask ' +
      'for the rest, or settle the excess with the channel, then `dismiss`; in a conflict `refund` asks for the rest. Of ' +
      'what went back unknown: look at the channel; `accept` when enough is left, `refund` when all is, `dismiss` when ' +
      'nothing is; of a part, ask for a refund of that first.',
    clearedBy: ['money_back_as_asked'],
  },
  late_payment_review: {
    severity: 'act',
    raised: "The money came after the end, and the merchant's `late_payment` is `review`.",
    todo: 'Decide with the merchant.',
    clearedBy: ['money_back'],
  },
  refund_failing: {
    severity: 'act',
    raised:
      'The channel refused a refund that is owed, and not because a part had gone back there, or any of a conflict ' +
      'whose order was recovered; or it waits for a person to do something there, which is shown at once with its words; ' +
      'or it was silent on any refund (did not know it, or refused it for now: its balance is too low) for ' +
      `${hours(REFUND_FAILING_AFTER_MS)}, or has had it in process for ${days(REFUND_PROCESSING_AT_MOST_MS)}: banks take some.`,
    todo:
      'Ask the channel why. When the balance is too low, top it up: the refund is retried automatically, within an hour or so. ' +
      '`resolve` with `retry` or `refund` has a refused one asked for anew, of all that is left, under a number of ' +
      'its own; `retry` also has one go on under whose keys the channel keeps nothing but failures.',
    clearedBy: ['refunds_get_on', 'money_back'],
  },
  refund_reversed: {
    severity: 'act',
    raised:
      'A refund failed after it had succeeded: the bank returned the money to the merchant. It is not retried automatically, ' +
      'and an order that is `refunded` stays so.',
    todo:
      'Ask the payer for another way to give it back. Ask for another refund, or `refund` it when it is owed ' +
      '(a conflict); `dismiss` when it was given back otherwise.',
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
      'The payer disputes the trade at their bank. Takes the place of everything else, which is shown again afterwards. ' +
      'Meanwhile no refund is asked for: the channel decides over the money. Also when a dispute is lost in another ' +
      'currency than came in.',
    todo:
      'Answer it at the channel before the time that the sentence names. A lost one is recorded as a refund ' +
      '(`dispute`), unless its currency is another: then settle it with the channel, and `dismiss`.',
    clearedBy: ['dispute_decided'],
  },
  channel_reversed: {
    severity: 'inform',
    raised:
      'Money of a paid order went back at the channel, and nobody asked for it here, also when the channel does not say ' +
      'how much; or a dispute of it is lost.',
    todo: 'Ask who did it; `dismiss` when it is known.',
    clearedBy: ['reversal_explained'],
  },
  workflow_stuck: {
    severity: 'act',
    raised:
      "The task of the payment's workflow, of one of its refunds' or of its deliveries' failed more than 5 times in a " +
      'row. Not while an attention is shown that is more than `wait`.',
    todo:
      "A mistake in the code, or a worker of another release: the workflow's history in the Web UI has the error. " +
      'Deploy a worker that mends it, or _Reset_ the workflow to before it. The sweep settles the money on record ' +
      'meanwhile, and the order service is told by `delivery/{id}`. `PaymentAttention` does not show it: a workflow ' +
      'that is stuck cannot set it.',
    clearedBy: ['tasks_done'],
  },
} as const satisfies Record<string, AttentionDeclaration>;

/** Why a person should look at a payment. */
export type Attention = keyof typeof ATTENTIONS;
export const ATTENTION_NAMES = Object.keys(ATTENTIONS) as Attention[];

/**
 * What a workflow shows in place of an attention, in its search attribute alone: there is no row that could hold it. So
 * neither the database nor the API knows it.
 */
export const UNSTORED_ATTENTIONS = {
  row_lost: {
    severity: 'act',
    raised:
      "A workflow's row is gone from the database. Shown in the Web UI alone (`PaymentAttention`): no row can hold it.",
    todo: 'See [lost rows](#lost-rows).',
    clearedBy: ['row_found'],
  },
} as const satisfies Record<string, AttentionDeclaration>;

export const ROW_LOST = 'row_lost' satisfies keyof typeof UNSTORED_ATTENTIONS;

/** Whether another attention may be shown: nothing is, or what gives way to everything else. */
export const isFree = (attention: Attention | null): boolean =>
  attention === null || attention === 'delivery_failing';

export const severityOf = (attention: Attention): Severity => ATTENTIONS[attention].severity;

/** Whether one of these occasions clears it. */
export function isClearedBy(attention: Attention, occasions: readonly Occasion[]): boolean {
  const { clearedBy }: AttentionDeclaration = ATTENTIONS[attention];
  return occasions.some((occasion) => clearedBy.includes(occasion));
}
