import { createLedgerClient } from '../src/ledger/client.ts';
import { Connection } from '../src/ledger/connection.ts';
import { settlePayment } from '../src/ledger/payments.ts';
import { atEnd } from './ending.ts';
import { insertPayments } from './many-payments.ts';
import { type BenchMerchant, makeMerchant, startDatabase } from './service.ts';
import { APPLICATION_NAME } from './statement-log.ts';

const SETTLERS = 32;
/** Number of ledger clients. Each client has 20 database connections, as many as a nodrop process has. */
const LEDGER_CLIENTS = 2;
/** There are more merchants than concurrent settlers, so that settlers rarely wait for each other's locks. */
const MERCHANTS = 40;
const PAYMENTS = 40_000;
/** Times in ms by which each flush of the WAL is delayed, to simulate a slower disk. */
const FLUSHES_MS = [0, 4] as const;
const ROUNDS = 2;
const ROUND_MS = 10_000;
const SAY_EVERY_MS = 2_000;
/** Number of commits by a single client, from which the bench learns how long a flush takes. */
const COMMITS = 100;

interface Rates {
  readonly flushMs: number;
  /** Median time of a commit of one row by a single client. */
  readonly commitMs: number;
  /** Number of payments per second that the ledger's `settlePayment` has settled. */
  readonly settledPerSecond: number;
  /**
   * Share of the time in which this process, which runs the settlers, is busy. If the share is near 1, this process
   * limits the rate, and not the database.
   */
  readonly settlersBusy: number;
  /**
   * The rate of plain UPDATEs, for comparison. Each UPDATE changes one payment in its own transaction, without nodrop's
   * code.
   */
  readonly updatedPerSecond: number;
}

/**
 * Measures concurrent settling on one database: once with the time that a flush takes on this machine, and once with a
 * longer time.
 */
export async function settlers(): Promise<object> {
  const { config, db } = await startDatabase();
  const connect = async () => {
    const connection = new Connection({
      connectionString: config.databaseUrl,
      application_name: APPLICATION_NAME,
    });
    await connection.connect();
    atEnd(() => connection.end());
    return connection;
  };
  const connection = await connect();
  const merchants: BenchMerchant[] = [];
  for (let n = 1; n <= MERCHANTS; n++) merchants.push(await makeMerchant({ config, db }, `merchant-${n}`));
  console.log(`Making ${PAYMENTS} payments ...`);
  await insertPayments({ connection, merchants, from: 1, to: PAYMENTS, state: 'paid' });
  await connection.query('vacuum analyze orders, payments');
  const ledgers = Array.from({ length: LEDGER_CLIENTS }, () => {
    const ledger = createLedgerClient(config.databaseUrl, APPLICATION_NAME);
    atEnd(() => ledger.$disconnect());
    return ledger;
  });
  const raw = await Promise.all(Array.from({ length: SETTLERS }, connect));

  let next = 0;
  /** Each payment is used only once, because a payment can be settled only once. */
  const settle = async (settler: number) => {
    next += 1;
    const ledger = ledgers[settler % ledgers.length];
    // `insertPayments` gave the payment these ids. The merchant's id is known without a read from the database, as in a
    // payment's workflow.
    const payment = { paymentId: `p${next}`, orderId: `o${next}` };
    const merchant = merchants[next % merchants.length];
    if (ledger === undefined || merchant === undefined || next > PAYMENTS)
      throw new Error('The payments are used up.');
    await settlePayment(ledger, { ...payment, merchantId: merchant.id }, new Date());
  };
  const update = async (settler: number) => {
    await raw[settler]?.query('update payments set updated_at = now() where id = $1', [
      `p${PAYMENTS - settler}`,
    ]);
  };

  const rounds: Rates[] = [];
  for (let n = 1; n <= ROUNDS; n++) {
    for (const flushMs of FLUSHES_MS) {
      await setFlush(connection, flushMs);
      const what = `${flushMs} ms more of flush, round ${n} of ${ROUNDS}`;
      const commitMs = await commitTime(connection);
      const settled = await atOnce(`settled, ${what}`, settle);
      const updated = await atOnce(`updated, ${what}`, update);
      rounds.push({
        flushMs,
        commitMs,
        settledPerSecond: settled.perSecond,
        settlersBusy: settled.busy,
        updatedPerSecond: updated.perSecond,
      });
    }
  }
  for (const { flushMs, settledPerSecond, updatedPerSecond, commitMs } of rounds) {
    console.log(
      `${flushMs} ms more (a commit takes ${commitMs}): ${settledPerSecond} settled and ${updatedPerSecond} updated a second`,
    );
  }
  return { settlers: SETTLERS, merchants: MERCHANTS, rounds };
}

/**
 * Delays each flush of the WAL by `commit_delay`. The backend that flushes waits for this time, and all other backends
 * wait for that backend, as they would on a slow disk. With `commit_siblings` 0, the backend waits even if no other
 * transaction is active.
 */
async function setFlush(connection: Connection, flushMs: number): Promise<void> {
  await connection.query(`alter system set commit_delay = ${flushMs * 1000}`);
  await connection.query('alter system set commit_siblings = 0');
  await connection.query('select pg_reload_conf()');
  for (;;) {
    const { rows } = await connection.query<{ delay: string }>(
      "select current_setting('commit_delay') as delay",
    );
    if (Number(rows[0]?.delay) === flushMs * 1000) return;
  }
}

/** Median time of a commit, in ms. */
async function commitTime(connection: Connection): Promise<number> {
  const times: number[] = [];
  for (let n = 0; n < COMMITS; n++) {
    const from = performance.now();
    await connection.query("update merchants set name = name where name = 'merchant-1'");
    times.push(performance.now() - from);
  }
  return Number((times.sort((a, b) => a - b)[COMMITS / 2] ?? 0).toFixed(1));
}

/** Runs `once` repeatedly in SETTLERS concurrent loops for ROUND_MS. */
async function atOnce(
  what: string,
  once: (settler: number) => Promise<void>,
): Promise<{ perSecond: number; busy: number }> {
  const from = performance.now();
  const loop = performance.eventLoopUtilization();
  let done = 0;
  const say = setInterval(
    () => console.log(`  ${what}: ${((performance.now() - from) / 1000).toFixed(0)} s, ${done} done`),
    SAY_EVERY_MS,
  );
  try {
    await Promise.all(
      Array.from({ length: SETTLERS }, async (_, settler) => {
        while (performance.now() - from < ROUND_MS) {
          await once(settler);
          done += 1;
        }
      }),
    );
  } finally {
    clearInterval(say);
  }
  const busy = performance.eventLoopUtilization(loop).utilization;
  const perSecond = done / ((performance.now() - from) / 1000);
  return { perSecond: Math.round(perSecond), busy: Number(busy.toFixed(2)) };
}
