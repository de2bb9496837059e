import { createHash } from 'node:crypto';
import { z } from 'zod';
import { faultsInWords } from '../faults-in-words.ts';

const rate = z.number().min(0).max(1);
const ms = z.int().min(0).max(3_600_000);

/** All faults that can be injected. Rates are from 0 to 1. */
const faultsSchema = z.strictObject({
  /**
   * The seed of the random draws. A draw depends on the seed, the trade and a counter, but never on the order in which
   * requests arrive.
   */
  seed: z.int(),
  callback: z.strictObject({
    dropRate: rate,
    delayMs: ms,
    /** The number of additional callbacks that the first delivery attempt sends. */
    duplicates: z.int().min(0).max(20),
    corruptSignatureRate: rate,
    wrongAmountRate: rate,
    /** After each success notification, the simulator sends an outdated notification with a valid signature. */
    outOfOrder: z.boolean(),
  }),
  create: z.strictObject({ errorRate: rate, timeoutAfterAcceptRate: rate, latencyMs: ms }),
  query: z.strictObject({ errorRate: rate, garbageRate: rate, latencyMs: ms, lagMs: ms }),
  close: z.strictObject({
    errorRate: rate,
    /**
     * The rate of close requests that have no effect. The simulator answers that the trade is closed, but a payer who
     * is already in the wallet can still pay.
     */
    ineffectiveRate: rate,
  }),
  refund: z.strictObject({
    errorRate: rate,
    /**
     * The rate of refunds that the simulator refuses with 409 `BALANCE_TOO_LOW`. It accepts the same refund number once
     * the balance suffices.
     */
    balanceTooLowRate: rate,
    processingMs: ms,
  }),
  /** Number of calls per second that an account may make before the simulator answers 429. 0 means no limit. */
  rateLimitPerSecond: z.int().min(0).max(100_000),
  /** If true, merchants cannot reach the simulator, but payers can still pay. */
  down: z.boolean(),
});

const { callback, create, query, close, refund } = faultsSchema.shape;
/** Some of the faults. They are merged into the faults that are in force. */
const patchSchema = faultsSchema
  .extend({
    callback: callback.partial(),
    create: create.partial(),
    query: query.partial(),
    close: close.partial(),
    refund: refund.partial(),
  })
  .partial();

type DeepReadonly<T> = { readonly [K in keyof T]: DeepReadonly<T[K]> };
export type Faults = DeepReadonly<z.infer<typeof faultsSchema>>;

export const NO_FAULTS: Faults = {
  seed: 1,
  callback: {
    dropRate: 0,
    delayMs: 0,
    duplicates: 0,
    corruptSignatureRate: 0,
    wrongAmountRate: 0,
    outOfOrder: false,
  },
  create: { errorRate: 0, timeoutAfterAcceptRate: 0, latencyMs: 0 },
  query: { errorRate: 0, garbageRate: 0, latencyMs: 0, lagMs: 0 },
  close: { errorRate: 0, ineffectiveRate: 0 },
  refund: { errorRate: 0, balanceTooLowRate: 0, processingMs: 0 },
  rateLimitPerSecond: 0,
  down: false,
};

export type MergeResult =
  | { readonly faults: Faults }
  | { readonly errors: readonly { readonly path: string; readonly message: string }[] };

/**
 * Merges `patch` into the faults that are in force, one group after the other. If the patch is invalid, returns the
 * error of each field.
 */
export function mergeFaults(current: Faults, patch: unknown): MergeResult {
  const parsed = patchSchema.safeParse(patch, { error: faultsInWords });
  if (!parsed.success) {
    return {
      errors: parsed.error.issues.flatMap((issue) => {
        const paths =
          issue.code === 'unrecognized_keys' ? issue.keys.map((key) => [...issue.path, key]) : [issue.path];
        return paths.map((path) => ({ path: path.join('.'), message: issue.message }));
      }),
    };
  }
  const given = parsed.data;
  return {
    faults: faultsSchema.parse({
      ...current,
      ...given,
      callback: { ...current.callback, ...given.callback },
      create: { ...current.create, ...given.create },
      query: { ...current.query, ...given.query },
      close: { ...current.close, ...given.close },
      refund: { ...current.refund, ...given.refund },
    }),
  };
}

/**
 * Decides whether a fault occurs. Each draw hashes the seed, the fault, the trade and a counter. So the same seed gives
 * the same results.
 */
export class Dice {
  readonly #seed: () => number;
  readonly #counts = new Map<string, number>();

  constructor(seed: () => number) {
    this.#seed = seed;
  }

  /** True with probability `chance`. Each call for the same fault and trade makes the next draw. */
  strikes(chance: number, fault: string, outTradeNo: string): boolean {
    // A chance of 0 or 1 needs no draw, so that without faults no counters are kept.
    if (chance <= 0 || chance >= 1) return chance >= 1;
    const key = `${fault}/${outTradeNo}`;
    const count = this.#counts.get(key) ?? 0;
    this.#counts.set(key, count + 1);
    const digest = createHash('sha256').update(`${this.#seed()}/${key}/${count}`).digest();
    return digest.readUIntBE(0, 6) / 2 ** 48 < chance;
  }

  /** Resets all counters. */
  reset(): void {
    this.#counts.clear();
  }
}
