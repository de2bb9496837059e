import { createHash, createHmac, timingSafeEqual } from 'node:crypto';

/** How long a payer's token outlives the payment's expiry. */
export const CLIENT_TOKEN_GRACE_MS = 24 * 3_600_000;

/**
 * The token that opens one payment for its payer: `ct_` and 256 bits. Derived, not random, so that asking
 * for the same payment again returns the same token (P5) though only its hash is stored, and so that the
 * worker can put it into the wallet's return address. See docs/decisions/0003-client-tokens.md.
 */
export function clientToken(secret: string, paymentId: string): string {
  return `ct_${createHmac('sha256', secret).update(`client-token:${paymentId}`).digest('base64url')}`;
}

/** How keys and tokens are stored: SHA-256, hex. They carry 256 bits, so no salt or stretching is needed. */
export function hashSecret(value: string): string {
  return createHash('sha256').update(value).digest('hex');
}

/**
 * What proves that a request to a trade's callback address comes from whoever was given the address: its channel. 256 bits,
 * derived as client tokens are, from the account and the payment.
 */
export function callbackProof(secret: string, accountId: string, paymentId: string): string {
  return createHmac('sha256', secret).update(`callback:${accountId}/${paymentId}`).digest('base64url');
}

/** Compares in constant time. */
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
