// npm run demo [-- --channels wechatpay,alipay]: sends a batch of payments through the whole stack. Meanwhile,
// callbacks are lost, delayed, duplicated and forged, and processes are killed. Ends with a table, and exits with 0
// only if no payment was dropped.
import { setMaxListeners } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config.ts';
import { loadStackConfig } from '../stack/embedded-secrets.ts';
import { exitWith } from '../stack/errors.ts';
import { answers } from '../stack/program-spec.ts';
import { startStack } from '../stack/stack.ts';
import { requireProgramPorts, startPrograms } from '../stack/start-programs.ts';
import { Supervisor } from '../stack/supervisor.ts';
import { workerPolls } from '../stack/worker-probe.ts';
import { type Accounts, reconcile } from './accounts.ts';
import { readBooks } from './books.ts';
import { request } from './client.ts';
import { Doubles, obtainLibraries, titles } from './doubles.ts';
import { demoSettings, emptyFolder, reopenCommand } from './environment.ts';
import { Forger } from './forger.ts';
import { type DoubledChannel, readOptions } from './options.ts';
import { atChannels, PAYERS_A_SCENE, planPayers, scenesOf } from './payers.ts';
import { Progress } from './progress.ts';
import { closingTable, isClean, offendersList, type Report } from './report.ts';
import { Shop } from './shop.ts';
import { CALLBACK_DELAY_MS, FAULTS, type Killed, killProcesses, QUERY_FAULT_EVERY } from './trouble.ts';
import { SimulatorWallets, type Wallets } from './wallets.ts';

const SEED = 44;
const API_KEY = 'sk_dev_nodrop';
/** The demo gives up when nothing has changed for this long. */
const LIMIT_MS = 200_000;
const WORKER_DIES_AFTER_MS = 16_000;
const API_DIES_AFTER_MS = 32_000;
const LOOK_EVERY_MS = 1_000;
/** Timeout for reading the books at the end of the run. */
const READ_PATIENCE_MS = 20_000;
const INTERRUPTED = 130;

const options = readOptions(process.argv.slice(2));
const planned = planPayers(SEED, options.payers);
const payers = options.channels === undefined ? planned : atChannels(planned, options.channels);

const progress = new Progress();
const say = (line: string) => progress.say(line);
/** Aborts all work of payers, forger and watchers. */
const ending = new AbortController();
setMaxListeners(0, ending.signal);
let supervisor: Supervisor | undefined;
let doubles: Doubles | undefined;
let leaving = false;

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  process.on(signal, () => {
    // When a person presses Ctrl-C, the terminal and npm may both send the signal. So the process may receive it twice.
    if (leaving) return;
    say('Stopping everything ...');
    void leave(INTERRUPTED);
  });
}

async function leave(code: number): Promise<void> {
  leaving = true;
  progress.end();
  ending.abort();
  await supervisor?.stop();
  await doubles?.stop();
  process.exit(code);
}

/** Ends the demo as failed when a double ends, because a run without its doubles proves nothing. */
function fail(sentence: string): void {
  say(sentence);
  void leave(1);
}

try {
  const settings = await demoSettings(process.env);
  const apiUrl = `http://127.0.0.1:${settings.PORT}`;
  if (options.channels !== undefined) {
    doubles = new Doubles({ seed: SEED, apiUrl, signal: ending.signal });
    settings.NODROP_PUBLIC_URL = await doubles.listen();
  }
  const config = loadStackConfig(settings);
  if (options.channels !== undefined) await obtainLibraries(options.channels, config.stack.cacheDir);
  supervisor = await Supervisor.claim(config.home, say);
  emptyFolder(config.home);
  // Child processes of the supervisor inherit this environment.
  for (const name of Object.keys(process.env)) if (!(name in settings)) delete process.env[name];
  Object.assign(process.env, settings);
  const wallets = await start(supervisor, config, apiUrl);
  const report = await run(supervisor, config, wallets, apiUrl);
  if (!leaving) {
    progress.end();
    const clean = isClean(report);
    console.log(`\n${closingTable(report)}\n`);
    if (!clean) console.log(`${offendersList(report)}\n`);
    console.log(
      clean
        ? 'Nothing dropped: every cent in the wallet is in the order it paid, or given back.'
        : 'FAILED: see the list above.',
    );
    console.log(
      `Logs are in ${config.home}/logs. For the workflows in the Web UI: ${reopenCommand(settings)}`,
    );
    await leave(clean ? 0 : 1);
  }
} catch (error) {
  if (!leaving) {
    progress.end();
    ending.abort();
    await supervisor?.stop();
    await doubles?.stop();
    exitWith(error);
  }
}

