import type { LedgerClient } from './client.ts';

/** True if the database accepts writes, according to its own settings. */
export type Writability = 'ok' | 'in_recovery' | 'read_only';

/** The statement also reads a table, so that the check fails if the migrations have not run. */
export async function readWritability(db: LedgerClient): Promise<Writability> {
  const [said] = await db.$queryRaw<{ inRecovery: boolean; isReadOnly: boolean }[]>`
    SELECT pg_is_in_recovery() AS "inRecovery", current_setting('transaction_read_only') = 'on' AS "isReadOnly"
    FROM (SELECT count(*) FROM (SELECT FROM merchants LIMIT 1) AS one) AS migrated`;
  if (said?.inRecovery) return 'in_recovery';
  return said?.isReadOnly ? 'read_only' : 'ok';
}

/**
 * Tests whether the database can write. Writes one row, always the same row, in its own transaction. Rejects if the
 * database accepts no writes.
 */
export async function probeWrite(db: LedgerClient, at: Date): Promise<void> {
  await db.$executeRaw`
    INSERT INTO write_probe (id, probed_at) VALUES (1, ${at})
    ON CONFLICT (id) DO UPDATE SET probed_at = EXCLUDED.probed_at`;
}
