import { readFile } from 'node:fs/promises';
import pg from 'pg';

/** The key of an advisory lock. It can be any number that nothing else in this database uses for such a lock. */
const SCHEMA_LOCK = 0x73686f70;

// Amounts are far below 2^53, so they fit a Number.
pg.types.setTypeParser(pg.types.builtins.INT8, Number);

/** Connects to the shop's database and makes its tables when they are missing. */
export async function openDatabase(url: string): Promise<pg.Pool> {
  const pool = new pg.Pool({
    connectionString: url,
    connectionTimeoutMillis: 5_000,
    statement_timeout: 10_000,
  });
  // The pool replaces a connection that breaks, and the query on that connection fails. Without these listeners the
  // error would end the process.
  pool.on('error', ignore);
  pool.on('connect', (client) => client.on('error', ignore));
  try {
    await createTables(pool);
    return pool;
  } catch (error) {
    await pool.end();
    throw error;
  }
}

async function createTables(pool: pg.Pool): Promise<void> {
  const schema = await readFile(new URL('./schema.sql', import.meta.url), 'utf8');
  await inTransaction(pool, async (tx) => {
    // Two processes that start at the same time need a lock, because "if not exists" alone fails for one of them.
    await tx.query('select pg_advisory_xact_lock($1)', [SCHEMA_LOCK]);
    await tx.query(schema);
  });
}

/** False for a text that PostgreSQL cannot store: it refuses the character U+0000, even in a query. */
export const isStorable = (text: string): boolean => !text.includes('\0');

/** Commits the changes of `work` when it returns, and rolls them back when it throws. */
export async function inTransaction<T>(pool: pg.Pool, work: (tx: pg.PoolClient) => Promise<T>): Promise<T> {
  const tx = await pool.connect();
  try {
    await tx.query('begin');
    const result = await work(tx);
    await tx.query('commit');
    return result;
  } catch (error) {
    await tx.query('rollback').catch(ignore);
    throw error;
  } finally {
    tx.release();
  }
}

function ignore(): void {}
