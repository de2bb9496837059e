import type { PaymentSnapshot } from './payment.ts';
import { isEnded, isLive } from './states.ts';

/**
 * When the channel is queried. All durations are milliseconds.
 *
 * A schedule is a plain list of waits, because it is passed to one retrying activity as its input.
 */

/**
 * 10 s x 3, 20 s x 3 and 30 s x 7 cover the five minutes in which nearly all payers pay. Later queries follow at
 * growing intervals.
 */
export const DEFAULT_QUERY_SCHEDULE = '10s*3,20s*3,30s*7,1m*5,2m*5,5m';

/** The waits between queries after the payer has returned from the wallet or pressed "I have paid". */
export const TIGHT_PHASE_MS: readonly number[] = [...Array(10).fill(2_000), ...Array(8).fill(5_000)];

const DAY_MS = 86_400_000;

/**
 * When a payment that ended unpaid is still queried. The same times are counted from the payment's end and again from
 * its expiry.
 */
const LATE_WATCH_MS: readonly number[] = [600_000, 3_600_000, 21_600_000, DAY_MS];

/** The late watch ends this long after the later of the payment's end and its expiry. */
export const LATE_WATCH_TAIL_MS = DAY_MS;

/** Of two late-watch queries that are closer together than this, only the later one is sent. */
const SAME_LATE_QUERY_MS = 120_000;

/**
 * If an answer comes this short a time before the end of the late watch, it counts as the last answer, because clocks
 * differ.
 */
export const LAST_ANSWER_EARLY_MS = 60_000;

/** The late watch ends only with an answer. If its last query gets no answer, the queries continue at this interval. */
const SILENT_LATE_WATCH_MS = 3_600_000;
/** A missed last query of the late watch is sent after this wait. */
const MISSED_LATE_WATCH_MS = 1_000;

/** The query interval while the channel says "processing" past the expiry, or does not close the trade yet. */
const PROCESSING_EVERY_MS = 5 * 60_000;

/**
 * The first wait if the channel refuses a close as "already paid" but its query does not report paid. Each further wait
 * is twice as long.
 */
const QUERY_LAG_MS = 2_000;
const QUERY_LAG_AT_MOST_MS = 5 * 60_000;

/**
 * The shortest and the longest wait before nodrop again requests the close of a trade that the channel does not close
 * yet.
 */
const CLOSE_AGAIN_AT_LEAST_MS = 5_000;
const CLOSE_AGAIN_AT_MOST_MS = 3_600_000;

/**
 * The first and the longest wait of a workflow whose row is lost, and the first and the longest wait if the row cannot
 * be read.
 */
const LOST_ROW_MS = 60_000;
const LOST_ROW_AT_MOST_MS = 3_600_000;
const UNREADABLE_ROW_MS = 2_000;
const UNREADABLE_ROW_AT_MOST_MS = 60_000;

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** How long a workflow waits after its row was lost at `looks` reads in a row. */
export function lostRowWait(looks: number): number {
  return Math.min(LOST_ROW_MS * 2 ** (looks - 1), LOST_ROW_AT_MOST_MS);
}

/** How long a workflow waits after its row could not be read at `looks` reads in a row. */
export function unreadableRowWait(looks: number): number {
  return Math.min(UNREADABLE_ROW_MS * 2 ** (looks - 1), UNREADABLE_ROW_AT_MOST_MS);
}

/**
 * Parses a schedule such as `10s*3,30s,1m*5`: waits with an optional repeat count.
 * @throws RangeError saying which part is wrong.
 */
export function parseSchedule(text: string): readonly number[] {
  const waits = text.split(',').flatMap((part) => {
    const match = /^\s*(\d{1,6})(ms|s|m|h)(?:\*(\d{1,3}))?\s*$/.exec(part);
    const wait = match === null ? 0 : Number(match[1]) * (UNITS[match[2] ?? ''] ?? 0);
    const times = Number(match?.[3] ?? 1);
    if (wait === 0 || times === 0)
      throw new RangeError(`"${part.trim()}" is not a wait such as 10s or 30s*7`);
    return Array<number>(times).fill(wait);
  });
  return waits;
}

/**
 * The waits that remain when `elapsedMs` of the schedule have passed. The last wait repeats until `horizonMs`. Both
 * times are counted from the schedule's start. The first returned wait is the remaining part of the current wait, so
 * that an interrupted schedule continues as if it had not been interrupted.
 */
