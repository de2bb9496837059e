// npm run bench:migrate [-- PAYMENTS]
//
// Migrates a ledger of a million payments while callbacks arrive over HTTP. PostgreSQL, Temporal and the API are
// separate processes on free ports, with a data folder that is removed at the end. Prints how long each migration took,
// how long callbacks took during the migration, and how long callbacks were refused. Exits with 1 if a callback was
// refused for longer than the lock timeout. docs/operations.md has a result.
import { randomUUID } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sign, signer } from '../src/channels/simulator/protocol.ts';
import { createLedgerClient } from '../src/ledger/client.ts';
import { Connection } from '../src/ledger/connection.ts';
import { ensureMerchant } from '../src/ledger/merchants.ts';
import { loadStackConfig } from '../src/stack/embedded-secrets.ts';
import { applyMigrations, PATIENCE, prismaDir } from '../src/stack/migrate.ts';
import { freePort } from '../src/stack/ports.ts';
import { answers, program } from '../src/stack/program-spec.ts';
import { startStack } from '../src/stack/stack.ts';
import { Supervisor } from '../src/stack/supervisor.ts';

const PAYMENTS = Number(process.argv[2] ?? 1_000_000);
/** Number of unpaid payments, for each of which at most one callback is sent. */
const WAITING = Math.min(PAYMENTS, 100_000);
const CLIENTS = 4;
/** Duration of the phase with callbacks and without a migration, as the baseline. */
const ALONE_MS = 10_000;
/** How long another transaction holds a lock on `payments` while a migration waits to change this table. */
const HELD_MS = 5_000;

/** A callback that was acknowledged, possibly after refusals. */
interface Callback {
  readonly storedAt: number;
  /** Time in ms from the first request to the acknowledgement. */
  readonly ms: number;
  readonly refusals: number;
  /** Time in ms from the first refusal to the acknowledgement. */
  readonly refusedMs: number;
}

const home = mkdtempSync(join(tmpdir(), 'nodrop-bench-'));
const ports: Record<string, string> = {};
for (const name of [
  'PORT',
  'NODROP_ADMIN_PORT',
  'NODROP_POSTGRES_PORT',
  'NODROP_TEMPORAL_PORT',
  'NODROP_TEMPORAL_UI_PORT',
]) {
  ports[name] = String(await freePort());
}
const env = { ...process.env, NODROP_HOME: home, ...ports };
const config = loadStackConfig(env);
const supervisor = await Supervisor.claim(home);
try {
  await startStack(supervisor, config);
  await makePayments();
  const apiUrl = config.api.publicUrl;
  const api = program('api', 'api/main.ts', () => answers(`${apiUrl}/readyz`));
  await supervisor.start({ ...api, output: 'log', env });
  process.exitCode = (await measure(apiUrl)) ? 0 : 1;
} finally {
  await supervisor.stop();
  rmSync(home, { recursive: true, force: true });
}

async function makePayments() {
  const db = createLedgerClient(config.databaseUrl);
  const { merchant } = await ensureMerchant(db, 'bench', ['simulator']);
  const account = await db.channelAccount.findFirstOrThrow({ where: { merchantId: merchant.id } });
  // The callbacks are sent to the URL without an account id, so this account must own that URL.
  await db.channelAccount.update({ where: { id: account.id }, data: { ownsChannelAddress: true } });
  await db.$disconnect();
  console.log(`Making ${PAYMENTS} payments ...`);
  // Inserts without triggers and foreign keys, because they would double the time.
  await run(`
    set session_replication_role = replica;
    insert into orders (merchant_id, id, amount, currency, subject, status)
      select '${merchant.id}', 'o' || n, 1990, 'CNY', 'Coffee', case when n <= ${WAITING} then 'paying' else 'closed' end
        from generate_series(1, ${PAYMENTS}) n`);
  await run(`
    set session_replication_role = replica;
    insert into payments (id, merchant_id, order_id, channel, channel_account_id, method, amount, currency, status,
        client_token_hash, expires_at, created_at, ended_at)
      select 'p' || n, '${merchant.id}', 'o' || n, 'simulator', '${account.id}', 'redirect', 1990, 'CNY',
             case when n <= ${WAITING} then 'paying' else 'closed' end, 'h' || n, now() + interval '1 day',
             now() - n * interval '1 second', case when n <= ${WAITING} then null else now() end
        from generate_series(1, ${PAYMENTS}) n`);
  await run('analyze');
}

