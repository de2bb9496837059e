import type { PaymentSnapshot } from './payment.ts';
import { isEnded, isLive } from './states.ts';

/**
 * Defines when nodrop queries the channel. All durations are in milliseconds.
 *
 * A schedule is a plain list of waits, because it is passed to one retrying activity as its input.
 */

/**
 * The default schedule of queries. Its first waits (3 of 10 s, 3 of 20 s and 7 of 30 s) cover the five minutes in which
 * nearly all payers pay. Later queries follow at growing intervals.
 */
export const DEFAULT_QUERY_SCHEDULE = '10s*3,20s*3,30s*7,1m*5,2m*5,5m';

/** The waits between queries after the payer has returned from the wallet or pressed "I have paid". */
export const TIGHT_PHASE_MS: readonly number[] = [...Array(10).fill(2_000), ...Array(8).fill(5_000)];

const DAY_MS = 86_400_000;

/**
 * The waits between the queries of the late watch. In the late watch, nodrop still queries a payment that ended unpaid.
 * The waits begin at the payment's end, and again at its expiry.
 */
const LATE_WATCH_MS: readonly number[] = [600_000, 3_600_000, 21_600_000, DAY_MS];

/** The late watch ends this long after the payment's end or its expiry, whichever is later. */
export const LATE_WATCH_TAIL_MS = DAY_MS;

/** If two queries of the late watch are closer together than this, nodrop sends only the later one. */
const SAME_LATE_QUERY_MS = 120_000;

/** The late watch can end with an answer that comes at most this long before the planned end, because clocks differ. */
export const LAST_ANSWER_EARLY_MS = 60_000;

/**
 * The late watch ends only with an answer of the channel. If its last query gets no answer, the queries continue at
 * this interval.
 */
const SILENT_LATE_WATCH_MS = 3_600_000;
/** If the last query of the late watch was missed, nodrop sends it after this wait. */
const MISSED_LATE_WATCH_MS = 1_000;

/**
 * nodrop queries at this interval while the channel says "processing" after the expiry, or does not close the trade
 * yet.
 */
const PROCESSING_EVERY_MS = 5 * 60_000;

/**
 * The wait before the next query if the channel refuses a close as "already paid", but its answer to a query does not
 * report the trade as paid. Each further wait is twice as long.
 */
const QUERY_LAG_MS = 2_000;
const QUERY_LAG_AT_MOST_MS = 5 * 60_000;

/**
 * The shortest and the longest wait before nodrop repeats a close request for a trade that the channel does not close
 * yet.
 */
const CLOSE_AGAIN_AT_LEAST_MS = 5_000;
const CLOSE_AGAIN_AT_MOST_MS = 3_600_000;

/**
 * If a workflow's row is lost or cannot be read, the workflow reads it again. These are the first and the longest wait.
 */
const LOST_ROW_MS = 60_000;
const LOST_ROW_AT_MOST_MS = 3_600_000;
const UNREADABLE_ROW_MS = 2_000;
const UNREADABLE_ROW_AT_MOST_MS = 60_000;

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** How long a workflow waits after `looks` consecutive reads have not found its row. */
export function lostRowWait(looks: number): number {
  return Math.min(LOST_ROW_MS * 2 ** (looks - 1), LOST_ROW_AT_MOST_MS);
}

/** How long a workflow waits after `looks` consecutive reads of its row have failed. */
export function unreadableRowWait(looks: number): number {
  return Math.min(UNREADABLE_ROW_MS * 2 ** (looks - 1), UNREADABLE_ROW_AT_MOST_MS);
}

/**
 * Parses a schedule such as `10s*3,30s,1m*5`. It consists of waits, and each wait can have a repeat count.
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
 * The waits of a schedule that remain after `elapsedMs`. The last wait repeats until `horizonMs`. Both times are
 * counted from the schedule's start. The first returned wait is the remaining part of the current wait, so that an
 * interrupted schedule continues as if it had not been interrupted.
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
 * The waits of an endless schedule that remain after `elapsedMs`. The last returned wait has its full length, and
 * repeats forever.
 */
