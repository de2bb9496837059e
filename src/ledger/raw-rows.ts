import { Prisma } from '../generated/prisma/client.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import type { Callback, Order, Payment, Refund } from './rows.ts';
import type { Note } from './timeline.ts';

/**
 * Converts a row that PostgreSQL returns as JSON (`to_jsonb`) into a type of rows.ts, and converts a row or its changes
 * into SQL. No other module makes such conversions.
 */

/**
 * The type of each column that is not text, number or boolean. If a column is missing here, the code does not compile.
 */
type Kinds<Row> = {
  readonly [Name in keyof Row as Kind<Row[Name]> extends never ? never : Name]: Kind<Row[Name]>;
};
type Kind<Value> =
  Extract<Value, Date> extends never
    ? Extract<Value, bigint> extends never
      ? Prisma.JsonObject extends Value
        ? 'json'
        : never
      : 'bigint'
    : 'time';

interface Table<Row> {
  readonly name: string;
  readonly kinds: Kinds<Row>;
}

/** A callback without its body, because nodrop never reads a stored body again. */
export type StoredCallback = Omit<Callback, 'body'>;

export const ORDERS: Table<Order> = {
  name: 'orders',
  kinds: {
    amount: 'bigint',
    paidAt: 'time',
    metadata: 'json',
    expiresAt: 'time',
    cancelRequestedAt: 'time',
    recoveredAt: 'time',
    nextSweepAt: 'time',
    createdAt: 'time',
    updatedAt: 'time',
  },
};

export const PAYMENTS: Table<Payment> = {
  name: 'payments',
  kinds: {
    amount: 'bigint',
    nextAction: 'json',
    referenceData: 'json',
    createAskedAt: 'time',
    noActionSince: 'time',
    closeNotBefore: 'time',
    receivedAmount: 'bigint',
    payerAmount: 'bigint',
    refundedAmount: 'bigint',
    channelAnsweredAt: 'time',
    channelStateSince: 'time',
    channelErrorSince: 'time',
    channelAnswer: 'json',
    attentionSince: 'time',
    hiddenAttentionSince: 'time',
    disputes: 'json',
    payer: 'json',
    metadata: 'json',
    lastHintAt: 'time',
    lastQueryDueAt: 'time',
    noticedAt: 'time',
    nextSweepAt: 'time',
    workflowBusySince: 'time',
    createdAt: 'time',
    expiresAt: 'time',
    paidAt: 'time',
    settledAt: 'time',
    orderUpdatedAt: 'time',
    cancelRequestedAt: 'time',
    endedAt: 'time',
    recoveredAt: 'time',
    updatedAt: 'time',
  },
};

export const CALLBACKS: Table<StoredCallback> = {
  name: 'callbacks',
  kinds: { answer: 'json', receivedAt: 'time', deliveredAt: 'time', nextSweepAt: 'time' },
};

export const REFUNDS: Table<Refund> = {
  name: 'refunds',
  kinds: {
    amount: 'bigint',
    askedAmount: 'bigint',
    askedAt: 'time',
    keySpentAt: 'time',
    absentAt: 'time',
    lookedAgainAt: 'time',
    unknownSince: 'time',
    nextSweepAt: 'time',
    createdAt: 'time',
    settledAt: 'time',
    updatedAt: 'time',
  },
};

/** A row as `to_jsonb` returns it, keyed by column names. */
export type RawRow = Readonly<Record<string, unknown>>;

export function readRow<Row>({ kinds }: Table<Row>, raw: RawRow): Row {
  return Object.fromEntries(
    Object.entries(raw).map(([column, value]) => {
      const name = column.replaceAll(/_(.)/g, (_, letter: string) => letter.toUpperCase());
      const kind = (kinds as Record<string, string | undefined>)[name];
      if (value === null) return [name, null];
      if (kind === 'time') return [name, new Date(value as string)];
      if (kind === 'bigint') return [name, BigInt(value as number)];
      return [name, value];
    }),
  ) as Row;
}

/** The changes of a row. An `increment` adds to the column's current value. */
export type Changes<Row> = { readonly [Name in keyof Row]?: Row[Name] | object | { increment: number } };

const columnOf = (name: string) =>
  Prisma.raw(`"${name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}"`);

function sqlOf<Row>({ kinds }: Table<Row>, name: string, value: unknown): Prisma.Sql {
  const kind = (kinds as Record<string, string | undefined>)[name];
  if (kind === 'json') return Prisma.sql`${value == null ? null : JSON.stringify(value)}::jsonb`;
  if (kind === 'time') return Prisma.sql`${value}::timestamptz`;
  if (kind === 'bigint') return Prisma.sql`${value}::bigint`;
  return Prisma.sql`${value}`;
}

const given = (changes: object): [string, unknown][] =>
  Object.entries(changes).filter(([, value]) => value !== undefined);

/** The column list `"a", "b"` and the list of its values. */
export function columnsAndValues<Row>(
  table: Table<Row>,
  row: Changes<Row>,
): { columns: Prisma.Sql; values: Prisma.Sql } {
  const fields = given(row);
  return {
    columns: Prisma.join(fields.map(([name]) => columnOf(name))),
    values: Prisma.join(fields.map(([name, value]) => sqlOf(table, name, value))),
  };
}

/** The assignments of an UPDATE: `"a" = ..., "b" = ...` */
export function assignments<Row>(table: Table<Row>, changes: Changes<Row>): Prisma.Sql {
  return Prisma.join(
    given(changes).map(([name, value]) => {
      const column = columnOf(name);
      const isCount = table.kinds[name as keyof Kinds<Row>] === undefined && isIncrement(value);
      return isCount
        ? Prisma.sql`${column} = ${Prisma.raw(`${table.name}."${column.sql.slice(1, -1)}"`)} + ${value.increment}::int`
        : Prisma.sql`${column} = ${sqlOf(table, name, value)}`;
    }),
  );
}

const isIncrement = (value: unknown): value is { increment: number } =>
  typeof value === 'object' && value !== null && 'increment' in value;

/** Inserts timeline entries for the payment of each row of `source`; `source` needs a column `payment_id`. */
export function notesOf(source: Prisma.Sql, notes: readonly Note[]): Prisma.Sql {
  const rows = notes.map(({ kind, detail, at, data }) => ({ kind, detail, at: at.toISOString(), data }));
  return Prisma.sql`
    INSERT INTO timeline (payment_id, kind, detail, at, data)
    SELECT ${source}.payment_id, note.kind, note.detail, note.at, note.data
    FROM ${source}, ROWS FROM (
      jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) AS (kind text, detail text, at timestamptz, data jsonb)
    ) WITH ORDINALITY AS note (kind, detail, at, data, place)
    ORDER BY note.place`;
}

/** Takes the order's lock. A decision must read its rows with a later statement. */
export async function takeOrderLock(tx: LedgerTx, merchantId: string, orderId: string): Promise<void> {
  await tx.$queryRaw`SELECT 1 FROM orders WHERE merchant_id = ${merchantId} AND id = ${orderId} FOR UPDATE`;
}

/** Runs a raw statement and returns its rows. */
export async function rowsOf<Row>(db: LedgerClient | LedgerTx, sql: Prisma.Sql): Promise<Row[]> {
  return await db.$queryRaw<Row[]>(sql);
}
