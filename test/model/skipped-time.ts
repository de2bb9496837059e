/** One reading of a clock that skips time. All times are epoch ms. */
export interface Reading {
  /** The time that the clock returned. */
  readonly said: number;
  /** The real times at which the reading was requested and at which its answer arrived. */
  readonly asked: number;
  readonly answered: number;
}

/**
 * Computes how much time a skipping clock has skipped. While work is being done, the clock runs like a real
 * clock and skips nothing, even on a slow machine. So two times are the same moment if only real time has passed
 * between them.
 */
export class SkippedTime {
  /** The readings in the order in which they were made. Their `said` values have the same order. */
  readonly #readings: Reading[] = [];

  add({ said, asked, answered }: Reading): void {
    // A `Date` contains only whole milliseconds.
    this.#readings.push({ said: Math.trunc(said), asked, answered });
  }

  clear(): void {
    this.#readings.length = 0;
  }

  /** @returns a lower bound of the ms that were skipped between two times of this clock */
  between(from: Date, to: Date): number {
    const first = this.#at(from);
    const last = this.#at(to);
    if (first === undefined || last === undefined) return Math.max(0, to.getTime() - from.getTime());
    return last.said - first.said - (last.answered - first.asked);
  }

  /** Finds the last reading that was made up to this time. */
  #at(time: Date): Reading | undefined {
    return this.#readings.findLast(({ said }) => said <= time.getTime());
  }
}
