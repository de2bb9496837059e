import { setTimeout as sleep } from 'node:timers/promises';
import type { LedgerClient } from './client.ts';
import { type OwnSecret, requireSecret, WrongSecret } from './secret-fingerprint.ts';

/** A database that does not answer is asked again after this. */
const ASK_AGAIN_MS = 2_000;

/** Compares this process's secret with the database's once: as soon as the database answers. */
export class SecretCheck {
  readonly #db: LedgerClient;
  readonly #own: OwnSecret;
  readonly #then: () => Promise<void>;
  #checked: Promise<void> | undefined;

  /**
   * @param then what is done once after it, before the first call returns; it may be done twice
   * @default nothing
   */
  constructor(db: LedgerClient, own: OwnSecret, then: () => Promise<void> = async () => {}) {
    this.#db = db;
    this.#own = own;
    this.#then = then;
  }

  /**
   * Returns when the secrets are known to be the same; however many call at once, one check is made.
   * @throws WrongSecret, at every call. Any other error: the database cannot be asked now, and the next call asks again.
   */
  async pass(): Promise<void> {
    this.#checked ??= this.#check().catch((error) => {
      if (!(error instanceof WrongSecret)) this.#checked = undefined;
      throw error;
    });
    await this.#checked;
  }

  async #check(): Promise<void> {
    await requireSecret(this.#db, this.#own);
    await this.#then();
  }

  /**
   * The same, and waits for as long as the database cannot be asked; returns early when the signal says so.
   * @param onFailure is told of every try that the database did not answer
   * @throws WrongSecret
   */
  async passInTime(signal: AbortSignal, onFailure: (error: unknown) => void = () => {}): Promise<void> {
    while (!signal.aborted) {
      try {
        return await this.pass();
      } catch (error) {
        if (error instanceof WrongSecret) throw error;
        onFailure(error);
        await sleep(ASK_AGAIN_MS, undefined, { signal, ref: false }).catch(() => undefined);
      }
    }
  }
}
