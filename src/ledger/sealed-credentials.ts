import { createHmac } from 'node:crypto';
import type { Credentials } from '../domain/channel.ts';
import { decrypt, encrypt, type Purpose, UnreadableSecret } from '../encryption.ts';

/**
 * How the credentials of a channel account are stored: encrypted as a whole under a key made of NODROP_SECRET, bound to the
 * account. The ciphertext says by which key it was made, so that another NODROP_SECRET is told from damage.
 */

const VERSION = 1;
const KEY_ID_BYTES = 8;
const HEAD_BYTES = 1 + KEY_ID_BYTES;

const purposeOf = (nodropSecret: string, accountId: string): Purpose => ({
  nodropSecret,
  use: 'nodrop channel credentials',
  owner: accountId,
});

const digest = (nodropSecret: string, what: string): Buffer =>
  createHmac('sha256', nodropSecret).update(what).digest();

/** Names the key without saying anything of it. */
const keyIdOf = (nodropSecret: string): Buffer =>
  digest(nodropSecret, 'nodrop channel credentials key id').subarray(0, KEY_ID_BYTES);

/** The settings in one order: the same content is the same text. */
const textOf = (credentials: Credentials): string =>
  JSON.stringify(Object.fromEntries(Object.entries(credentials).sort(([a], [b]) => (a < b ? -1 : 1))));

/** Tells one set of credentials of an account from another: a keyed hash, 8 hex digits, of which nothing can be learnt. */
export const hintOf = (nodropSecret: string, accountId: string, credentials: Credentials): string =>
  digest(nodropSecret, `nodrop channel credentials hint/${accountId}/${textOf(credentials)}`)
    .toString('hex')
    .slice(0, 8);

/** A version byte, the key's id, the ciphertext. */
export function sealCredentials(
  nodropSecret: string,
  accountId: string,
  credentials: Credentials,
): Uint8Array<ArrayBuffer> {
  const ciphertext = encrypt(purposeOf(nodropSecret, accountId), textOf(credentials));
  return new Uint8Array(Buffer.concat([Buffer.of(VERSION), keyIdOf(nodropSecret), ciphertext]));
}

/** @throws UnreadableSecret when they were not stored under this NODROP_SECRET for this account. */
export function openCredentials(
  nodropSecret: string,
  accountId: string,
  ciphertext: Uint8Array,
): Credentials {
  const keyId = Buffer.from(ciphertext.subarray(1, HEAD_BYTES));
  const isOther = ciphertext[0] === VERSION && !keyId.equals(keyIdOf(nodropSecret));
  try {
    if (ciphertext[0] !== VERSION) throw new Error(`version ${ciphertext[0]} is not known`);
    if (isOther) throw new Error('another key');
    return JSON.parse(
      decrypt(purposeOf(nodropSecret, accountId), ciphertext.subarray(HEAD_BYTES)),
    ) as Credentials;
  } catch (cause) {
    const why = isOther
      ? 'they were stored under another NODROP_SECRET. Set that one again, or store them anew'
      : 'they are damaged. Store them anew';
    throw new UnreadableSecret(
      `The credentials of channel account ${accountId} cannot be read: ${why} with channels rotate.`,
      { cause },
    );
  }
}
