import { FairSlots } from '../../domain/fair-slots.ts';
import { Refusal } from '../../domain/refusal.ts';
import type { StreamLimits } from './event-stream.ts';

/**
 * Maximum number of event streams that open at the same time. An opening stream makes a few database reads. The
 * database connection pool has more connections than this maximum.
 */
export const OPENING_AT_ONCE = 8;

/** The slot of one event stream. The stream holds its slot from the request until the stream ends. */
export interface StreamSlot {
  /**
   * Counts the event stream against the limit of its merchant.
   * @throws Refusal `too_many_readers` if the merchant has reached its maximum of streams
   */
  countFor(merchantId: string): void;
  /** Must be called when the stream has finished its first reads. Then the next waiting stream can open. */
  opened(): void;
  /** Gives the slot of the event stream back. */
  leave(): void;
}

interface Waiter {
  readonly address: string;
  readonly start: () => void;
}

/**
 * The slots of event streams. One address or merchant can have at most half of the slots. This maximum is lower when
 * few slots are free, so that some slots stay free for other callers. Only a few streams open at the same time, because
 * the reads of many new streams would delay all other requests.
 */
export class StreamSlots {
  readonly #byAddress: FairSlots;
  readonly #byMerchant: FairSlots;
  readonly #opening = new FairSlots(OPENING_AT_ONCE, OPENING_AT_ONCE / 2);
  /** Event streams that wait to open, in the order of their requests. Each of them already has a slot. */
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
   * @throws Refusal `too_many_readers` if no slot is free, or if other opening streams delay this stream for too long
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

  /** Lets the next waiting stream open. Called when another stream has opened or ended. */
  #startNext(): void {
    for (const waiter of this.#waiting) {
      if (this.#opening.take(waiter.address)) return void waiter.start();
    }
  }
}

const tooMany = (why: string) =>
  new Refusal('too_many_readers', `${why} Get the payment with \`wait\` meanwhile.`);
