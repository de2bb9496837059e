/** Channels sign times and take a few minutes of difference; less than this is none that explains a refusal. */
const CLOCK_OFF_MS = 60_000;

/**
 * A sentence about this machine's clock when the channel's `Date` header says another time; empty when it does not, or there
 * is none. For what a channel refuses as unsigned or too old.
 * @param now when the answer came, epoch ms
 * @param offMs from how much on it is off
 */
export function clockSentence(
  dateHeader: string | null | undefined,
  now: number,
  offMs = CLOCK_OFF_MS,
): string {
  const theirs = Date.parse(dateHeader ?? '');
  const off = now - theirs;
  // It has whole seconds.
  if (Number.isNaN(theirs) || Math.abs(off) < offMs) return '';
  const by =
    Math.abs(off) >= 120_000
      ? `${Math.round(Math.abs(off) / 60_000)} min`
      : `${Math.round(Math.abs(off) / 1000)} s`;
  const direction = off > 0 ? 'ahead of' : 'behind';
  return `The clock of this machine is ${by} ${direction} the channel's: set it right.`;
}
