import type { LedgerClient } from './client.ts';

/** A client token, and the payment that a request names with it. */
export interface NamedToken {
  readonly paymentId: string;
  /** The SHA-256 of the client token, in hex. */
  readonly hash: string;
}

export interface Secrets {
  /** The SHA-256 of each key, in hex. */
  readonly keyHashes: readonly string[];
  readonly tokens: readonly NamedToken[];
}

/**
 * Returns the given keys and tokens that are valid. One statement checks all keys and tokens.
 * @param tokensEndedAt tokens of payments that expired at or before this time are not valid
 */
export async function findSecrets(
  db: LedgerClient,
  { keyHashes, tokens }: Secrets,
  tokensEndedAt: Date,
): Promise<Secrets> {
  const rows = await db.$queryRaw<{ payment_id: string | null; hash: string }[]>`
    SELECT NULL AS payment_id, hash FROM api_keys
    WHERE hash = ANY(${keyHashes}::text[]) AND revoked_at IS NULL
    UNION ALL
    SELECT payments.id, payments.client_token_hash
    FROM unnest(
      ${tokens.map(({ paymentId }) => paymentId)}::text[],
      ${tokens.map(({ hash }) => hash)}::text[]
    ) AS named (payment_id, hash)
    JOIN payments ON payments.id = named.payment_id AND payments.client_token_hash = named.hash
    WHERE payments.expires_at > ${tokensEndedAt}`;
  return {
    keyHashes: rows.filter((row) => row.payment_id === null).map(({ hash }) => hash),
    tokens: rows.flatMap(({ payment_id, hash }) =>
      payment_id === null ? [] : [{ paymentId: payment_id, hash }],
    ),
  };
}
