/**
 * Distributes slots (database connections, concurrent calls) among merchants. One merchant holds at most `each` slots.
 * If fewer than `each` slots are free, the limit is the number of free slots. So one merchant cannot take the last free
 * slots from merchants that hold none.
 */
export class FairSlots {
  readonly #total: number;
  readonly #each: number;
  readonly #taken = new Map<string, number>();
  #sum = 0;

  constructor(total: number, each: number) {
    this.#total = total;
    this.#each = each;
  }

  /** How many slots one merchant may hold at this moment. */
  get atMost(): number {
    return Math.min(this.#each, this.#total - this.#sum);
  }

  of(merchantId: string): number {
    return this.#taken.get(merchantId) ?? 0;
  }

  /**
   * Takes a slot for the merchant.
   * @returns false if the merchant may not hold another slot now
   */
  take(merchantId: string): boolean {
    const taken = this.of(merchantId);
    if (taken >= this.atMost) return false;
    this.#taken.set(merchantId, taken + 1);
    this.#sum += 1;
    return true;
  }

  give(merchantId: string): void {
    const left = this.of(merchantId) - 1;
    if (left === 0) this.#taken.delete(merchantId);
    else this.#taken.set(merchantId, left);
    this.#sum -= 1;
  }
}
