import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';

/**
 * Encrypts secrets that are stored and must be read again. Each purpose has its own key, derived from NODROP_SECRET.
 */

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const HEAD_BYTES = NONCE_BYTES + TAG_BYTES;

/** The use of a ciphertext, and its owner. A ciphertext cannot be decrypted for a different use or owner. */
export interface Purpose {
  readonly nodropSecret: string;
  /** A label for the use of the secret. Each label has its own key. */
  readonly use: string;
  /** The id of the row's owner. A ciphertext that is copied to the row of another owner cannot be decrypted. */
  readonly owner: string;
}

const keyOf = ({ nodropSecret, use }: Purpose): Buffer =>
  Buffer.from(hkdfSync('sha256', nodropSecret, '', use, 32));

/** Encrypts with AES-256-GCM. @returns nonce, tag and ciphertext, concatenated */
export function encrypt(purpose: Purpose, plain: string): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', keyOf(purpose), nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.from(purpose.owner));
  const text = [cipher.update(plain, 'utf8'), cipher.final()];
  return Buffer.concat([nonce, cipher.getAuthTag(), ...text]);
}

/** Thrown when a stored secret cannot be decrypted. The message is a sentence that a merchant may see. */
export class UnreadableSecret extends Error {}

/**
 * Decrypts a ciphertext that `encrypt` returned.
 * @throws Error if the ciphertext was encrypted for a different purpose, or was changed.
 */
export function decrypt(purpose: Purpose, ciphertext: Uint8Array): string {
  const nonce = ciphertext.subarray(0, NONCE_BYTES);
  const decipher = createDecipheriv('aes-256-gcm', keyOf(purpose), nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.from(purpose.owner));
  decipher.setAuthTag(ciphertext.subarray(NONCE_BYTES, HEAD_BYTES));
  return Buffer.concat([decipher.update(ciphertext.subarray(HEAD_BYTES)), decipher.final()]).toString();
}
