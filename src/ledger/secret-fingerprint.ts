import { createHmac, timingSafeEqual } from 'node:crypto';
import { type Config, ConfigError } from '../config.ts';
import { UnreadableSecret } from '../encryption.ts';
import { openSecret } from '../order-service/secrets.ts';
import type { LedgerClient } from './client.ts';

/**
 * The database stores a fingerprint of the NODROP_SECRET that encrypts its signing secrets and derives its client
 * tokens. A process with a different secret must not write, because other processes could not read what that process
 * wrote.
 */

/**
 * Thrown if the process has a different NODROP_SECRET than the database. The message says where the right secret is,
 * and never contains the secret.
 */
export class WrongSecret extends ConfigError {}

/** The secret of a process and where it came from. */
export type OwnSecret = Pick<Config, 'secret' | 'secretFile' | 'embeddedDatabase'>;

const ID = 1;

/**
 * Returns the fingerprint of a secret, the HMAC-SHA256 of a fixed text with the secret as key, in hex. The
 * fingerprint can confirm a guess of the secret and reveals nothing else.
 */
export const fingerprintOf = (secret: string): string =>
  createHmac('sha256', secret).update('nodrop secret fingerprint').digest('hex');

/**
 * Compares this process's secret with the stored fingerprint. If no fingerprint is stored, this process's secret is
 * recorded. If several processes do this at the same time, only one records its secret, and the others compare their
 * secrets with that one. In a database of an older release, the secret is recorded only if it can decrypt the current
 * signing secrets.
 * @throws WrongSecret if the database was set up with another secret. Any other error means that the database cannot be
 *   reached now.
 */
export async function requireSecret(db: LedgerClient, own: OwnSecret): Promise<void> {
  const fingerprint = fingerprintOf(own.secret);
  let known = await db.secretFingerprint.findUnique({ where: { id: ID } });
  if (known === null) {
    await requireReadable(db, own);
    await db.secretFingerprint.createMany({
      data: { id: ID, fingerprint, keptIn: own.secretFile },
      skipDuplicates: true,
    });
    known = await db.secretFingerprint.findUniqueOrThrow({ where: { id: ID } });
  }
  if (!isSame(known.fingerprint, fingerprint)) throw new WrongSecret(sentence(known.keptIn, own));
  // The recorded path of the secret file can be out of date, because the data folder was moved, or because the secret
  // came from the environment earlier.
  if (own.secretFile !== null && own.secretFile !== known.keptIn)
    await db.secretFingerprint.update({ where: { id: ID }, data: { keptIn: own.secretFile } });
}

/**
 * Records this process's secret as the database's secret, even if another secret was recorded.
 * @returns the names of the merchants whose current signing secret cannot be decrypted with this secret. Each of them
 *   needs a new signing secret.
 */
export async function replaceSecret(db: LedgerClient, own: OwnSecret, now: Date): Promise<string[]> {
  const content = { fingerprint: fingerprintOf(own.secret), keptIn: own.secretFile, recordedAt: now };
  await db.secretFingerprint.upsert({
    where: { id: ID },
    create: { id: ID, ...content },
    update: content,
  });
  return await unreadableMerchants(db, own.secret);
}

/**
 * Returns the names of API and worker processes that are connected to this database. If the secret is changed, these
 * processes keep the old secret.
 */
export async function processesOf(db: LedgerClient): Promise<string[]> {
  const rows = await db.$queryRaw<{ name: string }[]>`
    SELECT DISTINCT application_name AS name FROM pg_stat_activity
    WHERE datname = current_database() AND application_name IN ('nodrop-api', 'nodrop-changes', 'nodrop-worker')
    ORDER BY name`;
  return rows.map(({ name }) => name);
}

/** @throws WrongSecret */
async function requireReadable(db: LedgerClient, own: OwnSecret): Promise<void> {
  const names = await unreadableMerchants(db, own.secret);
  if (names.length === 0) return;
  throw new WrongSecret(
    `${nameOf(own)} is not the secret that encrypted the signing secrets of ${names.join(', ')}. ` +
      'Start nodrop with that secret. If it is lost, see "Changing NODROP_SECRET" in docs/operations.md.',
  );
}

/** Lists the merchants whose current signing secret was not encrypted with this NODROP_SECRET, sorted by name. */
async function unreadableMerchants(db: LedgerClient, secret: string): Promise<string[]> {
  const rows = await db.signingSecret.findMany({
    where: { expiresAt: null },
    include: { merchant: { select: { name: true } } },
  });
  const names = rows.flatMap(({ merchantId, ciphertext, merchant }) => {
    try {
      openSecret(secret, merchantId, ciphertext);
      return [];
    } catch (error) {
      if (!(error instanceof UnreadableSecret)) throw error;
      return [merchant.name];
    }
  });
  return [...new Set(names)].sort();
}

const isSame = (one: string, other: string): boolean =>
  one.length === other.length && timingSafeEqual(Buffer.from(one), Buffer.from(other));

const nameOf = ({ secretFile }: OwnSecret): string =>
  secretFile === null ? 'NODROP_SECRET' : `The secret in ${secretFile}`;

/**
 * Returns the sentence that explains to the operator how to use the secret of the named file. A process with an
 * external database does not read the secret file of a data folder.
 */
const wayTo = ({ embeddedDatabase }: OwnSecret): string =>
  embeddedDatabase
    ? 'Set NODROP_HOME to its folder, and leave NODROP_SECRET unset.'
    : 'Set NODROP_SECRET to the `secret` in that file.';

function sentence(keptIn: string | null, own: OwnSecret): string {
  const wrong = `${nameOf(own)} is not the secret that this database was set up with`;
  const changed = 'To change it, see "Changing NODROP_SECRET" in docs/operations.md.';
  if (keptIn === null)
    return `${wrong}: the right one was set as NODROP_SECRET in the environment of the process that set the database up. Set that one. ${changed}`;
  if (keptIn === own.secretFile)
    return `${wrong}: the right one was in the same file before. Restore the file from a backup. ${changed}`;
  return `${wrong}: the right one is in ${keptIn}. ${wayTo(own)} ${changed}`;
}