export function endlessWaits(schedule: readonly number[], elapsedMs: number): readonly number[] {
  const total = schedule.reduce((sum, wait) => sum + wait, 0);
  // This horizon covers the rest of the current wait and one complete wait after it.
  return remainingWaits(schedule, elapsedMs, Math.max(elapsedMs, total) + 2 * (schedule.at(-1) ?? 0) + 1);
}

/**
 * The waits after a hint at `elapsedMs`: first the short waits of `TIGHT_PHASE_MS`, then the remaining waits of the
 * schedule up to `horizonMs`. The query that the hint itself triggers is not included.
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

/**
 * A query may be sent at most this long before its planned time, because the clocks of the server and the worker can
 * differ.
 */
export const SAME_TIME_MS = 500;

/**
 * The wait from `now` to the next query of a plan that began at `startedAt` (epoch ms), or null if the plan has ended.
 * The function uses the clock and does not count attempts, so a failed query or a killed worker does not shift the
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
 * The times (epoch ms, ascending) at which nodrop still queries a payment that ended unpaid. nodrop queries it several
 * times after its end, then once a day until its expiry, and several times after the expiry. The payer's next action
 * may work until the expiry, although the payment has ended.
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

/** True if the channel has never answered, or if its last answer came before the end of the late watch. */
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
  /** The waits between the queries. The first wait starts now. Empty if there is no query left before `endsAt`. */
  readonly waits: readonly number[];
  /** The waits between the queries after a hint. The query that follows the hint immediately is not included. */
  readonly afterHint: readonly number[];
  /** The latest time at which the plan ends, epoch ms. Infinite if only an answer of the channel ends the plan. */
  readonly endsAt: number;
  /**
   * The interval (ms) of the queries that nodrop sends after all waits, while the channel says "processing". Null if
   * nodrop sends no such queries.
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
 * only with an answer of the channel. So if the channel does not answer, the queries continue. If nodrop missed the
 * last query, it sends the query late.
 */
export function lateWaits(row: PaymentSnapshot, now: number): readonly number[] {
  const endedAt = row.endedAt ?? row.expiresAt;
  const waits = waitsUntil(lateWatch(endedAt, row.expiresAt), now);
  if (waits.length > 0) return waits;
  if (typeof row.channelErrorSince === 'number') return [SILENT_LATE_WATCH_MS];
  return isLastAnswerMissing(row.channelAnsweredAt, endedAt, row.expiresAt) ? [MISSED_LATE_WATCH_MS] : [];
}

/**
 * True for a live payment if it has expired at `now` (epoch ms), or if its cancellation was requested. False while the
 * channel says `processing`.
 */
export function isToEnd(row: PaymentSnapshot, now: number): boolean {
  if (!isLive(row.status) || row.channelState === 'processing') return false;
  return row.cancelRequested || now >= row.expiresAt;
}

/** True if the payment must end, and its trade can be closed at the channel at `now` (epoch ms). */
export function isToClose(row: PaymentSnapshot, now: number): boolean {
  return isToEnd(row, now) && now >= (row.closeNotBefore ?? 0);
}

/**
 * Returns how long nodrop waits before the next query if the channel contradicts itself: it refuses a close as "already
 * paid", but its answer to a query does not report the trade as paid.
 * @param contradictions how many times in a row the channel has already contradicted itself
 */
export function closeLag(contradictions: number): number {
  return Math.min(QUERY_LAG_MS * 2 ** contradictions, QUERY_LAG_AT_MOST_MS);
}

/**
 * Returns when nodrop sends the next close for a trade that the channel does not close before `until`. The wait has a
 * minimum and a maximum, because the channel's answer is not signed. All times are epoch ms.
 */
export function closeAgainAt(until: number, now: number): number {
  return Math.min(Math.max(until, now + CLOSE_AGAIN_AT_LEAST_MS), now + CLOSE_AGAIN_AT_MOST_MS);
}
