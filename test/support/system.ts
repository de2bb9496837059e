import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import type { Config } from '../../src/config.ts';
import { createLedgerClient, type LedgerClient } from '../../src/ledger/client.ts';
import { loadStackConfig } from '../../src/stack/embedded-secrets.ts';
import { applyMigrations } from '../../src/stack/migrate.ts';
import { startPostgres } from '../../src/stack/postgres-server.ts';
import { answers, listens, program } from '../../src/stack/program-spec.ts';
import { startTemporal } from '../../src/stack/temporal-server.ts';
import { workerPolls } from '../../src/stack/worker-probe.ts';
import { client as simulatorClient } from '../simulator/support.ts';
import { eventually, freePort, supervise, temporalCli, temporaryHome, watchLedger } from './stack.ts';

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: tests read fields of the answers.
  readonly body: any;
}

/**
 * nodrop as it runs for a user. PostgreSQL, Temporal, the simulator, the API and the worker each run as a
 * process that tests can kill. They have free ports and their own data folders.
 */
export interface System {
  readonly config: Config;
  readonly simulator: ReturnType<typeof simulatorClient>;
  readonly db: LedgerClient;
  readonly temporal: Client;
  readonly apiUrl: string;
  /** Calls the API with the development key. `body` is sent as JSON. */
  api(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  /** Creates a payment of a new order over HTTP. */
  pay(changes?: object): Promise<Answer>;
  /**
   * Like `pay`, but repeats the request until the payment has a next action. On a slow machine, the next action takes
   * some time.
   */
  payable(changes?: object): Promise<Answer>;
  orderStatus(orderId: string): Promise<string | undefined>;
  startWorker(): Promise<void>;
  /** Starts a second worker process. If it ends, no supervisor restarts it. */
  startSecondWorker(): Promise<ChildProcess & { readonly pid: number }>;
  /** The pid of a supervised process. */
  pidOf(name: 'api' | 'worker' | 'simulator'): number | undefined;
  /** Starts a second API process. @returns its address */
  startSecondApi(): Promise<string>;
  stopTemporal(): Promise<void>;
  /** Deletes Temporal's whole database. Temporal must be stopped. */
  loseTemporal(): void;
  startTemporal(): Promise<void>;
  /** Runs `npm run nodrop -- ...`. */
  nodrop(...args: string[]): Promise<{ status: number; output: string }>;
  /** Runs `npm run nodrop -- ...` with this standard input. */
  nodropGiven(input: string, ...args: string[]): Promise<{ status: number; output: string }>;
  /** Sends SIGKILL or another signal to the process. If the process ends, its supervisor restarts it. */
  kill(
    name: 'postgres' | 'temporal' | 'api' | 'api2' | 'worker' | 'simulator',
    signal?: NodeJS.Signals,
  ): void;
  stop(): Promise<void>;
}

export interface SystemOptions {
  readonly withWorker: boolean;
  readonly env?: Record<string, string>;
}

export async function startSystem(options: SystemOptions): Promise<System> {
  const home = temporaryHome();
  const temporalHome = temporaryHome();
  const supervisor = await supervise(home);
  const names = [
    'PORT',
    'NODROP_ADMIN_PORT',
    'NODROP_SIMULATOR_PORT',
    'NODROP_POSTGRES_PORT',
    'NODROP_TEMPORAL_PORT',
    'NODROP_TEMPORAL_UI_PORT',
  ];
  const ports: Record<string, string> = {};
  for (const name of names) ports[name] = String(await freePort());
  const env = { ...process.env, NODROP_HOME: home, ...ports, ...options.env };
  const config = loadStackConfig(env);
  const cli = temporalCli();
  const temporalPorts = { port: config.stack.temporalPort, uiPort: config.stack.temporalUiPort };

  await startPostgres(supervisor, home, config.stack.postgresPort);
  await applyMigrations(config.databaseUrl);
  // Temporal has its own supervisor, so that tests can stop Temporal for a while.
  let temporalSupervisor = await supervise(temporalHome);
  await startTemporal(temporalSupervisor, temporalHome, temporalPorts, cli);
  const run = (
    name: string,
    entry: string,
    probe: () => Promise<boolean>,
    more: Record<string, string> = {},
  ) => supervisor.start({ ...program(name, entry, probe), output: 'log', env: { ...env, ...more } });
  const startWorker = () => {
    const since = Date.now();
    return run('worker', 'worker/main.ts', () => workerPolls(config.temporal, since));
  };
  const unwatched: ChildProcess[] = [];
  const apiUrl = config.api.publicUrl;
  await Promise.all([
    run('simulator', 'simulator/main.ts', () => listens(config.simulator.port)),
    run('api', 'api/main.ts', () => answers(`${apiUrl}/readyz`)),
    options.withWorker ? startWorker() : undefined,
  ]);

  const unwatch = watchLedger(config.databaseUrl, () => [
    ...['postgres', 'simulator', 'api', 'worker'].map((name) => supervisor.pidOf(name)),
    temporalSupervisor.pidOf('temporal'),
    ...unwatched.map(({ pid }) => pid),
  ]);
  const db = createLedgerClient(config.databaseUrl);
  const connection = Connection.lazy({ address: config.temporal.address });
  let orders = 0;
  const newPayment = (changes: object = {}) => {
    orders += 1;
    const order = { id: `order-${orders}`, amount: 1990, currency: 'CNY', subject: 'Coffee' };
    return { order, channel: 'simulator', ...changes };
  };
  const api: System['api'] = async (method, path, body, headers = {}) => {
    const response = await fetch(path.startsWith('http') ? path : `${apiUrl}${path}`, {
      method,
      headers: {
        authorization: 'Bearer sk_dev_nodrop',
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      body: text === '' ? undefined : JSON.parse(text),
    };
  };

  const runCli = (input: string, args: readonly string[]) =>
    new Promise<{ status: number; output: string }>((resolve) => {
      const program = [...['--import', 'tsx'], 'src/cli/main.ts', ...args];
      const child = execFile(process.execPath, program, { env }, (error, stdout, stderr) => {
        resolve({ status: error === null ? 0 : Number(error.code), output: `${stdout}${stderr}` });
      });
      child.stdin?.end(input);
    });

  return {
    config,
    simulator: simulatorClient(config.simulator.url),
    db,
    temporal: new Client({ connection, namespace: config.temporal.namespace }),
    apiUrl,
    api,
    pay: (changes) => api('POST', '/v1/payments', newPayment(changes)),
    async payable(changes) {
      const body = newPayment(changes);
      return await eventually(async () => {
        const answer = await api('POST', '/v1/payments', body);
        return answer.status < 300 && answer.body.payUrl !== null && answer;
      });
    },
    async orderStatus(orderId) {
      return (await db.order.findFirst({ where: { id: orderId } }))?.status;
    },
    startWorker,
    async startSecondWorker() {
      const since = Date.now();
      const [command = '', ...args] = program('worker2', 'worker/main.ts', async () => true).command;
      const child = spawn(command, args, { env, stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
      unwatched.push(child);
      const { pid } = child;
      if (pid === undefined) throw new Error('the second worker cannot be run');
      await eventually(() => workerPolls(config.temporal, since, pid));
      return Object.assign(child, { pid });
    },
    pidOf: (name) => supervisor.pidOf(name),
    async startSecondApi() {
      const port = await freePort();
      const url = `http://127.0.0.1:${port}`;
      const more = {
        PORT: String(port),
        NODROP_ADMIN_PORT: String(await freePort()),
        NODROP_PUBLIC_URL: apiUrl,
      };
      await run('api2', 'api/main.ts', () => answers(`${url}/readyz`), more);
      return url;
    },
    stopTemporal: () => temporalSupervisor.stop(),
    loseTemporal: () => rmSync(join(temporalHome, 'temporal'), { recursive: true, force: true }),
    async startTemporal() {
      temporalSupervisor = await supervise(temporalHome);
      await startTemporal(temporalSupervisor, temporalHome, temporalPorts, cli);
    },
    nodrop: (...args) => runCli('', args),
    nodropGiven: (input, ...args) => runCli(input, args),
    kill(name, signal = 'SIGKILL') {
      const pid = (name === 'temporal' ? temporalSupervisor : supervisor).pidOf(name);
      if (pid === undefined) throw new Error(`${name} does not run`);
      process.kill(pid, signal);
    },
    async stop() {
      unwatch();
      await db.$disconnect();
      await connection.close();
      for (const child of unwatched) {
        if (child.exitCode !== null || child.signalCode !== null) continue;
        child.kill('SIGTERM');
        await once(child, 'exit');
      }
      await supervisor.stop();
      await temporalSupervisor.stop();
      for (const folder of [home, temporalHome]) rmSync(folder, { recursive: true, force: true });
    },
  };
}
