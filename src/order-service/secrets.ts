import { randomBytes } from 'node:crypto';
import { decrypt, encrypt, type Purpose, UnreadableSecret } from '../encryption.ts';

/**
 * Stores the secrets that sign a merchant's events. The secrets are encrypted and not hashed, because a signature needs
 * the plain text. The encryption key is derived from NODROP_SECRET. A ciphertext cannot be used for another merchant.
 */

const VERSION = 1;

/** The label makes this encryption key different from all other keys that nodrop derives from NODROP_SECRET. */
const purposeOf = (nodropSecret: string, merchantId: string): Purpose => ({
  nodropSecret,
  use: 'nodrop signing secrets',
  owner: merchantId,
});

/** Generates a signing secret for Standard Webhooks: `whsec_` and 256 random bits in base64. */
export const newSecret = (): string => `whsec_${randomBytes(32).toString('base64')}`;

/** Encrypts a secret for one merchant. The result is a version byte and the ciphertext. */
export function sealSecret(nodropSecret: string, merchantId: string, plain: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array([VERSION, ...encrypt(purposeOf(nodropSecret, merchantId), plain)]);
}

/**
 * Decrypts a secret.
 * @throws UnreadableSecret if the secret was not encrypted with this NODROP_SECRET for this merchant
 */
export function openSecret(nodropSecret: string, merchantId: string, ciphertext: Uint8Array): string {
  try {
    if (ciphertext[0] !== VERSION) throw new Error(`version ${ciphertext[0]} is not known`);
    return decrypt(purposeOf(nodropSecret, merchantId), ciphertext.subarray(1));
  } catch (cause) {
    throw new UnreadableSecret(
      `A signing secret of merchant ${merchantId} cannot be read: it was stored under another NODROP_SECRET. ` +
        'Set that NODROP_SECRET again, or create a new signing secret with `merchants rotate-secret`.',
      { cause },
    );
  }
}
