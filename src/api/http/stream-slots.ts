import { FairSlots } from '../../domain/fair-slots.ts';
import { Refusal } from '../../domain/refusal.ts';
import type { StreamLimits } from './event-stream.ts';

/** So many streams open at once, each with a few reads of the database, which has connections for more than that. */
export const OPENING_AT_ONCE = 8;

/** What one stream holds, from its request to its end. */
export interface StreamSlot {
  /** @throws Refusal `too_many_readers` when the merchant has as many as it may. */
  countFor(merchantId: string): void;
  /** It has read what a stream reads at first: the next one opens. */
  opened(): void;
  /** Gives everything back. */
  leave(): void;
}

interface Waiter {
  readonly address: string;
  readonly start: () => void;
}

/**
 * The places of event streams. No address and no merchant has more than half of them, and with fewer left each gets
 * fewer, so that some stay free for whoever has none. Whoever has a place opens its stream when it is its turn: those
 * that come all at once would else have their reads before everybody else's.
 */
export class StreamSlots {
  readonly #byAddress: FairSlots;
  readonly #byMerchant: FairSlots;
  readonly #opening = new FairSlots(OPENING_AT_ONCE, OPENING_AT_ONCE / 2);
  /** In the order of coming; each has a place, so that there are no more than places. */
  readonly #waiting = new Set<Waiter>();
  readonly #openWithinMs: number;

  constructor({ atMost, openWithinMs }: Pick<StreamLimits, 'atMost' | 'openWithinMs'>) {
    this.#byAddress = new FairSlots(atMost, atMost / 2);
    this.#byMerchant = new FairSlots(atMost, atMost / 2);
    this.#openWithinMs = openWithinMs;
  }

  /**
   * Resolves when the stream may open.
   * @param gone aborted when the reader has gone
   * @throws Refusal `too_many_readers` when there is no place, or its turn does not come in time
   */
  async enter(address: string, gone: AbortSignal): Promise<StreamSlot> {
    if (!this.#byAddress.take(address)) throw tooMany('There are too many from this address.');
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
        if (!this.#byMerchant.take(merchantId)) throw tooMany('There are too many of this merchant.');
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
        reject(tooMany('Too many open at once.'));
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

  /** One for each that has opened: what could begin besides begins after the next. */
  #startNext(): void {
    for (const waiter of this.#waiting) {
      if (this.#opening.take(waiter.address)) return void waiter.start();
    }
  }
}

const tooMany = (why: string) => new Refusal('too_many_readers', `${why} Ask with \`wait\` meanwhile.`);
