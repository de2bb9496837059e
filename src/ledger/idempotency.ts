import { json, type LedgerClient } from './client.ts';

/**
 * Which POST a merchant's Idempotency-Key stands for, and what came of it. A key is leased while its request runs:
 * when the process dies, the next identical request takes over after the lease and runs again, which changes
 * nothing that was done already (P5). A result is kept once it is definite, and its work durable.
 */

/** Longer than any request runs, all its deadlines added up. */
const LEASE_MS = 60_000;

export interface KeyedRequest {
  readonly merchantId: string;
  readonly key: string;
  /** `POST /v1/payments` */
  readonly route: string;
  /** SHA-256 of the payload, hex. */
  readonly requestHash: string;
  /** A fingerprint of each field of the payload, by its path. */
  readonly fields: Readonly<Record<string, string>>;
}

/** What was made, by its id, or why it was refused. Nothing of the answer itself: it would hold a payer's secrets. */
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

/** A key that is ours to run under, until then. */
export interface Lease {
  readonly merchantId: string;
  readonly key: string;
  readonly until: Date;
}

export type Claim =
  | { readonly kind: 'ours'; readonly lease: Lease }
  | { readonly kind: 'done'; readonly result: KeptResult }
  | { readonly kind: 'in_progress' }
  /** It stands for another route or payload; `fields` are those that differ, as far as that is known. */
  | { readonly kind: 'reused'; readonly route: string; readonly fields: readonly string[] };

/** Takes the key for this request, or says what has become of the one that has it. */
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
  // Deleted since: the next request finds the key free.
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

/** Nothing for a row from before its fields were kept. */
function differing(known: KeyedRequest['fields'], given: KeyedRequest['fields']): string[] {
  if (Object.keys(known).length === 0) return [];
  return [...new Set([...Object.keys(known), ...Object.keys(given)])].filter(
    (path) => known[path] !== given[path],
  );
}

/** Whoever lost the lease to another request changes nothing any more. */
const held = ({ merchantId, key, until }: Lease) => ({
  merchantId,
  key,
  lockedUntil: until,
  responseStatus: null,
});

/** The result stands from now on. What it says must be durable before. */
export async function keepResult(db: LedgerClient, lease: Lease, result: KeptResult): Promise<void> {
  const { status, ...body } = result;
  await db.idempotencyKey.updateMany({
    where: held(lease),
    data: { responseStatus: status, responseBody: json(body), lockedUntil: null },
  });
}

/** Nothing definite came of it: the same request may run again at once, and no other one under this key. */
export async function releaseKey(db: LedgerClient, lease: Lease): Promise<void> {
  await db.idempotencyKey.updateMany({ where: held(lease), data: { lockedUntil: null } });
}

/** The request was not one at all: the key stands for nothing yet. */
export async function forgetKey(db: LedgerClient, lease: Lease): Promise<void> {
  await db.idempotencyKey.deleteMany({ where: held(lease) });
}
