import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';

/**
 * How the secrets that sign a merchant's events are stored: encrypted, because signing needs them back, under a key
 * made of NODROP_SECRET. One ciphertext is of no use for another merchant.
 */

const VERSION = 1;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const HEAD_BYTES = 1 + NONCE_BYTES + TAG_BYTES;

/** A key for this alone: other uses of NODROP_SECRET have labels of their own. */
const keyOf = (nodropSecret: string): Buffer =>
  Buffer.from(hkdfSync('sha256', nodropSecret, '', 'nodrop signing secrets', 32));

/** A new secret of Standard Webhooks: `whsec_` and 256 bits. */
export const newSecret = (): string => `whsec_${randomBytes(32).toString('base64')}`;

/** AES-256-GCM: a version byte, the nonce, the tag, the text; bound to the merchant. */
export function sealSecret(nodropSecret: string, merchantId: string, plain: string): Uint8Array<ArrayBuffer> {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', keyOf(nodropSecret), nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.from(merchantId));
  const text = [cipher.update(plain, 'utf8'), cipher.final()];
  return new Uint8Array(Buffer.concat([Buffer.of(VERSION), nonce, cipher.getAuthTag(), ...text]));
}

/** The message is a sentence that a merchant may read. */
export class UnreadableSecret extends Error {}

/** @throws UnreadableSecret when the ciphertext was not made with it for this merchant. */
export function openSecret(nodropSecret: string, merchantId: string, ciphertext: Uint8Array): string {
  try {
    if (ciphertext[0] !== VERSION) throw new Error(`version ${ciphertext[0]} is not known`);
    const nonce = ciphertext.subarray(1, 1 + NONCE_BYTES);
    const decipher = createDecipheriv('aes-256-gcm', keyOf(nodropSecret), nonce, {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(Buffer.from(merchantId));
    decipher.setAuthTag(ciphertext.subarray(1 + NONCE_BYTES, HEAD_BYTES));
    const text = [decipher.update(ciphertext.subarray(HEAD_BYTES)), decipher.final()];
    return Buffer.concat(text).toString();
  } catch (cause) {
    throw new UnreadableSecret(
      `A signing secret of merchant ${merchantId} cannot be read: it was stored under another NODROP_SECRET. ` +
        'Set that one again, or make a new secret with merchants rotate-secret.',
      { cause },
    );
  }
}
