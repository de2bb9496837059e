import { PrismaPg } from '@prisma/adapter-pg';
import { type Prisma, PrismaClient } from '../generated/prisma/client.ts';
import { ConnectionPool } from './connection.ts';

export type LedgerClient = PrismaClient;
/** Inside a transaction. */
export type LedgerTx = Prisma.TransactionClient;

/**
 * @param databaseUrl a postgresql:// URL. The caller closes it with `$disconnect()`.
 * @param applicationName shown in `pg_stat_activity`, for those who want to know whose a connection is
 */
export function createLedgerClient(databaseUrl: string, applicationName?: string): LedgerClient {
  const pool = new ConnectionPool({
    connectionString: databaseUrl,
    application_name: applicationName,
    max: 20,
    // Without these a dead database is a request that hangs.
    connectionTimeoutMillis: 3_000,
    statement_timeout: 5_000,
    // The server cannot end a statement when it is itself what has fallen silent.
    query_timeout: 5_500,
  });
  const adapter = new PrismaPg(pool, { disposeExternalPool: true });
  return new PrismaClient({ adapter, transactionOptions: { maxWait: 3_000, timeout: 6_000 } });
}

/** True when a row that must be there is not: Prisma's "record not found". */
export function isRowGone(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === 'P2025';
}

const CONSTRAINT_CODES = new Set(['23505', '23514', '23503']);

/** True when the database refused a write because a unique key, check or reference forbids it. */
export function isConstraintViolation(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  if (code === 'P2002' || code === 'P2003' || code === 'P2004') return true;
  const cause =
    (error as { cause?: { originalCode?: string } }).cause ??
    (error as { meta?: { driverAdapterError?: { cause?: { originalCode?: string } } } }).meta
      ?.driverAdapterError?.cause;
  return cause?.originalCode !== undefined && CONSTRAINT_CODES.has(cause.originalCode);
}
