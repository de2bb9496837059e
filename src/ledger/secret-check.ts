import { setTimeout as sleep } from 'node:timers/promises';
import type { LedgerClient } from './client.ts';
import { type OwnSecret, requireSecret, WrongSecret } from './secret-fingerprint.ts';

/** How long the process waits before it tries again, if the database did not answer the secret check. */
const ASK_AGAIN_MS = 2_000;

/** Compares this process's NODROP_SECRET with the database's fingerprint, once, as soon as the database answers. */
export class SecretCheck {
  readonly #db: LedgerClient;
  readonly #own: OwnSecret;
  readonly #then: () => Promise<void>;
  #checked: Promise<void> | undefined;

  /**
   * @param then runs after the check, before the first call of `pass` returns. It usually runs once, but it may run
   *   twice.
   * @default nothing
   */
  constructor(db: LedgerClient, own: OwnSecret, then: () => Promise<void> = async () => {}) {
    this.#db = db;
    this.#own = own;
    this.#then = then;
  }

  /**
   * Returns when this process's secret is known to be the database's secret. Concurrent calls share one check.
   * @throws WrongSecret, at every call. Any other error means that the database cannot be reached now. In that case
   *   the next call checks again.
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
   * Like `pass`, but waits while the database cannot be reached. Returns early when the signal is aborted.
   * @param onFailure called for every attempt that the database did not answer
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
