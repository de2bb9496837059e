/**
 * Channels accept signed times that are a few minutes off. A smaller difference than this does not explain a
 * refusal.
 */
const CLOCK_OFF_MS = 60_000;

/**
 * A sentence about this machine's clock if the channel's `Date` header shows another time. Empty if it does
 * not, or if there is no header. For requests that a channel refuses as unsigned or too old.
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
  // The header has whole seconds.
  if (Number.isNaN(theirs) || Math.abs(off) < offMs) return '';
  const by =
    Math.abs(off) >= 120_000
      ? `${Math.round(Math.abs(off) / 60_000)} min`
      : `${Math.round(Math.abs(off) / 1000)} s`;
  const direction = off > 0 ? 'ahead of' : 'behind';
  return `The clock of this machine is ${by} ${direction} the channel's: set it right.`;
}
