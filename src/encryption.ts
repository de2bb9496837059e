import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';

/** What is stored and needed back: encrypted under a key made of NODROP_SECRET for one use of it alone. */

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const HEAD_BYTES = NONCE_BYTES + TAG_BYTES;

/** Whose ciphertext it is, and what for: under another of either it cannot be read. */
export interface Purpose {
  readonly nodropSecret: string;
  /** A label: the key is made for this alone. */
  readonly use: string;
  /** The id of the row's owner: one ciphertext is of no use for another owner. */
  readonly owner: string;
}

const keyOf = ({ nodropSecret, use }: Purpose): Buffer =>
  Buffer.from(hkdfSync('sha256', nodropSecret, '', use, 32));

/** AES-256-GCM: the nonce, the tag, the text. */
export function encrypt(purpose: Purpose, plain: string): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', keyOf(purpose), nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.from(purpose.owner));
  const text = [cipher.update(plain, 'utf8'), cipher.final()];
  return Buffer.concat([nonce, cipher.getAuthTag(), ...text]);
}

/** What is stored cannot be read. The message is a sentence that a merchant may read. */
export class UnreadableSecret extends Error {}

/** @throws Error when it was not made for this purpose. */
export function decrypt(purpose: Purpose, ciphertext: Uint8Array): string {
  const nonce = ciphertext.subarray(0, NONCE_BYTES);
  const decipher = createDecipheriv('aes-256-gcm', keyOf(purpose), nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.from(purpose.owner));
  decipher.setAuthTag(ciphertext.subarray(NONCE_BYTES, HEAD_BYTES));
  return Buffer.concat([decipher.update(ciphertext.subarray(HEAD_BYTES)), decipher.final()]).toString();
}
