import type { PaymentSnapshot } from './payment.ts';
import { isEnded, isLive } from './states.ts';

/**
 * When the channel is asked. All durations are milliseconds.
 *
 * The waits are passed to one retrying activity as its input, so a schedule is always a plain list.
 */

/** 10 s x 3, 20 s x 3, 30 s x 7: the five minutes in which nearly everybody pays; then ever rarer. */
export const DEFAULT_QUERY_SCHEDULE = '10s*3,20s*3,30s*7,1m*5,2m*5,5m';

/** After the payer came back from the wallet or pressed "I have paid". */
export const TIGHT_PHASE_MS: readonly number[] = [...Array(10).fill(2_000), ...Array(8).fill(5_000)];

const DAY_MS = 86_400_000;

/** When an ended payment is still asked about, counted from its end, and again from its expiry. */
const LATE_WATCH_MS: readonly number[] = [600_000, 3_600_000, 21_600_000, DAY_MS];

/** The late watch ends this long after the later of the payment's end and its expiry. */
export const LATE_WATCH_TAIL_MS = DAY_MS;

/** Of two queries of the late watch that are closer than this, the later one does. */
const SAME_LATE_QUERY_MS = 120_000;

/** An answer this little before the end of the late watch is its last: clocks of server and worker differ. */
export const LAST_ANSWER_EARLY_MS = 60_000;

/** The late watch ends on an answer: after a silent last query it goes on so often. */
const SILENT_LATE_WATCH_MS = 3_600_000;
/** A last query that was missed is sent after this long. */
const MISSED_LATE_WATCH_MS = 1_000;

/** How often a channel is asked that says "processing" past the expiry, or that closes a trade only later. */
const PROCESSING_EVERY_MS = 5 * 60_000;

/** A channel whose close says "already paid" while its query does not is given this long at first, and ever longer. */
const QUERY_LAG_MS = 2_000;
const QUERY_LAG_AT_MOST_MS = 5 * 60_000;

/** A channel that closes a trade only later is told again no sooner, and no later, than this. */
const CLOSE_AGAIN_AT_LEAST_MS = 5_000;
const CLOSE_AGAIN_AT_MOST_MS = 3_600_000;

/** The first and the longest wait of a workflow whose row is gone. */
const LOST_ROW_MS = 60_000;
const LOST_ROW_AT_MOST_MS = 3_600_000;
const UNREADABLE_ROW_MS = 2_000;
const UNREADABLE_ROW_AT_MOST_MS = 60_000;

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** How long a workflow waits after it has looked `looks` times in a row for its row, and the row was gone. */
export function lostRowWait(looks: number): number {
  return Math.min(LOST_ROW_MS * 2 ** (looks - 1), LOST_ROW_AT_MOST_MS);
}

/** The same for a row that could not be read, as the database is away. */
export function unreadableRowWait(looks: number): number {
  return Math.min(UNREADABLE_ROW_MS * 2 ** (looks - 1), UNREADABLE_ROW_AT_MOST_MS);
}

/**
 * Reads `10s*3,30s,1m*5`: waits with an optional repeat count.
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
 * The waits still to come when `elapsedMs` of the schedule have passed, the last wait repeated until the
 * queries reach `horizonMs` (both counted from the schedule's start). The first wait returned is what is
 * left of the one that is running, so that an interrupted schedule goes on where it would have been.
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

/** The waits of a schedule without end when `elapsedMs` of it have passed; the last is whole, and repeats. */
export function endlessWaits(schedule: readonly number[], elapsedMs: number): readonly number[] {
  const total = schedule.reduce((sum, wait) => sum + wait, 0);
  // Far enough for what is left of the wait that is running and a whole one after it.
  return remainingWaits(schedule, elapsedMs, Math.max(elapsedMs, total) + 2 * (schedule.at(-1) ?? 0) + 1);
}

/**
 * The waits after a hint at `elapsedMs`: the tight phase (its query at once not counted), then the schedule
 * from the time elapsed, up to `horizonMs`.
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

/** What comes this little before its time is on time: clocks of server and worker differ. */
export const SAME_TIME_MS = 500;

/**
 * The wait from `now` to the next query of a plan of waits that began at `startedAt` (epoch ms), or null when the plan
 * is over. By the clock and not by counting, so that a query that failed, or a worker that died in one, shifts nothing.
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
 * The times (epoch ms, ascending) at which a payment that ended unpaid is still asked about: after its end, daily up to
 * its expiry, and after that, as what the payer was given to pay with may work until then whatever became of the payment.
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

/** The last of these times. The ledger computes the same in SQL. */
export function lateWatchEnd(endedAt: number, expiresAt: number): number {
  return Math.max(endedAt, expiresAt) + LATE_WATCH_TAIL_MS;
}

