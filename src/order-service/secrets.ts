import { randomBytes } from 'node:crypto';
import { decrypt, encrypt, type Purpose, UnreadableSecret } from '../encryption.ts';

/**
 * How the secrets that sign a merchant's events are stored: encrypted, because signing needs them back, under a key
 * made of NODROP_SECRET. One ciphertext is of no use for another merchant.
 */

const VERSION = 1;

/** A key for this alone: other uses of NODROP_SECRET have labels of their own. */
const purposeOf = (nodropSecret: string, merchantId: string): Purpose => ({
  nodropSecret,
  use: 'nodrop signing secrets',
  owner: merchantId,
});

/** A new secret of Standard Webhooks: `whsec_` and 256 bits. */
export const newSecret = (): string => `whsec_${randomBytes(32).toString('base64')}`;

/** A version byte and the ciphertext; bound to the merchant. */
export function sealSecret(nodropSecret: string, merchantId: string, plain: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array([VERSION, ...encrypt(purposeOf(nodropSecret, merchantId), plain)]);
}

/** @throws UnreadableSecret when the ciphertext was not made with it for this merchant. */
export function openSecret(nodropSecret: string, merchantId: string, ciphertext: Uint8Array): string {
  try {
    if (ciphertext[0] !== VERSION) throw new Error(`version ${ciphertext[0]} is not known`);
    return decrypt(purposeOf(nodropSecret, merchantId), ciphertext.subarray(1));
  } catch (cause) {
    throw new UnreadableSecret(
      `A signing secret of merchant ${merchantId} cannot be read: it was stored under another NODROP_SECRET. ` +
        'Set that one again, or make a new secret with merchants rotate-secret.',
      { cause },
    );
  }
}
