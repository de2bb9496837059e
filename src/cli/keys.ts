import type { ConfiguredAccount } from '../domain/channel.ts';
import { storeConfigured } from '../ledger/channel-accounts.ts';
import type { LedgerClient } from '../ledger/client.ts';
import { createApiKey, ensureMerchant, type Role, revokeApiKey } from '../ledger/merchants.ts';
import { CommandError } from './errors.ts';
import { table } from './table.ts';

/** @returns the lines that `keys create` prints. Only the last line contains the key. */
export async function createKey(
  db: LedgerClient,
  name: string,
  role: Role,
  configured: readonly ConfiguredAccount[],
  nodropSecret: string,
  now: Date,
): Promise<string[]> {
  const channels = configured.map(({ channel }) => channel);
  const { merchant, created } = await ensureMerchant(db, name, channels);
  await storeConfigured(db, configured, nodropSecret, now);
  const { id, key } = await createApiKey(db, merchant.id, role);
  return [
    ...(created
      ? [
          `Merchant ${name} is new (${merchant.id}), with accounts at: ${channels.join(', ') || 'no channel'}.`,
        ]
      : []),
    `Key ${id} of merchant ${name}, role ${role}. It is shown only now:`,
    key,
  ];
}

/** @returns the lines that `keys list` prints. */
export async function listKeys(db: LedgerClient): Promise<string[]> {
  const keys = await db.apiKey.findMany({
    include: { merchant: { select: { name: true } } },
    orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
  });
  if (keys.length === 0) return ['There are no keys.'];
  const rows = keys.map((key) => [
    key.id,
    key.merchant.name,
    key.role,
    `sk_...${key.hint}`,
    key.createdAt.toISOString(),
    key.revokedAt === null ? '' : `revoked ${key.revokedAt.toISOString()}`,
  ]);
  return table([['ID', 'MERCHANT', 'ROLE', 'KEY', 'CREATED', ''], ...rows]);
}

/** @returns the lines that `keys revoke` prints. @throws CommandError */
export async function revokeKey(db: LedgerClient, id: string, now: Date): Promise<string[]> {
  if (!/^[\w-]{1,64}$/.test(id)) {
    const shown = id.length > 64 ? `"${id.slice(0, 64)}" ...` : `"${id}"`;
    throw new CommandError(`${shown} is not a key id. "keys list" shows the ids.`);
  }
  const revokedAt = await revokeApiKey(db, id, now);
  if (revokedAt === null) throw new CommandError(`There is no key ${id}. "keys list" shows the ids.`);
  return [`Key ${id} is revoked since ${revokedAt.toISOString()}.`];
}
