/** One reading of a clock that skips time. All times are epoch ms. */
export interface Reading {
  /** The time that the clock returned. */
  readonly said: number;
  /** On the real clock: when the reading was requested, and when the answer arrived. */
  readonly asked: number;
  readonly answered: number;
}

/**
 * How much time a skipping clock has skipped. While work is being done it runs like a real clock and skips nothing,
 * however slow the machine is. So two times that differ only by real time count as the same moment.
 */
export class SkippedTime {
  /** In the order in which they were made, which is also the order of `said`. */
  readonly #readings: Reading[] = [];

  add({ said, asked, answered }: Reading): void {
    // A `Date` has whole milliseconds.
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

  /** The last reading up to this time. */
  #at(time: Date): Reading | undefined {
    return this.#readings.findLast(({ said }) => said <= time.getTime());
  }
}