export function remainingWaits(
  schedule: readonly number[],
  elapsedMs: number,
  horizonMs: number,
): readonly number[] {
  const waits: number[] = [];
  let at = 0;
  let from = elapsedMs;
  for (let i = 0; ; i++) {
    const wait = schedule[Math.min(i, schedule.length - 1)];
    if (wait === undefined) return waits;
    at += wait;
    if (at >= horizonMs) return waits;
    if (at <= elapsedMs) continue;
    waits.push(at - from);
    from = at;
  }
}

/**
 * The waits that remain of an endless schedule after `elapsedMs`. The last returned wait has its full length, and
 * repeats forever.
 */
export function endlessWaits(schedule: readonly number[], elapsedMs: number): readonly number[] {
  const total = schedule.reduce((sum, wait) => sum + wait, 0);
  // This horizon is long enough for the remaining part of the current wait and one complete wait after it.
  return remainingWaits(schedule, elapsedMs, Math.max(elapsedMs, total) + 2 * (schedule.at(-1) ?? 0) + 1);
}

/**
 * The waits after a hint at `elapsedMs`. They are the tight phase (without its immediate query), and then the remaining
 * schedule up to `horizonMs`.
 */
export function waitsAfterHint(
  schedule: readonly number[],
  elapsedMs: number,
  horizonMs: number,
): readonly number[] {
  const tight: number[] = [];
  let at = elapsedMs;
  for (const wait of TIGHT_PHASE_MS) {
    if (at + wait >= horizonMs) return tight;
    at += wait;
    tight.push(wait);
  }
  return [...tight, ...remainingWaits(schedule, at, horizonMs)];
}

/** A query counts as on time if it is at most this much too early, because the clocks of server and worker differ. */
export const SAME_TIME_MS = 500;

/**
 * The wait from `now` to the next query of a plan that began at `startedAt` (epoch ms), or null if the plan has ended.
 * The function uses the clock and does not count attempts, so that a failed query or a killed worker does not shift the
 * plan.
 */
export function nextWait(waits: readonly number[], startedAt: number, now: number): number | null {
  let at = startedAt;
  for (const wait of waits) {
    at += wait;
    if (at > now + SAME_TIME_MS) return at - now;
  }
  return null;
}

/**
 * The times (epoch ms, ascending) at which a payment that ended unpaid is still queried. They follow its end, continue
 * daily up to its expiry, and follow its expiry, because the payer's next action may work until the expiry even if the
 * payment has ended.
 */
export function lateWatch(endedAt: number, expiresAt: number): readonly number[] {
  const times = LATE_WATCH_MS.map((ms) => endedAt + ms);
  if (expiresAt > endedAt) {
    for (let at = endedAt + 2 * DAY_MS; at <= expiresAt; at += DAY_MS) times.push(at);
    times.push(...LATE_WATCH_MS.map((ms) => expiresAt + ms));
    times.sort((a, b) => a - b);
  }
  return times.filter((at, i) => (times[i + 1] ?? Number.POSITIVE_INFINITY) - at >= SAME_LATE_QUERY_MS);
}

/** The end of the late watch, epoch ms. The ledger computes the same in SQL. */
export function lateWatchEnd(endedAt: number, expiresAt: number): number {
  return Math.max(endedAt, expiresAt) + LATE_WATCH_TAIL_MS;
}

/** True if the channel has never answered, or last answered before the end of the late watch. */
export function isLastAnswerMissing(answeredAt: number | null, endedAt: number, expiresAt: number): boolean {
  return answeredAt === null || answeredAt < lateWatchEnd(endedAt, expiresAt) - LAST_ANSWER_EARLY_MS;
}

/**
 * Converts ascending times (epoch ms) to the waits between them, in ms, from `now` on. Times in the past are left out.
 */
export function waitsUntil(times: readonly number[], now: number): readonly number[] {
  const waits: number[] = [];
  let from = now;
  for (const at of times) {
    if (at <= now) continue;
    waits.push(at - from);
    from = at;
  }
  return waits;
}

