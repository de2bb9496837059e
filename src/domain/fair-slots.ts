/**
 * Slots of something that merchants share: connections, or calls under way. One merchant gets so many at most, and with
 * fewer left each gets fewer, so that some stay free for whoever has none.
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

  /** So many one merchant may have now. */
  get atMost(): number {
    return Math.min(this.#each, this.#total - this.#sum);
  }

  /** So many the merchant has. */
  of(merchantId: string): number {
    return this.#taken.get(merchantId) ?? 0;
  }

  /** @returns false when the merchant gets no more now. */
  take(merchantId: string): boolean {
    const taken = this.of(merchantId);
    if (taken >= this.atMost) return false;
    this.#taken.set(merchantId, taken + 1);
    this.#sum += 1;
    return true;
  }

  /** Gives one back. */
  give(merchantId: string): void {
    const left = this.of(merchantId) - 1;
    if (left === 0) this.#taken.delete(merchantId);
    else this.#taken.set(merchantId, left);
    this.#sum -= 1;
  }
}
