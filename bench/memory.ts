import { setTimeout as sleep } from 'node:timers/promises';
import { querySchedules } from '../src/channels/registry.ts';
import { Connection } from '../src/ledger/connection.ts';
import { PaymentWorkflows } from '../src/temporal/payment-workflows.ts';
import { cpuByPart, residentMiB } from './cpu.ts';
import { atEnd } from './ending.ts';
import { insertPayments } from './many-payments.ts';
import { type BenchMerchant, makeMerchant, startService } from './service.ts';
import { APPLICATION_NAME } from './statement-log.ts';
import { partsOf } from './throughput.ts';

const MERCHANTS = 10;
const FEW = 500;
const MANY = 5_000;
/**
 * Number of payments that are started concurrently. It is small enough for the worker's workflow cache. With a larger
 * number, the worker would reread workflow histories.
 */
const BEGUN_AT_ONCE = 50;
const START_DEADLINE_MS = 60_000;
const LOOK_EVERY_MS = 200;
const SAY_EVERY_MS = 2_000;
const MEASURED_MS = 60_000;
/**
 * The interval between polls, which equals the last interval of the default schedule. The default schedule starts with
 * shorter intervals. These would put the polls of all new payments close together, and keep a slow machine busy.
 */
const SCHEDULE = '5m';

interface Waiting {
  readonly pending: number;
  /** The worker's resident memory: the median over one minute. */
  readonly medianMiB: number;
  readonly mostMiB: number;
  /** Average number of busy cores of each process, over the minute in which the memory is measured. */
  readonly cores: Readonly<Record<string, number>>;
}

/** Measures the worker's memory with few and with many unpaid payments. */
export async function memory(): Promise<object> {
  const service = await startService({ NODROP_QUERY_SCHEDULE: SCHEDULE });
  const { config, temporal, db } = service;
  const pids = partsOf(service);
  const idleMiB = residentMiB(pids.worker);
  console.log(`idle: ${idleMiB} MiB`);
  const merchants: BenchMerchant[] = [];
  for (let n = 1; n <= MERCHANTS; n++) merchants.push(await makeMerchant(service, `merchant-${n}`));
  const connection = new Connection({
    connectionString: config.databaseUrl,
    application_name: APPLICATION_NAME,
  });
  await connection.connect();
  atEnd(() => connection.end());
  const workflows = new PaymentWorkflows(temporal, querySchedules(config));
  let made = 0;

  /** Creates payments until `pending` payments wait for their payers. */
  const until = async (pending: number) => {
    await insertPayments({ connection, merchants, from: made + 1, to: pending, state: 'created' });
    let saidAt = 0;
    for (;;) {
      const { rows } = await connection.query<{ count: string }>(
        "select count(*) from payments where status = 'paying'",
      );
      const paying = Number(rows[0]?.count);
      if (paying === pending || performance.now() - saidAt >= SAY_EVERY_MS) {
        saidAt = performance.now();
        console.log(
          `  ${paying} of ${pending} wait for their payers; worker ${residentMiB(pids.worker)} MiB`,
        );
      }
      if (paying === pending) return;
      const next = Math.min(pending, paying + BEGUN_AT_ONCE);
      const ids = Array.from({ length: Math.max(0, next - made) }, (_, n) => `p${made + n + 1}`);
      made = Math.max(made, next);
      const begun = await db.payment.findMany({ where: { id: { in: ids } } });
      await Promise.all(begun.map((payment) => workflows.wake(payment, START_DEADLINE_MS)));
      await sleep(LOOK_EVERY_MS);
    }
  };

  const watch = async (pending: number): Promise<Waiting> => {
    const seen: number[] = [];
    const [from, cpu] = [performance.now(), cpuByPart(pids)];
    while (performance.now() - from < MEASURED_MS) {
      seen.push(residentMiB(pids.worker));
      console.log(`  ${pending} pending: worker ${seen.at(-1)} MiB`);
      await sleep(SAY_EVERY_MS);
    }
    const [ms, after] = [performance.now() - from, cpuByPart(pids)];
    const parts = Object.keys(pids) as (keyof typeof pids)[];
    const cores = parts.map((part) => [part, Number(((after[part] - cpu[part]) / ms).toFixed(2))]);
    seen.sort((a, b) => a - b);
    return {
      pending,
      medianMiB: seen[Math.floor(seen.length / 2)] ?? 0,
      mostMiB: seen.at(-1) ?? 0,
      cores: Object.fromEntries(cores),
    };
  };

  await until(FEW);
  const few = await watch(FEW);
  await until(MANY);
  const many = await watch(MANY);
  const ratio = Number((many.mostMiB / few.mostMiB).toFixed(2));
  console.log(
    `${FEW} pending: ${few.mostMiB} MiB at most; ${MANY} pending: ${many.mostMiB} MiB at most, ${ratio} times as much`,
  );
  return { idleMiB, few, many, ratio };
}
