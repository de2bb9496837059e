import { PrismaPg } from '@prisma/adapter-pg';
import type { Attention } from '../domain/attention.ts';
import type { AccountMode } from '../domain/channel.ts';
import type { LatePayment } from '../domain/decision.ts';
import type { DeliveryOutcome, DeliveryStatus, EventType } from '../domain/event.ts';
import type {
  Adoption,
  OrderStatus,
  OrderUpdate,
  PaymentStatus,
  RefundReason,
  RefundStatus,
  SettledBy,
} from '../domain/states.ts';
import { type Prisma, PrismaClient } from '../generated/prisma/client.ts';
import { ConnectionPool } from './connection.ts';
import { statementNames } from './statement-names.ts';

const column =
  <T>() =>
  <Name extends string>(name: Name) => ({
    needs: { [name]: true } as { [N in Name]: true },
    compute: (row: { [N in Name]: unknown }): T => row[name] as T,
  });

/**
 * Gives the domain's types to text columns whose values a CHECK in the database limits to a list. Only the types of the
 * extended client are used, so the function `compute` never runs. For writes the type of these columns stays string,
 * and the CHECK refuses a value that is not in its list.
 */
const withDomainTypes = (client: PrismaClient) =>
  client.$extends({
    result: {
      merchant: { latePayment: column<LatePayment>()('latePayment') },
      channelAccount: { mode: column<AccountMode>()('mode') },
      order: { status: column<OrderStatus>()('status') },
      payment: {
        status: column<PaymentStatus>()('status'),
        orderUpdate: column<OrderUpdate | null>()('orderUpdate'),
        settledBy: column<SettledBy | null>()('settledBy'),
        adopted: column<Adoption | null>()('adopted'),
        attention: column<Attention | null>()('attention'),
        hiddenAttention: column<Attention | null>()('hiddenAttention'),
      },
      callback: { kind: column<'trade' | 'refund' | 'dispute' | 'notice'>()('kind') },
      refund: { status: column<RefundStatus>()('status'), reason: column<RefundReason>()('reason') },
      event: { type: column<EventType>()('type') },
      delivery: { status: column<DeliveryStatus>()('status') },
      deliveryAttempt: { outcome: column<DeliveryOutcome>()('outcome') },
    },
  });

/** The database client. The rows that it returns have the types of rows.ts. */
export type LedgerClient = ReturnType<typeof withDomainTypes>;
/** The database client inside a transaction. */
export type LedgerTx = Parameters<Parameters<LedgerClient['$transaction']>[0]>[0];

/**
 * Creates a database client. The caller closes the client with `$disconnect()`.
 * @param databaseUrl a postgresql:// URL
 * @param applicationName shown in `pg_stat_activity`, so that an operator sees which process owns a connection
 */
export function createLedgerClient(databaseUrl: string, applicationName?: string): LedgerClient {
  const pool = new ConnectionPool({
    connectionString: databaseUrl,
    application_name: applicationName,
    max: 20,
    // Without these timeouts a request hangs while the database is down.
    connectionTimeoutMillis: 3_000,
    statement_timeout: 5_000,
    // A server that no longer responds does not enforce `statement_timeout`. Therefore the client needs its own
    // timeout.
    query_timeout: 5_500,
  });
  const adapter = new PrismaPg(pool, {
    disposeExternalPool: true,
    // The name generator may return undefined, although the adapter's type does not say so. For undefined, Prisma's
    // adapter does not prepare the statement.
    statementNameGenerator: statementNames() as (statement: { readonly sql: string }) => string,
  });
  const client = new PrismaClient({ adapter, transactionOptions: { maxWait: 3_000, timeout: 6_000 } });
  return client as unknown as LedgerClient;
}

/** Casts a value to Prisma's JSON type. Prisma's type requires an index signature, and our interfaces have none. */
export const json = (value: object): Prisma.InputJsonObject => value as Prisma.InputJsonObject;

/** True for Prisma's error "record not found" (P2025). Prisma throws it when a required row does not exist. */
export function isRowGone(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === 'P2025';
}

const CONSTRAINT_CODES = new Set(['23505', '23514', '23503']);

/** True when the database refused a write because of a unique key, a check or a foreign key. */
export function isConstraintViolation(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  if (code === 'P2002' || code === 'P2003' || code === 'P2004') return true;
  const cause =
    (error as { cause?: { originalCode?: string } }).cause ??
    (error as { meta?: { driverAdapterError?: { cause?: { originalCode?: string } } } }).meta
      ?.driverAdapterError?.cause;
  return cause?.originalCode !== undefined && CONSTRAINT_CODES.has(cause.originalCode);
}
