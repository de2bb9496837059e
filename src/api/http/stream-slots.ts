import { FairSlots } from '../../domain/fair-slots.ts';
import { Refusal } from '../../domain/refusal.ts';
import type { StreamLimits } from './event-stream.ts';

/**
 * Maximum of streams that open at the same time. Each makes a few database reads; the connection pool is larger than
 * this.
 */
export const OPENING_AT_ONCE = 8;

/** The slot of one stream, held from its request to its end. */
export interface StreamSlot {
  /**
   * Counts the stream for its merchant.
   * @throws Refusal `too_many_readers` if the merchant has its maximum of streams.
   */
  countFor(merchantId: string): void;
  /** Must be called when the stream has made its first reads, so that the next one can open. */
  opened(): void;
  /** Gives the slot back. */
  leave(): void;
}

interface Waiter {
  readonly address: string;
  readonly start: () => void;
}

/**
 * The slots of event streams. An address or a merchant can have at most half of the slots, and a smaller share when
 * fewer slots are free. So slots remain for others. A stream with a slot opens when its turn comes: otherwise, the
 * reads of many new streams would delay all other requests.
 */
export class StreamSlots {
  readonly #byAddress: FairSlots;
  readonly #byMerchant: FairSlots;
  readonly #opening = new FairSlots(OPENING_AT_ONCE, OPENING_AT_ONCE / 2);
  /** Streams that wait to open, in the order of their requests. Each has a slot, so the slots limit their number. */
  readonly #waiting = new Set<Waiter>();
  readonly #openWithinMs: number;

  constructor({ atMost, openWithinMs }: Pick<StreamLimits, 'atMost' | 'openWithinMs'>) {
    this.#byAddress = new FairSlots(atMost, atMost / 2);
    this.#byMerchant = new FairSlots(atMost, atMost / 2);
    this.#openWithinMs = openWithinMs;
  }

  /**
   * Takes a slot, and resolves when the stream may open.
   * @param gone aborted when the reader disconnects
   * @throws Refusal `too_many_readers` if no slot is free, or if its turn does not come in time
   */
  async enter(address: string, gone: AbortSignal): Promise<StreamSlot> {
    if (!this.#byAddress.take(address)) throw tooMany('Too many event streams are open from this address.');
    try {
      if (!this.#opening.take(address)) await this.#wait(address, gone);
    } catch (error) {
      this.#byAddress.give(address);
      throw error;
    }
    let isOpening = true;
    let hasLeft = false;
    let merchant: string | undefined;
    const opened = () => {
      if (!isOpening) return;
      isOpening = false;
      this.#opening.give(address);
      this.#startNext();
    };
    return {
      opened,
      countFor: (merchantId) => {
        if (hasLeft) return;
        if (!this.#byMerchant.take(merchantId))
          throw tooMany('Too many event streams are open for this merchant.');
        merchant = merchantId;
      },
      leave: () => {
        hasLeft = true;
        opened();
        this.#byAddress.give(address);
        if (merchant !== undefined) this.#byMerchant.give(merchant);
      },
    };
  }

  async #wait(address: string, gone: AbortSignal): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const end = () => {
        clearTimeout(timer);
        gone.removeEventListener('abort', giveUp);
        this.#waiting.delete(waiter);
      };
      const giveUp = () => {
        end();
        reject(tooMany('Too many event streams are opening at the same time.'));
      };
      const waiter: Waiter = {
        address,
        start: () => {
          end();
          resolve();
        },
      };
      const timer = setTimeout(giveUp, this.#openWithinMs);
      gone.addEventListener('abort', giveUp);
      this.#waiting.add(waiter);
      if (gone.aborted) giveUp();
    });
  }

  /** Starts one waiting stream after another has opened. */
  #startNext(): void {
    for (const waiter of this.#waiting) {
      if (this.#opening.take(waiter.address)) return void waiter.start();
    }
  }
}

const tooMany = (why: string) =>
  new Refusal('too_many_readers', `${why} Get the payment with \`wait\` meanwhile.`);