/** Starts everything that payers need. @param apiUrl without a trailing slash. */
async function start(supervisor: Supervisor, config: Config, apiUrl: string): Promise<Wallets> {
  const startedAt = Date.now();
  const { channels } = options;
  const what = channels === undefined ? 'the channel simulator' : `the doubles of ${titles(channels)}`;
  say(`Starting PostgreSQL, Temporal, ${what}, the API and a worker ...`);
  const wallets =
    doubles === undefined || channels === undefined
      ? await startSimulated(supervisor, config)
      : await startDoubled(supervisor, config, doubles, channels);
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(1);
  say(`All up after ${seconds} s.`);
  say('');
  say(`  Temporal Web UI  ${config.temporal.uiUrl}`);
  say(`  API reference    ${apiUrl}/docs`);
  say(`  Logs             ${config.home}/logs`);
  say('');
  for (const line of channels === undefined ? simulatedTrouble() : doubledTrouble(titles(channels)))
    say(line);
  say('');
  return wallets;
}

async function startSimulated(supervisor: Supervisor, config: Config): Promise<Wallets> {
  await requireProgramPorts(config);
  await startStack(supervisor, config);
  await startPrograms(supervisor, config, 'log');
  const faults = `${config.simulator.url}/_control/faults`;
  const { status } = await request(ending.signal, 'PUT', faults, { seed: SEED, ...FAULTS });
  if (status !== 200) throw new Error(`PUT ${faults} was answered ${status}`);
  const { url, secrets } = config.simulator;
  return new SimulatorWallets(url, secrets.simulator ?? '', ending.signal);
}

async function startDoubled(
  supervisor: Supervisor,
  given: Config,
  doubles: Doubles,
  channels: readonly DoubledChannel[],
): Promise<Wallets> {
  // The demo starts the doubles instead of the simulator.
  const config = { ...given, simulator: { ...given.simulator, secrets: {} } };
  const onEnd = (sentence: string) => {
    if (!leaving) fail(sentence);
  };
  await requireProgramPorts(config);
  const starting = doubles.start(channels, config.stack.cacheDir, join(config.home, 'logs'), onEnd);
  const programs = startStack(supervisor, config).then(() => startPrograms(supervisor, config, 'log'));
  for (const result of await Promise.allSettled([starting, programs])) {
    if (result.status === 'rejected') throw result.reason;
  }
  say("Adding the merchant's accounts, as an operator would:");
  await doubles.addAccounts(say);
  return doubles;
}

function percent(rate: number): string {
  return `${Math.round(rate * 100)} %`;
}

function simulatedTrouble(): readonly string[] {
  const { dropRate, delayMs, corruptSignatureRate, wrongAmountRate } = FAULTS.callback;
  return [
    `${payers.length} payers buy. The channel never sends ${percent(dropRate)} of its callbacks. It sends the others`,
    `${delayMs / 1000} s late, twice, and out of order; ${percent(corruptSignatureRate)} with a broken signature, ${percent(wrongAmountRate)} with a wrong amount.`,
    `${PAYERS_A_SCENE} payers pay one order in two wallets, ${PAYERS_A_SCENE} pay after the channel has closed their payment, and`,
    `${PAYERS_A_SCENE} pay after the shop has cancelled their order.`,
  ];
}

function doubledTrouble(where: string): readonly string[] {
  const { dropRate, delayMs, corruptSignatureRate, wrongAmountRate } = FAULTS.callback;
  const scenes = scenesOf(payers);
  return [
    `${payers.length} payers pay at doubles of ${where}: processes with their own books, which`,
    'verify every request with Python libraries. No real channel is involved. Of their callbacks,',
    `${percent(dropRate)} are lost on the way. The others arrive ${delayMs / 1000} s late and twice; ${percent(corruptSignatureRate)} with a broken signature,`,
    `${percent(wrongAmountRate)} with a wrong amount. Every ${QUERY_FAULT_EVERY} s a query fails or gets an invalid answer.`,
    ...(scenes.has('paidTwice') ? [`${PAYERS_A_SCENE} payers pay one order in two wallets.`] : []),
    ...(scenes.has('paidLate')
      ? [`${PAYERS_A_SCENE} payers pay by a link after the shop has cancelled the payment.`]
      : []),
    ...(scenes.has('cancelled')
      ? [`${PAYERS_A_SCENE} payers pay by a link after the shop has cancelled the order.`]
      : []),
  ];
}