/** The channel has not answered at the end of the late watch (or later): it was silent, or nobody asked. */
export function isLastAnswerMissing(answeredAt: number | null, endedAt: number, expiresAt: number): boolean {
  return answeredAt === null || answeredAt < lateWatchEnd(endedAt, expiresAt) - LAST_ANSWER_EARLY_MS;
}

/** Ascending times as waits between queries, without those that have passed. All are epoch ms. */
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

/** The coming queries of a payment. */
export interface QueryPlan {
  /** The waits between the queries, the first from now; empty: none is left before `endsAt`. */
  readonly waits: readonly number[];
  /** The waits after a hint, whose query at once is not counted. */
  readonly afterHint: readonly number[];
  /** When the plan is over whatever the channel says, epoch ms; infinite when nothing but the channel ends it. */
  readonly endsAt: number;
  /** Once the waits are used up it is asked so often while the channel says "processing"; null: it is not asked. */
  readonly whileProcessingEveryMs: number | null;
  /** What the queries are for, as the Web UI shows it. */
  readonly summary: string;
}

/**
 * Plans the queries of a payment that is live or has ended without money.
 * @param schedule the waits between the queries up to the expiry, the last repeated
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
      summary: `late watch: it is ${row.status}, yet money may still come`,
    };
  }
  if (isToEnd(row, now) && row.closeNotBefore !== undefined) {
    const left = row.closeNotBefore - now;
    return {
      waits: remainingWaits([PROCESSING_EVERY_MS], 0, left),
      afterHint: waitsAfterHint([PROCESSING_EVERY_MS], 0, left),
      endsAt: row.closeNotBefore,
      whileProcessingEveryMs: null,
      summary: 'the channel closes it only later: asked until then',
    };
  }
  if (now >= row.expiresAt || row.cancelRequested) {
    return {
      waits: [PROCESSING_EVERY_MS],
      afterHint: [...TIGHT_PHASE_MS, PROCESSING_EVERY_MS],
      endsAt: Number.POSITIVE_INFINITY,
      whileProcessingEveryMs: PROCESSING_EVERY_MS,
      summary: 'the channel says processing: asked until it decides',
    };
  }
  const elapsed = now - row.createdAt;
  const horizon = row.expiresAt - row.createdAt;
  return {
    waits: remainingWaits(schedule, elapsed, horizon),
    afterHint: waitsAfterHint(schedule, elapsed, horizon),
    endsAt: row.expiresAt,
    whileProcessingEveryMs: null,
    summary: 'waiting for the callback, asking the channel on schedule',
  };
}

/**
 * The waits of the late watch that are still to come at `now` (epoch ms); empty when it is over. It ends on an answer: a
 * silent channel is asked on, and a last query that was missed is sent late.
 */
export function lateWaits(row: PaymentSnapshot, now: number): readonly number[] {
  const endedAt = row.endedAt ?? row.expiresAt;
  const waits = waitsUntil(lateWatch(endedAt, row.expiresAt), now);
  if (waits.length > 0) return waits;
  if (typeof row.channelErrorSince === 'number') return [SILENT_LATE_WATCH_MS];
  return isLastAnswerMissing(row.channelAnsweredAt, endedAt, row.expiresAt) ? [MISSED_LATE_WATCH_MS] : [];
}

/**
 * True for a live payment whose time is up at `now` (epoch ms), or that somebody wants cancelled; not while the channel
 * decides.
 */
export function isToEnd(row: PaymentSnapshot, now: number): boolean {
  if (!isLive(row.status) || row.channelState === 'processing') return false;
  return row.cancelRequested || now >= row.expiresAt;
}

/** True for one that is to end and may be closed at the channel at `now` (epoch ms). */
export function isToClose(row: PaymentSnapshot, now: number): boolean {
  return isToEnd(row, now) && now >= (row.closeNotBefore ?? 0);
}

/**
 * How long to wait before the next query when the channel's close says "already paid" and its query does not.
 * @param contradictions how often in a row it has said so before
 */
export function closeLag(contradictions: number): number {
  return Math.min(QUERY_LAG_MS * 2 ** contradictions, QUERY_LAG_AT_MOST_MS);
}

/**
 * When the channel is told again to close a trade that it does not close before `until`. Bounded, as nobody signs its
 * answer. All are epoch ms.
 */
export function closeAgainAt(until: number, now: number): number {
  return Math.min(Math.max(until, now + CLOSE_AGAIN_AT_LEAST_MS), now + CLOSE_AGAIN_AT_MOST_MS);
}