/** The planned queries of a payment. */
export interface QueryPlan {
  /** The waits between the queries, the first one from now; empty if no query is left before `endsAt`. */
  readonly waits: readonly number[];
  /** The waits after a hint, without the hint's immediate query. */
  readonly afterHint: readonly number[];
  /** When the plan ends in any case, epoch ms; infinite if only an answer of the channel ends it. */
  readonly endsAt: number;
  /**
   * The interval (ms) of queries once the waits are used up, while the channel says "processing". Null if no such
   * queries are sent.
   */
  readonly whileProcessingEveryMs: number | null;
  /** The purpose of the queries, shown in the Web UI. */
  readonly summary: string;
}

/**
 * Plans the queries of a payment that is live or has ended unpaid.
 * @param schedule the waits between the queries up to the expiry; the last one repeats
 * @param now epoch ms
 */
export function queryPlan(row: PaymentSnapshot, schedule: readonly number[], now: number): QueryPlan {
  if (isEnded(row.status)) {
    const waits = lateWaits(row, now);
    return {
      waits,
      afterHint: waits,
      endsAt: Number.POSITIVE_INFINITY,
      whileProcessingEveryMs: null,
      summary: `late watch: the payment is ${row.status}, but money may still arrive`,
    };
  }
  if (isToEnd(row, now) && row.closeNotBefore !== undefined) {
    const left = row.closeNotBefore - now;
    return {
      waits: remainingWaits([PROCESSING_EVERY_MS], 0, left),
      afterHint: waitsAfterHint([PROCESSING_EVERY_MS], 0, left),
      endsAt: row.closeNotBefore,
      whileProcessingEveryMs: null,
      summary: 'the channel does not close the trade yet: query until it does',
    };
  }
  if (now >= row.expiresAt || row.cancelRequested) {
    return {
      waits: [PROCESSING_EVERY_MS],
      afterHint: [...TIGHT_PHASE_MS, PROCESSING_EVERY_MS],
      endsAt: Number.POSITIVE_INFINITY,
      whileProcessingEveryMs: PROCESSING_EVERY_MS,
      summary: 'the channel says processing: query until it decides',
    };
  }
  const elapsed = now - row.createdAt;
  const horizon = row.expiresAt - row.createdAt;
  return {
    waits: remainingWaits(schedule, elapsed, horizon),
    afterHint: waitsAfterHint(schedule, elapsed, horizon),
    endsAt: row.expiresAt,
    whileProcessingEveryMs: null,
    summary: 'wait for the callback, and query the channel on schedule',
  };
}

/**
 * The waits of the late watch that remain at `now` (epoch ms). Empty if the late watch has ended. The late watch ends
 * only with an answer. Therefore queries of a channel that does not answer continue, and a missed last query is sent
 * late.
 */
export function lateWaits(row: PaymentSnapshot, now: number): readonly number[] {
  const endedAt = row.endedAt ?? row.expiresAt;
  const waits = waitsUntil(lateWatch(endedAt, row.expiresAt), now);
  if (waits.length > 0) return waits;
  if (typeof row.channelErrorSince === 'number') return [SILENT_LATE_WATCH_MS];
  return isLastAnswerMissing(row.channelAnsweredAt, endedAt, row.expiresAt) ? [MISSED_LATE_WATCH_MS] : [];
}

/**
 * True for a live payment that has expired at `now` (epoch ms), or whose cancellation was requested. False while the
 * channel says `processing`.
 */
export function isToEnd(row: PaymentSnapshot, now: number): boolean {
  if (!isLive(row.status) || row.channelState === 'processing') return false;
  return row.cancelRequested || now >= row.expiresAt;
}

/** True for a payment that must end and whose trade can be closed at the channel at `now` (epoch ms). */
export function isToClose(row: PaymentSnapshot, now: number): boolean {
  return isToEnd(row, now) && now >= (row.closeNotBefore ?? 0);
}

/**
 * How long to wait before the next query if the channel refuses the close as "already paid" but its query does not
 * report paid.
 * @param contradictions how many times in a row that has happened before
 */
export function closeLag(contradictions: number): number {
  return Math.min(QUERY_LAG_MS * 2 ** contradictions, QUERY_LAG_AT_MOST_MS);
}

/**
 * When to send the next close for a trade that the channel does not close before `until`. The returned time is bounded,
 * because the channel's answer is not signed. All times are epoch ms.
 */
export function closeAgainAt(until: number, now: number): number {
  return Math.min(Math.max(until, now + CLOSE_AGAIN_AT_LEAST_MS), now + CLOSE_AGAIN_AT_MOST_MS);
}
