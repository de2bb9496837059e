import type { LedgerClient } from '../ledger/client.ts';
import { createApiKey, ensureMerchant, type Role } from '../ledger/merchants.ts';

/** The lines that `keys create` prints. The key is in none of them but the last. */
export async function createKey(
  db: LedgerClient,
  name: string,
  role: Role,
  channels: readonly string[],
): Promise<string[]> {
  const { merchant, created } = await ensureMerchant(db, name, channels);
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

/** The lines that `keys list` prints. */
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
  const table = [['ID', 'MERCHANT', 'ROLE', 'KEY', 'CREATED', ''], ...rows];
  const widths =
    table[0]?.map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0))) ?? [];
  return table.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