/** Runs the payers and the forger and kills processes until everything is settled, and then compares the books. */
async function run(
  supervisor: Supervisor,
  config: Config,
  wallets: Wallets,
  apiUrl: string,
): Promise<Report> {
  const startedAt = Date.now();
  const { signal } = ending;
  const forger = new Forger({ apiUrl, signal, wallets });
  const shop = new Shop({
    apiUrl,
    apiKey: API_KEY,
    wallets,
    signal,
    onBought(payer, payment) {
      if (payer.habit === 'never pays') forger.attack(payer, payment);
    },
  });
  const accounts = async (signal: AbortSignal) =>
    reconcile(
      await readBooks({ apiUrl, apiKey: API_KEY, trades: (ending) => wallets.trades(ending) }, signal),
      shop.confirmed,
    );
  const deadline = setTimeout(() => ending.abort(), LIMIT_MS);

  let killed: readonly Killed[] = [];
  let isServed = false;
  const work = Promise.all([
    shop.serve(payers),
    killProcesses(
      supervisor,
      [
        {
          name: 'worker',
          afterMs: WORKER_DIES_AFTER_MS,
          isBack: (at, pid) => workerPolls(config.temporal, at, pid),
        },
        { name: 'api', afterMs: API_DIES_AFTER_MS, isBack: () => answers(`${apiUrl}/readyz`) },
      ],
      say,
      signal,
    ).then((done) => {
      killed = done;
    }),
  ])
    .then(() => forger.done())
    .finally(() => {
      isServed = true;
    });
  doubles?.run().catch((error) => {
    if (!leaving) fail(String(error));
  });
  // `work` is awaited only later. Without this handler, an earlier failure of `work` would be an unhandled rejection.
  work.catch(() => undefined);

  let seconds = 0;
  let stands = '';
  while (!signal.aborted) {
    const now = await accounts(signal).catch(() => undefined);
    seconds = (Date.now() - startedAt) / 1000;
    if (now !== undefined) {
      progress.show(liveLine(seconds, shop, now));
      // A slow machine is not a failure. So the deadline starts again after each change.
      const is = liveLine(0, shop, now);
      if (is !== stands) deadline.refresh();
      stands = is;
      if (isServed && isSettled(now)) break;
    }
    await sleep(LOOK_EVERY_MS, undefined, { signal }).catch(() => undefined);
  }
  clearTimeout(deadline);
  if (leaving) return await new Promise(() => {});
  if (signal.aborted)
    say(`Not everything is settled, and nothing has changed for ${LIMIT_MS / 1000} s. The state is now:`);
  await work;
  progress.show('Comparing the books ...');
  // Waits for the last delayed callbacks. Otherwise the report would count them as lost.
  await sleep(CALLBACK_DELAY_MS + 1_000);
  return {
    accounts: await accounts(AbortSignal.timeout(READ_PATIENCE_MS)),
    missing: doubles === undefined ? 'never sent' : 'lost',
    scenes: scenesOf(payers),
    shop: { ...shop, bought: shop.bought.size },
    forged: forger,
    killed,
    seconds,
  };
}

/**
 * True when nothing more will happen: all paid money is in an order or given back, and all unpaid payments have ended.
 */
function isSettled({ offences, live }: Accounts): boolean {
  return live === 0 && offences.every(({ kind }) => kind !== 'dropped' && kind !== 'attention');
}

function liveLine(seconds: number, shop: Shop, { orders, refunds }: Accounts): string {
  const { bought, confirmed } = shop;
  const back = [...refunds.values()].reduce((sum, { count }) => sum + count, 0);
  const waiting = Math.max(0, confirmed.size - orders.count - back);
  const elapsed = `${String(Math.round(seconds)).padStart(4)} s`;
  const created = `${bought.size}/${payers.length}`;
  // The line is shorter than 80 columns, so that it fits into one line of a terminal.
  return `${elapsed}  created ${created}  paid: wallet ${confirmed.size}, orders ${orders.count}, back ${back}  waiting ${waiting}`;
}
