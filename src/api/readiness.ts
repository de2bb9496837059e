import type { LedgerClient } from '../ledger/client.ts';
import { refusesWrites } from '../ledger/database-errors.ts';
import { probeWrite, readWritability } from '../ledger/writable.ts';
import { HEALTH_WITHIN_MS } from './deadlines.ts';
import { orFallbackWithin } from './http/with-deadline.ts';

/** `not_writable`: it can be read, says nothing against writing, and a write failed. */
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

/** What was seen is shown for so long, however many ask. */
export const LOOK_EVERY_MS = 1_000;
/** A database that refused a write is taken for one that refuses the next, and only then probed. */
export const WRITES_REFUSED_MS = 10_000;

/** Whether both servers can be used: read as long as no write has failed, then written to until a write succeeds. */
export class Readiness {
  readonly #deps: ReadinessDeps;
  readonly #now: () => Date;
  #looking: Promise<Reachable> | undefined;
  #seen: { readonly reachable: Reachable; readonly at: number } | undefined;
  /** True from a failed write to the next probe that succeeds. */
  #isInDoubt = false;
  #refusedUntil = 0;

  constructor(deps: ReadinessDeps, now: () => Date) {
    this.#deps = deps;
    this.#now = now;
  }

  /** What is so now, or was so within the last second; however many ask at once, one look is taken. */
  async look(): Promise<Reachable> {
    const seen = this.#seen;
    if (seen !== undefined && this.#now().getTime() - seen.at < LOOK_EVERY_MS) return seen.reachable;
    this.#looking ??= this.#startLook();
    return await this.#looking;
  }

  /**
   * A request that writes failed with this error. A single request can fail for its own reason, such as a lost
   * connection, so the next look finds out by writing; what the database refuses to everybody counts at once.
   */
  writeFailed(error: unknown): void {
    if (refusesWrites(error)) this.#refusedUntil = this.#now().getTime() + WRITES_REFUSED_MS;
    if (!this.#isInDoubt) {
      this.#seen = undefined;
      // A look under way may have found the database well before this failure: it is not kept, and nobody joins it.
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
    const said = await orFallbackWithin<Reachable['database']>(
      HEALTH_WITHIN_MS,
      'unreachable',
      readWritability(db),
    );
    if (said !== 'ok' || !this.#isInDoubt) return said;
    if (this.#now().getTime() < this.#refusedUntil) return 'not_writable';
    this.#isInDoubt = false;
    const write = probeWrite(db, this.#now()).then(() => true);
    if (await orFallbackWithin(HEALTH_WITHIN_MS, false, write)) return 'ok';
    this.#isInDoubt = true;
    this.#refusedUntil = this.#now().getTime() + WRITES_REFUSED_MS;
    return 'not_writable';
  }
}
