/**
 * Channels accept requests whose signed time is a few minutes wrong. So a clock difference below this value cannot be
 * the reason why a channel refuses a request.
 */
const CLOCK_OFF_MS = 60_000;

/**
 * Returns a sentence about this machine's clock if the channel's `Date` header shows another time. Returns an empty
 * text if the times agree, or if the answer has no such header. Used when a channel refuses a request as unsigned or
 * too old.
 * @param now when the answer arrived, epoch ms
 * @param offMs the smallest difference to report
 */
export function clockSentence(
  dateHeader: string | null | undefined,
  now: number,
  offMs = CLOCK_OFF_MS,
): string {
  const theirs = Date.parse(dateHeader ?? '');
  const off = now - theirs;
  // The `Date` header contains whole seconds.
  if (Number.isNaN(theirs) || Math.abs(off) < offMs) return '';
  const by =
    Math.abs(off) >= 120_000
      ? `${Math.round(Math.abs(off) / 60_000)} min`
      : `${Math.round(Math.abs(off) / 1000)} s`;
  const direction = off > 0 ? 'ahead of' : 'behind';
  return `The clock of this machine is ${by} ${direction} the channel's: set it right.`;
}
