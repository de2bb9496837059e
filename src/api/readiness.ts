import type { LedgerClient } from '../ledger/client.ts';
import { refusesWrites } from '../ledger/database-errors.ts';
import { probeWrite, readWritability } from '../ledger/writable.ts';
import { HEALTH_WITHIN_MS } from './deadlines.ts';
import { orFallbackWithin } from './http/with-deadline.ts';

/**
 * `not_writable` means that reads work and a write failed. The database itself does not report that it is read-only.
 */
export const DATABASE_STATES = ['ok', 'unreachable', 'in_recovery', 'read_only', 'not_writable'] as const;

export interface Reachable {
  readonly database: (typeof DATABASE_STATES)[number];
  readonly temporal: 'ok' | 'unreachable';
}

interface ReadinessDeps {
  readonly db: LedgerClient;
  /** True when the Temporal server answers within the deadline. */
  readonly isTemporalReachable: (deadlineMs: number) => Promise<boolean>;
}

/** How long the result of a readiness check is reused. */
export const LOOK_EVERY_MS = 1_000;
/**
 * After a refused write, nodrop reports the database as not writable for this time. After that, the check makes a probe
 * write.
 */
export const WRITES_REFUSED_MS = 10_000;

/**
 * Checks whether the database and Temporal can be used. Normally the check only reads from the database. After a
 * failed write, the check makes probe writes until one of them succeeds.
 */
export class Readiness {
  readonly #deps: ReadinessDeps;
  readonly #now: () => Date;
  #looking: Promise<Reachable> | undefined;
  #seen: { readonly reachable: Reachable; readonly at: number } | undefined;
  /** True after a failed write, until a probe write succeeds. */
  #isInDoubt = false;
  #refusedUntil = 0;

  constructor(deps: ReadinessDeps, now: () => Date) {
    this.#deps = deps;
    this.#now = now;
  }

  /**
   * Returns whether the database and Temporal can be reached. The result is at most 1 s old, and concurrent callers
   * share one check.
   */
  async look(): Promise<Reachable> {
    const seen = this.#seen;
    if (seen !== undefined && this.#now().getTime() - seen.at < LOOK_EVERY_MS) return seen.reachable;
    this.#looking ??= this.#startLook();
    return await this.#looking;
  }

  /**
   * Must be called when a request that writes has failed with this error. If the error shows that the database refuses
   * all writes, nodrop immediately reports the database as not writable. Any other error may affect only this request,
   * so the next check makes a probe write.
   */
  writeFailed(error: unknown): void {
    if (refusesWrites(error)) this.#refusedUntil = this.#now().getTime() + WRITES_REFUSED_MS;
    if (!this.#isInDoubt) {
      this.#seen = undefined;
      // A running check may have started before this failure. So the process does not keep the result of that check,
      // and later callers start a new check.
      this.#looking = undefined;
    }
    this.#isInDoubt = true;
  }

  #startLook(): Promise<Reachable> {
    const at = this.#now().getTime();
    const looking = this.#look()
      .then((reachable) => {
        if (this.#looking === looking) this.#seen = { reachable, at };
        return reachable;
      })
      .finally(() => {
        if (this.#looking === looking) this.#looking = undefined;
      });
    return looking;
  }

  async #look(): Promise<Reachable> {
    const [database, isThere] = await Promise.all([
      this.#lookAtDatabase(),
      this.#deps.isTemporalReachable(HEALTH_WITHIN_MS),
    ]);
    return { database, temporal: isThere ? 'ok' : 'unreachable' };
  }

  async #lookAtDatabase(): Promise<Reachable['database']> {
    const { db } = this.#deps;
    const state = await orFallbackWithin<Reachable['database']>(
      HEALTH_WITHIN_MS,
      'unreachable',
      readWritability(db),
    );
    if (state !== 'ok' || !this.#isInDoubt) return state;
    if (this.#now().getTime() < this.#refusedUntil) return 'not_writable';
    this.#isInDoubt = false;
    const write = probeWrite(db, this.#now()).then(() => true);
    if (await orFallbackWithin(HEALTH_WITHIN_MS, false, write)) return 'ok';
    this.#isInDoubt = true;
    this.#refusedUntil = this.#now().getTime() + WRITES_REFUSED_MS;
    return 'not_writable';
  }
}
