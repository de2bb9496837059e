/** One reading of a clock that skips. All are epoch ms. */
export interface Reading {
  /** What it said. */
  readonly said: number;
  /** On the real clock, when it was asked and when the answer was there. */
  readonly asked: number;
  readonly answered: number;
}

/**
 * How much of its time a skipping clock has skipped. While anybody works it goes on as the real one does, and skips
 * nothing, however slow the machine is: what is apart only by real time was at the same moment.
 */
export class SkippedTime {
  /** In the order in which they were made, which is that of what they said. */
  readonly #readings: Reading[] = [];

  add({ said, asked, answered }: Reading): void {
    // As a `Date` has it.
    this.#readings.push({ said: Math.trunc(said), asked, answered });
  }

  clear(): void {
    this.#readings.length = 0;
  }

  /** @returns ms that were surely skipped from the one time to the other, both as the clock said them. */
  between(from: Date, to: Date): number {
    const first = this.#at(from);
    const last = this.#at(to);
    if (first === undefined || last === undefined) return Math.max(0, to.getTime() - from.getTime());
    return last.said - first.said - (last.answered - first.asked);
  }

  /** The last reading up to then. */
  #at(time: Date): Reading | undefined {
    return this.#readings.findLast(({ said }) => said <= time.getTime());
  }
}
