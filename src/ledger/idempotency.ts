import { json, type LedgerClient } from './client.ts';

/**
 * This file stores which request a merchant's Idempotency-Key belongs to, and the result of that request. While a
 * request runs, it holds a lease on its key. If the process dies, the next identical request gets the key when the
 * lease ends, and the work runs again. Steps that the first run completed have no second effect (P5). A result is
 * stored when it is definite and its work is durable.
 */

/** The duration of a lease. It exceeds the sum of a request's deadlines, so no request runs longer than its lease. */
const LEASE_MS = 60_000;

export interface KeyedRequest {
  readonly merchantId: string;
  readonly key: string;
  /** `POST /v1/payments` */
  readonly route: string;
  /** SHA-256 of the payload, hex. */
  readonly requestHash: string;
  /** A fingerprint of each field of the payload, by the field's path. */
  readonly fields: Readonly<Record<string, string>>;
}

/**
 * The stored result of a request: the id of the created object, or the reason of the refusal. The complete answer is
 * not stored, because it contains payers' secrets.
 */
export type KeptResult =
  | { readonly status: number; readonly made: string }
  | {
      readonly status: number;
      readonly refused: {
        readonly code: string;
        readonly detail: string;
        readonly errors?: readonly { path: string; message: string }[];
      };
    };

/** The right to run the request with this Idempotency-Key until the time `until`. */
export interface Lease {
  readonly merchantId: string;
  readonly key: string;
  readonly until: Date;
}

export type Claim =
  | { readonly kind: 'ours'; readonly lease: Lease }
  | { readonly kind: 'done'; readonly result: KeptResult }
  | { readonly kind: 'in_progress' }
  /**
   * The key belongs to a request with another route or payload. `fields` lists the fields that differ, if they are
   * known.
   */
  | { readonly kind: 'reused'; readonly route: string; readonly fields: readonly string[] };

/**
 * Leases the key to this request. If the key belongs to another request, or is leased already, the function returns
 * that request's state.
 */
export async function claimKey(db: LedgerClient, request: KeyedRequest, now: Date): Promise<Claim> {
  const { merchantId, key, route, requestHash, fields } = request;
  const until = new Date(now.getTime() + LEASE_MS);
  const ours: Claim = { kind: 'ours', lease: { merchantId, key, until } };
  const inserted = await db.idempotencyKey.createMany({
    data: { merchantId, key, route, requestHash, requestFields: fields, lockedUntil: until, createdAt: now },
    skipDuplicates: true,
  });
  if (inserted.count === 1) return ours;
  const row = await db.idempotencyKey.findUnique({ where: { merchantId_key: { merchantId, key } } });
  // The key's row was deleted between the two statements. The caller repeats the request later, and can then get the
  // key.
  if (row === null) return { kind: 'in_progress' };
  if (row.route !== route) return { kind: 'reused', route: row.route, fields: [] };
  if (row.requestHash !== requestHash) {
    return { kind: 'reused', route, fields: differing(row.requestFields as typeof fields, fields) };
  }
  if (row.responseStatus !== null) {
    return {
      kind: 'done',
      result: { status: row.responseStatus, ...(row.responseBody as object) } as KeptResult,
    };
  }
  if (row.lockedUntil !== null && row.lockedUntil > now) return { kind: 'in_progress' };
  const taken = await db.idempotencyKey.updateMany({
    where: { merchantId, key, lockedUntil: row.lockedUntil, responseStatus: null },
    data: { lockedUntil: until },
  });
  return taken.count === 1 ? ours : { kind: 'in_progress' };
}

/** Lists the fields that differ. The list is empty for a row of an older release that stored no fields. */
function differing(known: KeyedRequest['fields'], given: KeyedRequest['fields']): string[] {
  if (Object.keys(known).length === 0) return [];
  return [...new Set([...Object.keys(known), ...Object.keys(given)])].filter(
    (path) => known[path] !== given[path],
  );
}

/**
 * Selects the key's row only while this request holds the lease. A request that has lost its lease therefore writes
 * nothing.
 */
const held = ({ merchantId, key, until }: Lease) => ({
  merchantId,
  key,
  lockedUntil: until,
  responseStatus: null,
});

/**
 * Stores the final result of the key's request. Everything that the result reports must be durable before this call.
 */
export async function keepResult(db: LedgerClient, lease: Lease, result: KeptResult): Promise<void> {
  const { status, ...body } = result;
  await db.idempotencyKey.updateMany({
    where: held(lease),
    data: { responseStatus: status, responseBody: json(body), lockedUntil: null },
  });
}

/**
 * Ends the lease of a request that ended without a definite result. The same request may run again immediately. A
 * different request with this key is still rejected.
 */
export async function releaseKey(db: LedgerClient, lease: Lease): Promise<void> {
  await db.idempotencyKey.updateMany({ where: held(lease), data: { lockedUntil: null } });
}

/** Deletes the key of an invalid request, so that the merchant can use the key for another request. */
export async function forgetKey(db: LedgerClient, lease: Lease): Promise<void> {
  await db.idempotencyKey.deleteMany({ where: held(lease) });
}
