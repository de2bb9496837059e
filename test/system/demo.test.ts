// Tests npm run demo -- --channels wechatpay,alipay with few payers. The demo fails unless all money in the doubles'
// books is in an order or refunded.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { listens } from '../../src/stack/program-spec.ts';
import { tsxLoader } from '../../src/tsx.ts';
import { oracleFolder as alipayOracle } from '../doubles/alipay/start.ts';
import { oracleFolder as wechatpayOracle } from '../doubles/wechatpay/start.ts';
import { eventually, freePort, temporalCli, temporaryHome } from '../support/stack.ts';

const PORTS = [
  'PORT',
  'NODROP_ADMIN_PORT',
  'NODROP_SIMULATOR_PORT',
  'NODROP_POSTGRES_PORT',
  'NODROP_TEMPORAL_PORT',
  'NODROP_TEMPORAL_UI_PORT',
];
const hasLibraries = alipayOracle() !== undefined && wechatpayOracle() !== undefined;

/** Starts the demo with a new data directory and its own ports. */
async function newEnvironment(): Promise<NodeJS.ProcessEnv & { readonly NODROP_HOME: string }> {
  const NODROP_HOME = temporaryHome();
  const ports: Record<string, string> = {};
  for (const name of PORTS) ports[name] = String(await freePort());
  return { ...process.env, ...ports, NODROP_HOME, NODROP_TEMPORAL_CLI: temporalCli() };
}

/** The process of a double that the demo has started. */
function doubleOf(parent: number | undefined): number | undefined {
  const { stdout } = spawnSync('ps', ['-A', '-o', 'pid=,ppid=,args='], { encoding: 'utf8' });
  const processes = [...stdout.matchAll(/^ *(\d+) +(\d+) (.*)$/gm)];
  const found = processes.find(
    ([, , ppid, args]) => Number(ppid) === parent && args?.includes('test/doubles/'),
  );
  return found && Number(found[1]);
}

/** Runs `npm run demo -- ARGS` until it ends. */
function startDemo(env: NodeJS.ProcessEnv, ...args: readonly string[]) {
  const child = spawn(process.execPath, ['--import', tsxLoader(), 'src/demo/main.ts', ...args], { env });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data) => {
      output += data;
    });
  }
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  return {
    pid: child.pid,
    output: () => output,
    ended: async () => ({ code: await ended, output }),
  };
}

test.skipIf(!hasLibraries)(
  'the demo with the doubles of WeChat Pay and Alipay drops no payment, and leaves no process running',
  async () => {
    const env = await newEnvironment();
    const home = env.NODROP_HOME;
    try {
      const demo = startDemo(env, '--channels', 'wechatpay,alipay', '--payers', '60');
      const { code, output } = await demo.ended();
      expect(code, output).toBe(0);
      expect(output).toMatch(
        /npm run nodrop -- channels add alipay --file -\n +Merchant demo has the account main/,
      );
      expect(output).toMatch(/ nodrop demo: 60 orders in \d+ s\n/);
      expect(output).toMatch(/dropped: in no order, not given back +0 +as it must be/);
      expect(output).toMatch(/given back: the order was paid twice +4 +CNY/);
      expect(output).toMatch(/given back: it was paid too late +4 +CNY/);
      // Some orders were settled by callbacks, and some by queries. No forged callback settled an order.
      expect(output).toMatch(/ the callback +[1-9]/);
      expect(output).toMatch(/recovered without the callback +[1-9]/);
      expect(output).toMatch(/forged callbacks +9 sent for unpaid orders, all refused/);
      expect(output).toMatch(/killed with -9 +worker .+, at work again/);
      expect(output).toContain('Nothing dropped');
      // The simulator was not started, because the doubles replace it.
      expect(existsSync(join(home, 'demo', 'logs', 'simulator.log'))).toBe(false);
      for (const name of PORTS) expect(await listens(Number(env[name])), name).toBe(false);
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  },
);

test.skipIf(!hasLibraries)(
  'if a double ends unexpectedly, the demo prints one sentence and ends',
  async () => {
    const env = await newEnvironment();
    try {
      const demo = startDemo(env, '--channels', 'alipay', '--payers', '60');
      await eventually(() => demo.output().includes('All up after'));
      const double = doubleOf(demo.pid);
      if (double === undefined) throw new Error(`there is no double:\n${demo.output()}`);
      process.kill(double, 'SIGKILL');
      const { code, output } = await demo.ended();
      expect(code).toBe(1);
      expect(output).toMatch(
        /\nThe double of alipay has ended unexpectedly: see \S+alipay\.log\.\n(?: .*\n)*$/,
      );
      for (const name of PORTS) expect(await listens(Number(env[name])), name).toBe(false);
    } finally {
      rmSync(env.NODROP_HOME, { recursive: true, force: true });
    }
  },
);

test('if a program that the doubles need is missing, the demo says so in one sentence and starts nothing', async () => {
  const home = temporaryHome();
  try {
    const env = { ...process.env, NODROP_HOME: home, PATH: join(home, 'nothing') };
    const { code, output } = await startDemo(env, '--channels', 'alipay').ended();
    expect(code).toBe(1);
    expect(output).toMatch(
      /^--channels alipay needs Python 3\.10 or newer with pip[^\n]+without --channels[^\n]+\n$/,
    );
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
});
