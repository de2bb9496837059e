import { createHash, createHmac, timingSafeEqual } from 'node:crypto';

/** How long a client token stays valid after the payment's expiry. */
export const CLIENT_TOKEN_GRACE_MS = 24 * 3_600_000;

/**
 * Derives the client token, with which a payer reads one payment. The token consists of `ct_` and 256 bits. The token
 * is derived from the payment id, because a repeated request must return the same token (P5), although the database has
 * only its hash. The worker can also derive the token, and puts it into the wallet's return URL. See
 * docs/decisions/0003-client-tokens.md.
 */
export function clientToken(secret: string, paymentId: string): string {
  return `ct_${createHmac('sha256', secret).update(`client-token:${paymentId}`).digest('base64url')}`;
}

/**
 * The hash under which keys and tokens are stored: SHA-256 in hex. Keys and tokens have 256 random bits, so the hash
 * needs neither a salt nor many iterations.
 */
export function hashSecret(value: string): string {
  return createHash('sha256').update(value).digest('hex');
}

/**
 * The proof is a secret in the callback URL of one payment. nodrop gives this URL only to the channel, so a request
 * with the proof comes from the channel. The proof has 256 bits, and is derived from the account and the payment, like
 * a client token.
 */
export function callbackProof(secret: string, accountId: string, paymentId: string): string {
  return createHmac('sha256', secret).update(`callback:${accountId}/${paymentId}`).digest('base64url');
}

/** Checks a proof from a callback URL, in constant time. */
export function isCallbackProof(
  secret: string,
  accountId: string,
  paymentId: string,
  proof: string,
): boolean {
  const [given, expected] = [proof, callbackProof(secret, accountId, paymentId)].map((text) =>
    createHash('sha256').update(text).digest(),
  );
  return given !== undefined && expected !== undefined && timingSafeEqual(given, expected);
}
