import { createHmac } from 'node:crypto';
import type { Credentials } from '../domain/channel.ts';
import { decrypt, encrypt, type Purpose, UnreadableSecret } from '../encryption.ts';

/**
 * Encrypts a channel account's credentials for storage. All credentials of an account are encrypted together, with a
 * key derived from NODROP_SECRET, and are bound to the account. The stored value contains the id of its key, so that
 * a changed NODROP_SECRET can be distinguished from damaged data.
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

/** Returns an id of the key. The id reveals nothing about the key. */
const keyIdOf = (nodropSecret: string): Buffer =>
  digest(nodropSecret, 'nodrop channel credentials key id').subarray(0, KEY_ID_BYTES);

/** The credentials as JSON with sorted keys, so that equal credentials give equal text. */
const textOf = (credentials: Credentials): string =>
  JSON.stringify(Object.fromEntries(Object.entries(credentials).sort(([a], [b]) => (a < b ? -1 : 1))));

/**
 * Returns a fingerprint that distinguishes an account's sets of credentials. It has 8 hex digits of a keyed hash, and
 * reveals nothing about the credentials.
 */
export const hintOf = (nodropSecret: string, accountId: string, credentials: Credentials): string =>
  digest(nodropSecret, `nodrop channel credentials hint/${accountId}/${textOf(credentials)}`)
    .toString('hex')
    .slice(0, 8);

/** Encrypts credentials. The stored value consists of a version byte, the key's id and the ciphertext. */
export function sealCredentials(
  nodropSecret: string,
  accountId: string,
  credentials: Credentials,
): Uint8Array<ArrayBuffer> {
  const ciphertext = encrypt(purposeOf(nodropSecret, accountId), textOf(credentials));
  return new Uint8Array(Buffer.concat([Buffer.of(VERSION), keyIdOf(nodropSecret), ciphertext]));
}

/** @throws UnreadableSecret if the credentials were not encrypted with this NODROP_SECRET for this account. */
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
      ? 'they were encrypted with another NODROP_SECRET. Set that one again, or store them again'
      : 'they are damaged. Store them again';
    throw new UnreadableSecret(
      `The credentials of channel account ${accountId} cannot be read: ${why} with channels rotate.`,
      { cause },
    );
  }
}
