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
   * @param then runs after a successful check, before `pass` returns. If `then` fails, the next call of `pass` checks
   *   again and runs `then` again.
   * @default nothing
   */
  constructor(db: LedgerClient, own: OwnSecret, then: () => Promise<void> = async () => {}) {
    this.#db = db;
    this.#own = own;
    this.#then = then;
  }

  /**
   * Returns when this process's secret is known to be the database's secret. Concurrent calls share one check.
   * @throws WrongSecret, also at every later call. Any other error means that the database cannot be reached now. The
   *   next call then checks again.
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
   * Does the same as `pass`, but waits while the database cannot be reached. Returns early when the signal is aborted.
   * @param onFailure called after every check that fails because the database cannot be reached
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