async function run(sql: string) {
  const client = new Connection({ connectionString: config.databaseUrl });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

/** @returns true if no callback was refused for longer than the lock timeout. */
async function measure(apiUrl: string): Promise<boolean> {
  const callbacks: Callback[] = [];
  let sending = true;
  let sent = 0;
  const webhook = signer(config.simulator.secrets.simulator ?? '');
  /** @returns true if the callback was acknowledged. */
  const deliver = async (outTradeNo: string) => {
    const transactionId = `t-${outTradeNo}`;
    const trade = { outTradeNo, state: 'SUCCESS', amount: 1990, currency: 'CNY', transactionId };
    const body = JSON.stringify({
      type: 'trade.succeeded',
      data: { ...trade, paidAt: new Date().toISOString() },
    });
    const answer = await fetch(`${apiUrl}/callbacks/simulator`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...sign(webhook, `msg_${randomUUID()}`, body) },
      body,
    }).catch(() => undefined);
    await answer?.arrayBuffer();
    return answer?.ok === true;
  };
  const send = async () => {
    while (sending && sent < WAITING) {
      sent += 1;
      const outTradeNo = `p${sent}`;
      const began = performance.now();
      let refusals = 0;
      let refusedFrom = Number.POSITIVE_INFINITY;
      // Repeats a callback until it is acknowledged, as a channel does.
      while (!(await deliver(outTradeNo))) {
        refusals += 1;
        refusedFrom = Math.min(refusedFrom, performance.now());
        await sleep(50);
      }
      const storedAt = performance.now();
      const refusedMs = Math.max(0, storedAt - refusedFrom);
      callbacks.push({ storedAt, ms: storedAt - began, refusals, refusedMs });
    }
  };
  const clients = Array.from({ length: CLIENTS }, send);

  const dir = join(home, 'prisma');
  cpSync(prismaDir, dir, { recursive: true });
  let number = 0;
  let longest = 0;
  const phase = async (what: string, work: () => Promise<unknown>) => {
    const from = performance.now();
    await work();
    const took = performance.now() - from;
    // Wait for the callbacks that are still in flight, because they are part of this phase.
    const pending = sent - callbacks.length;
    const known = callbacks.length;
    while (callbacks.length < known + pending && sending) await sleep(50);
    const of = callbacks.filter(({ storedAt }) => storedAt >= from);
    const sorted = of.map(({ ms }) => ms).sort((a, b) => a - b);
    const median = sorted[Math.floor(sorted.length / 2)] ?? 0;
    const refused = of.filter(({ refusals }) => refusals > 0);
    const refusedMs = Math.max(0, ...refused.map((callback) => callback.refusedMs));
    const refusal =
      refused.length === 0
        ? 'none refused'
        : `${refused.length} refused, for ${refusedMs.toFixed(0)} ms at most`;
    console.log(
      `${what}: ${(took / 1000).toFixed(1)} s; ${of.length} callbacks, median ${median.toFixed(0)} ms, longest ${(sorted.at(-1) ?? 0).toFixed(0)} ms, ${refusal}`,
    );
    return refusedMs;
  };
  const migrate = async (what: string, sql: string) => {
    number += 1;
    const folder = join(dir, 'migrations', `9999010100000${number}_bench`);
    mkdirSync(folder);
    writeFileSync(join(folder, 'migration.sql'), sql);
    longest = Math.max(longest, await phase(what, () => applyMigrations(config.databaseUrl, dir)));
  };

  console.log(`${PAYMENTS} payments, ${CLIENTS} clients, ${availableParallelism()} cores`);
  await phase('callbacks alone', () => sleep(ALONE_MS));
  await migrate('a column', 'alter table payments add column bench int not null default 0;');
  await migrate(
    'a check, NOT VALID',
    'alter table payments add constraint bench_check check (bench >= 0 and amount > 0) not valid;',
  );
  await migrate('VALIDATE CONSTRAINT', 'alter table payments validate constraint bench_check;');
  await migrate(
    'an index CONCURRENTLY',
    'create index concurrently bench_idx on payments (merchant_id, updated_at, id);',
  );
  const holder = new Connection({ connectionString: config.databaseUrl });
  await holder.connect();
  await holder.query('begin');
  await holder.query('select id from payments limit 1');
  const released = sleep(HELD_MS).then(() => holder.query('commit'));
  await migrate(
    `a column, while a transaction holds a lock for ${HELD_MS / 1000} s`,
    'alter table payments add column bench_too int;',
  );
  await released;
  await holder.end();
  // Runs statements that the migration rules forbid, to compare them with the migrations.
  await phase('not allowed: a check that is valid at once', () =>
    run('alter table payments add constraint bench_slow check (amount > 0 and bench >= 0)'),
  );
  await phase('not allowed: an index without CONCURRENTLY', () =>
    run('create index bench_slow_idx on payments (merchant_id, updated_at, id)'),
  );
  sending = false;
  await Promise.all(clients);
  const good = longest <= PATIENCE.lockTimeoutMs;
  console.log(
    longest === 0
      ? 'No callback was refused during a migration.'
      : `Callbacks were refused for ${longest.toFixed(0)} ms at most; the lock timeout is ${PATIENCE.lockTimeoutMs} ms.`,
  );
  return good;
}
