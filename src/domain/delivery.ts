import type { Attention } from './attention.ts';
import type { DeliveryStatus, EventType } from './event.ts';
import type { OrderUpdate } from './states.ts';

/** Defines when events are delivered to an order service, and by which workflow. All durations are in milliseconds. */

/**
 * The wait before each delivery attempt. The first attempt is made immediately. After these waits, one attempt is made
 * each day, forever.
 */
const WAITS_MS: readonly number[] = [
  ...[0, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000],
  ...Array(5).fill(60_000),
  ...Array(5).fill(300_000),
  ...[1_800_000, 7_200_000, 18_000_000],
];
const DAY_MS = 86_400_000;
/**
 * A wait is randomly extended by at most this part of its length. So deliveries that failed at the same time are not
 * all retried at the same time.
 */
const JITTER = 0.2;

/**
 * The longest duration of one delivery attempt, including the read-back of the order. The lease that excludes other
 * workers lasts this long, and the activity's start-to-close timeout has the same value.
 */
export const DELIVERY_ATTEMPT_AT_MOST_MS = 40_000;

/** If the order service has not agreed to an event within this time, nodrop raises an attention. */
export const DELIVERY_ALARM_MS = 10 * 60_000;

/**
 * The longest wait between attempts after the order service has answered that it does not know the order. nodrop treats
 * the order as gone only if the service gave no other answer for at least this time.
 */
export const ORDER_UNKNOWN_EVERY_MS = 3_600_000;

/** The shortest time between two redeliveries of the undelivered events of one order service. */
export const REDELIVERY_EVERY_MS = 10 * 60_000;
/** The longest time between two attempts to reach an order service that fails. */
export const PROBE_EVERY_MS = 3_600_000;
/**
 * The maximum number of concurrent calls to order services for one merchant in a process. If few slots are free, the
 * number is lower.
 */
export const CALLS_AT_ONCE = 20;
/**
 * The largest batch of a redelivery. It uses half of a merchant's concurrent calls, so that the other half stays free
 * for new events.
 */
export const REDELIVERED_AT_ONCE = CALLS_AT_ONCE / 2;
/**
 * How long a redelivery waits for the deliveries of one batch. If an event is not delivered by then, its own workflow
 * continues the delivery.
 */
export const REDELIVERED_WITHIN_MS = 2 * 60_000;

/**
 * The wait before the next delivery attempt.
 * @param attempts the number of attempts so far, none of which got a definite answer
 * @param random from 0 to 1
 * @param retryAfterMs the `Retry-After` of the order service. It replaces a planned wait that is shorter, but never
 *   exceeds one day
 * @param unknownForMoreMs the remaining time until nodrop treats the order as gone, because the service answers that it
 *   does not know the order. 0 or less if that time has passed, but the service gave another answer in between. Null if
 *   the service has never given that answer
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
 * True if the payment waits until the event is delivered. The payment's own workflow delivers such an event, unless
 * that workflow is stuck. Every other event has its own workflow, so that no event waits for the delivery of an older
 * one.
 */
export function isDeliveredByPayment(type: EventType, orderUpdate: OrderUpdate | null): boolean {
  return type === 'payment.succeeded' && orderUpdate === 'pending';
}

/** The progress of a pending delivery, for workflows and the Web UI. Times are epoch milliseconds. */
export interface DeliveryProgress {
  /** When nodrop made the first delivery attempt. The order service has not agreed since then. */
  readonly since: number;
  /** The order service's last answer, as a sentence. */
  readonly lastAnswer: string;
  readonly nextAt: number;
}

/** The delivery as its workflow sees it: ids and states, but no payer data. */
export interface DeliverySnapshot {
  readonly id: string;
  readonly type: EventType;
  readonly version: number;
  readonly paymentId: string;
  readonly orderId: string;
  readonly status: DeliveryStatus;
  /** True if the payment's workflow delivers the event instead of the delivery's own workflow. */
  readonly toldByPayment: boolean;
  /** The attention of the payment. */
  readonly attention: Attention | null;
  /** The progress of the delivery. Null before the first attempt, and after the delivery is settled. */
  readonly telling: DeliveryProgress | null;
}

/**
 * A delivery that a redelivery has selected. nodrop attempts it before its scheduled time. If it is already settled,
 * nodrop attempts it once more.
 */
export interface PickedDelivery {
  readonly id: string;
  /**
   * The number of attempts when the delivery was selected. If the number has grown since then, another attempt was made
   * in between.
   */
  readonly attempts: number;
}

/** The deliveries of one batch of a redelivery. */
export interface RedeliveryBatch {
  readonly picked: readonly PickedDelivery[];
  /** The redelivery waits for the batch until this time, epoch ms. */
  readonly until: number;
}

/** The outcome of one batch of a redelivery. */
export interface BatchOutcome {
  /** How many calls got a definite answer, which is an agreement or a refusal. `unanswered` counts the other calls. */
  readonly answered: number;
  readonly unanswered: number;
  /** The pause that the order service asked for with `Retry-After`, in ms. */
  readonly pauseMs: number;
}
