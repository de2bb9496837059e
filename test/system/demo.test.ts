// npm run demo -- --channels wechatpay,alipay, with few payers: every cent that the doubles' own books have is in an
// order or given back, or the demo fails.
import { spawn } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { listens } from '../../src/stack/program.ts';
import { tsxLoader } from '../../src/tsx.ts';
import { oracleFolder as alipayOracle } from '../doubles/alipay/start.ts';
import { oracleFolder as wechatpayOracle } from '../doubles/wechatpay/start.ts';
import { freePort, temporalCli, temporaryHome } from '../support/stack.ts';

const PORTS = [
  'PORT',
  'NODROP_ADMIN_PORT',
  'NODROP_SIMULATOR_PORT',
  'NODROP_POSTGRES_PORT',
  'NODROP_TEMPORAL_PORT',
  'NODROP_TEMPORAL_UI_PORT',
];
const hasLibraries = alipayOracle() !== undefined && wechatpayOracle() !== undefined;

/** `npm run demo -- ARGS`, to its end. */
async function runDemo(env: NodeJS.ProcessEnv, ...args: readonly string[]) {
  const child = spawn(process.execPath, ['--import', tsxLoader(), 'src/demo/main.ts', ...args], { env });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data) => {
      output += data;
    });
  }
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, output };
}

test.skipIf(!hasLibraries)(
  'the demo at the doubles of WeChat Pay and Alipay drops nothing, and leaves nothing running',
  async () => {
    const home = temporaryHome();
    const env: NodeJS.ProcessEnv = { ...process.env, NODROP_HOME: home, NODROP_TEMPORAL_CLI: temporalCli() };
    for (const name of PORTS) env[name] = String(await freePort());
    try {
      const { code, output } = await runDemo(env, '--channels', 'wechatpay,alipay', '--payers', '60');
      expect(code, output).toBe(0);
      expect(output).toMatch(
        /npm run nodrop -- channels add alipay --file -\n +Merchant demo has the account main/,
      );
      expect(output).toMatch(/ nodrop demo: 60 orders in \d+ s\n/);
      expect(output).toMatch(/dropped: in no order, not given back +0 +as it must be/);
      expect(output).toMatch(/given back: the order was paid twice +4 +CNY/);
      expect(output).toMatch(/given back: it came too late +4 +CNY/);
      // Callbacks and the channels' being asked both settled orders; forged ones settled none.
      expect(output).toMatch(/ the callback +[1-9]/);
      expect(output).toMatch(/recovered without the callback +[1-9]/);
      expect(output).toMatch(/forged callbacks +9 sent for orders nobody paid, every one refused/);
      expect(output).toMatch(/killed with -9 +worker .+, at work again/);
      expect(output).toContain('Nothing dropped');
      // The doubles are in the simulator's place.
      expect(existsSync(join(home, 'demo', 'logs', 'simulator.log'))).toBe(false);
      for (const name of PORTS) expect(await listens(Number(env[name])), name).toBe(false);
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  },
);

test('what the doubles run on and is not there is said in a sentence, before anything starts', async () => {
  const home = temporaryHome();
  try {
    const env = { ...process.env, NODROP_HOME: home, PATH: join(home, 'nothing') };
    const { code, output } = await runDemo(env, '--channels', 'alipay');
    expect(code).toBe(1);
    expect(output).toMatch(
      /^--channels alipay needs Python 3\.10 or newer with pip[^\n]+without --channels[^\n]+\n$/,
    );
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
});
