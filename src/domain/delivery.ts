import type { Attention } from './attention.ts';
import type { DeliveryStatus, EventType } from './event.ts';
import type { OrderUpdate } from './states.ts';

/** When an order service is told, and who tells it. All durations are milliseconds. */

/** Before each attempt, the first at once; then daily, for ever. */
const WAITS_MS: readonly number[] = [
  ...[0, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000],
  ...Array(5).fill(60_000),
  ...Array(5).fill(300_000),
  ...[1_800_000, 7_200_000, 18_000_000],
];
const DAY_MS = 86_400_000;
/** At most this part of a wait is added, so that what failed together is not repeated together. */
const JITTER = 0.2;

/**
 * DeliveryProgress and reading back are over by then. For so long nobody else tells the same, and Temporal waits for a worker
 * that died in it.
 */
export const DELIVERY_ATTEMPT_AT_MOST_MS = 40_000;

/** Without the order service's agreement for so long, a person should look. */
export const DELIVERY_ALARM_MS = 10 * 60_000;

/**
 * Once it did not know the order it is told at least so often. Its word moves money only when it has said so for as long
 * at the end, without another answer in between.
 */
export const ORDER_UNKNOWN_EVERY_MS = 3_600_000;

/** At most once in this time the events that wait for an order service are told before their time. */
export const REDELIVERY_EVERY_MS = 10 * 60_000;
/** While an order service fails, it is found out at least this often whether it answers again. */
export const PROBE_EVERY_MS = 3_600_000;
/** So many of one merchant's calls are under way at once in a process, and never more than there are places left. */
export const CALLS_AT_ONCE = 20;
/**
 * So many events are told at once at most, of those that wait for one order service: the other half of its calls is for
 * what happens meanwhile.
 */
export const REDELIVERED_AT_ONCE = CALLS_AT_ONCE / 2;
/** Whatever was handed to its workflow and is not told by then is left to that. */
export const REDELIVERED_WITHIN_MS = 2 * 60_000;

/**
 * The wait after so many attempts without an answer that counts.
 * @param random from 0 to 1
 * @param retryAfterMs what the service asked for: heeded when it is longer, up to a day.
 * @param unknownForMoreMs once the service did not know the order: how long it may go on not knowing it; 0 or less when
 * that is over and another answer came in between. Null when it never said so.
 */
export function deliveryWait(
  attempts: number,
  random: number,
  retryAfterMs = 0,
  unknownForMoreMs: number | null = null,
): number {
  const wait = Math.round((WAITS_MS[attempts] ?? DAY_MS) * (1 + JITTER * random));
  const atMost =
    unknownForMoreMs === null
      ? Number.POSITIVE_INFINITY
      : Math.min(ORDER_UNKNOWN_EVERY_MS, unknownForMoreMs > 0 ? unknownForMoreMs : ORDER_UNKNOWN_EVERY_MS);
  return Math.max(Math.min(wait, atMost), Math.min(retryAfterMs, DAY_MS));
}

/**
 * True for the event on whose delivery the payment itself waits: its own workflow tells it, unless it is stuck. Every other event has a
 * workflow of its own, so that a newer one never waits behind an older.
 */
export function isDeliveredByPayment(type: EventType, orderUpdate: OrderUpdate | null): boolean {
  return type === 'payment.succeeded' && orderUpdate === 'pending';
}

/** How the telling goes, as workflows see it and the Web UI shows it. Times are epoch milliseconds. */
export interface DeliveryProgress {
  /** Since when it has been told without agreeing. */
  readonly since: number;
  /** What it answered last; a sentence. */
  readonly lastAnswer: string;
  readonly nextAt: number;
}

/** The delivery as its workflow sees it: ids and states only. */
export interface DeliverySnapshot {
  readonly id: string;
  readonly type: EventType;
  readonly version: number;
  readonly paymentId: string;
  readonly orderId: string;
  readonly status: DeliveryStatus;
  /** By the payment's workflow, and not by the delivery's own. */
  readonly toldByPayment: boolean;
  /** The payment's. */
  readonly attention: Attention | null;
  /** Null before it was told for the first time, and once it is settled. */
  readonly telling: DeliveryProgress | null;
}

/** A delivery that is to be told before its time, or once more. */
export interface PickedDelivery {
  readonly id: string;
  /** How many there had been when it was picked: one more, and it has been told. */
  readonly attempts: number;
}

/** Deliveries that are told at a time. */
export interface RedeliveryBatch {
  readonly picked: readonly PickedDelivery[];
  /** Nobody waits for them longer than this, epoch ms. */
  readonly until: number;
}

/** What a batch came to. */
export interface BatchOutcome {
  /** How many calls were answered, be it by a refusal of the event, and how many were not. */
  readonly answered: number;
  readonly unanswered: number;
  /** For so long the order service asked to be left alone (`Retry-After`). */
  readonly pauseMs: number;
}
