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
 * Text columns whose values a CHECK of the database lists, as the domain's types. Never called: only the type that
 * Prisma gives to such a client is used, so that a row costs nothing more to read. What is written stays a string, and
 * the CHECK refuses what is not in the list.
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

/** Its rows have the types of rows.ts. */
export type LedgerClient = ReturnType<typeof withDomainTypes>;
/** Inside a transaction. */
export type LedgerTx = Parameters<Parameters<LedgerClient['$transaction']>[0]>[0];

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
  const adapter = new PrismaPg(pool, {
    disposeExternalPool: true,
    // Its type does not say so: what has no name is not prepared.
    statementNameGenerator: statementNames() as (statement: { readonly sql: string }) => string,
  });
  const client = new PrismaClient({ adapter, transactionOptions: { maxWait: 3_000, timeout: 6_000 } });
  return client as unknown as LedgerClient;
}

/** A value of JSON for a column: an interface of ours has no index signature, so that Prisma's type does not take it. */
export const json = (value: object): Prisma.InputJsonObject => value as Prisma.InputJsonObject;

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
