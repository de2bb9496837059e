// Tests npm start, from an empty data folder until all its processes have stopped.
import { execFile } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeEmbeddedSecrets } from '../../src/stack/embedded-secrets.ts';
import { identify, isAlive } from '../../src/stack/os-process.ts';
import { listens } from '../../src/stack/program-spec.ts';
import { readCurl } from '../support/curl.ts';
import { eventually, freePort, temporaryHome } from '../support/stack.ts';
import { childPids, newPlace, removePlace, type StackPlace, StackProgram } from './program.ts';

const SETTINGS = ['PORT', 'NODROP_ADMIN_PORT', 'NODROP_SIMULATOR_PORT', 'NODROP_SHOP_PORT'] as const;

let place: StackPlace;
let env: NodeJS.ProcessEnv & Record<(typeof SETTINGS)[number], string>;
let start: StackProgram;

const at = (port: string | undefined) => `http://127.0.0.1:${port}`;

beforeAll(async () => {
  place = await newPlace();
  // An older release created files with these modes.
  chmodSync(place.home, 0o755);
  for (const name of ['logs', 'temporal', 'simulator']) mkdirSync(join(place.home, name), { mode: 0o755 });
  const [api, admin, simulator, shop] = await Promise.all(SETTINGS.map(() => freePort()));
  env = {
    ...place.env,
    PORT: String(api),
    NODROP_ADMIN_PORT: String(admin),
    NODROP_SIMULATOR_PORT: String(simulator),
    NODROP_SHOP_PORT: String(shop),
  };
  start = await new StackProgram(env, 'start').ready();
});
afterAll(async () => {
  await start?.stop();
  removePlace(place);
});

test('npm start prints the address of the shop and of every server, and each address answers', async () => {
  const line = (name: string) => new RegExp(`^  ${name} +(\\S+)$`, 'm').exec(start.output)?.[1];
  const printed = {
    shop: /^Open (\S+) and buy something\.$/m.exec(start.output)?.[1],
    api: line('API'),
    reference: line('API reference'),
    simulator: line('Simulator'),
    faults: line('Its faults'),
    webUi: line('Temporal Web UI'),
    metrics: line('Metrics'),
    logs: line('Logs'),
  };
  expect(printed).toEqual({
    shop: at(env.NODROP_SHOP_PORT),
    api: at(env.PORT),
    reference: `${at(env.PORT)}/docs`,
    simulator: at(env.NODROP_SIMULATOR_PORT),
    faults: `${at(env.NODROP_SIMULATOR_PORT)}/_control/faults`,
    webUi: at(env.NODROP_TEMPORAL_UI_PORT),
    metrics: `${at(env.NODROP_ADMIN_PORT)}/metrics`,
    logs: `${place.home}/logs`,
  });
  const { shop, reference, faults, webUi, metrics } = printed;
  for (const url of [shop, reference, faults, webUi, metrics])
    expect((await fetch(url ?? '')).status, url).toBe(200);
  expect(await (await fetch(shop ?? '')).text()).toContain('A demonstration shop of nodrop');
});

test('npm start makes its data folder and each folder in it accessible only to their owner', () => {
  const names = readdirSync(place.home, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const folders = ['.', ...names.map(({ name }) => name)];
  const modes = folders.map((name) => [name, (statSync(join(place.home, name)).mode & 0o777).toString(8)]);
  expect(Object.fromEntries(modes)).toEqual({
    '.': '700',
    logs: '700',
    postgres: '700',
    simulator: '700',
    temporal: '700',
  });
});

test('the commands that npm start prints create a payment and read its order', async () => {
  const [create, read] = start.output
    .split(/^ {2}curl /m)
    .slice(1)
    .map(readCurl);
  if (create === undefined || read === undefined) throw new Error(`There are no commands in ${start.output}`);
  // If the channel does not answer in time, the API answers 202. The same command can then be repeated, and
  // returns the same payment.
  const { payUrl, orderId } = await eventually(async () => {
    const made = await fetch(create.url, create.init);
    const payment = (await made.json()) as { payUrl: string | null; orderId: string };
    if (payment.payUrl === null) {
      expect(made.status).toBe(202);
      return undefined;
    }
    expect([200, 201]).toContain(made.status);
    return { payUrl: payment.payUrl, orderId: payment.orderId };
  });
  expect(payUrl).toContain(at(env.NODROP_SIMULATOR_PORT));
  await payIn(payUrl);
  // The request waits at most 30 s. It then returns the state that the order has at that time.
  await eventually(async () => {
    const order = (await (await fetch(read.url, read.init)).json()) as { id: string; status: string };
    expect(order.id).toBe(orderId);
    return order.status === 'succeeded';
  });
});

const payIn = async (walletUrl: string) => {
  const init = {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"result":"success"}',
  };
  expect((await fetch(walletUrl, init)).status).toBe(200);
};

test('after a payment in the wallet, the shop shows its order as paid', async () => {
  const shop = at(env.NODROP_SHOP_PORT);
  const [, order = ''] = /name="order" value="(\w+)"/.exec(await (await fetch(shop)).text()) ?? [];
  const bought = await fetch(`${shop}/orders`, {
    method: 'POST',
    body: new URLSearchParams({ order, product: 'coffee' }),
    redirect: 'manual',
  });
  const cashier = new URL(bought.headers.get('location') ?? '');
  expect(`${bought.status} ${cashier.origin}`).toBe(`303 ${at(env.PORT)}`);
  const paymentId = cashier.pathname.split('/').pop();
  await payIn(`${at(env.NODROP_SIMULATOR_PORT)}/pay/${paymentId}`);
  await eventually(async () =>
    (await (await fetch(`${shop}/orders/${order}`)).text()).includes('Pickup code'),
  );
});

describe('npm start when a port is in use', () => {
  test.each([
    ['PORT', 'the API'],
    ['NODROP_SHOP_PORT', 'the shop'],
  ] as const)('reports the port of %s in one sentence before it starts anything', async (setting, what) => {
    const other = await newPlace();
    const ports = await Promise.all(SETTINGS.map(async (name) => [name, String(await freePort())]));
    const server = createServer();
    const free = { ...other.env, ...Object.fromEntries(ports) };
    await new Promise<void>((resolve) => server.listen(Number(free[setting]), '127.0.0.1', resolve));
    try {
      const second = new StackProgram(free, 'start');
      expect(await second.exit).toBe(1);
      expect(second.output).toBe(
        `Port ${free[setting]} for ${what} is taken by another program: stop that program or set ${setting} to a free port.\n`,
      );
    } finally {
      server.close();
      removePlace(other);
    }
  });
});

test('SIGTERM ends npm start and all its processes, and frees their ports', async () => {
  const children = childPids(place.home).map((pid) => identify(pid));
  // The six processes are PostgreSQL, Temporal, the simulator, the API, the worker and the shop.
  expect(children).toHaveLength(6);
  expect(await start.stop()).toBe(0);
  expect(start.output).toMatch(/\nStopped\.\n$/);
  for (const child of children) expect(child !== undefined && isAlive(child)).toBe(false);
  const ports = Object.entries(env).filter(([name]) => /^(NODROP_\w+_)?PORT$/.test(name));
  expect(ports).toHaveLength(7);
  for (const [name, port] of ports) expect(await listens(Number(port)), name).toBe(false);
});

test('npm start refuses to start with a secret that is not the secret of its database, and starts with the right secret', async () => {
  const [file, aside] = [join(place.home, 'secrets.json'), join(place.home, 'aside.json')];
  renameSync(file, aside);
  const other = new StackProgram(env, 'start');
  expect(await other.exit).toBe(1);
  expect(other.output).toContain(
    `\nThe secret in ${file} is not the secret that this database was set up with: the right one was in the same file before.`,
  );
  expect(existsSync(join(place.home, 'supervisor.json'))).toBe(false);
  renameSync(aside, file);
  const again = await new StackProgram(env, 'start').ready();
  expect(await again.stop()).toBe(0);
});

test('the steps in docs/operations.md change NODROP_SECRET', async () => {
  await start.stop();
  const file = join(place.home, 'secrets.json');
  const secrets = JSON.parse(readFileSync(file, 'utf8'));
  writeFileSync(file, JSON.stringify({ ...secrets, secret: 'another secret of 32 characters!' }));
  const stack = await new StackProgram(env).ready();
  expect(stack.output).toMatch(/^The secret in \S+ is not the secret that this database was set up with: /m);
  const refused = await nodrop('merchants', 'rotate-secret', 'example-shop');
  expect([refused.status, refused.output]).toEqual([1, expect.stringContaining('is not the secret')]);
  const shop = await program('src/stack/shop.ts', env);
  expect([shop.status, shop.output]).toEqual([
    1,
    expect.stringMatching(
      /^The secret in \S+ is not the secret .*: the right one was in the same file before\. [^\n]+\n$/,
    ),
  ]);
  const replaced = await nodrop('secret', 'replace');
  expect([replaced.status, replaced.output]).toEqual([
    0,
    expect.stringContaining('\n  npm run nodrop -- merchants rotate-secret example-shop\n'),
  ]);
  expect(await nodrop('merchants', 'rotate-secret', 'example-shop')).toMatchObject({ status: 0 });
  expect(await stack.stop()).toBe(0);
  const again = await new StackProgram(env, 'start').ready();
  expect(await again.stop()).toBe(0);
});

test('if NODROP_HOME is not the folder of the running stack, the command line and the shop refuse to run, and name the right folder', async () => {
  const stack = await new StackProgram(env).ready();
  const other = temporaryHome();
  try {
    makeEmbeddedSecrets(other);
    const far = { ...env, NODROP_HOME: other };
    const before = await nodrop('merchants', 'list');
    for (const [entry, ...args] of [
      ['src/cli/main.ts', 'merchants', 'test-event', 'example-shop'],
      ['src/cli/main.ts', 'merchants', 'rotate-secret', 'example-shop'],
      ['src/stack/shop.ts'],
    ] as const) {
      expect(await program(entry, far, ...args), entry).toEqual({
        status: 1,
        output:
          `The secret in ${join(other, 'secrets.json')} is not the secret that this database was set up with: ` +
          `the right one is in ${join(place.home, 'secrets.json')}. ` +
          'Set NODROP_HOME to its folder, and leave NODROP_SECRET unset. ' +
          'To change it, see "Changing NODROP_SECRET" in docs/operations.md.\n',
      });
    }
    expect(await nodrop('merchants', 'list')).toEqual(before);
    expect(readdirSync(other)).toEqual(['secrets.json']);
    expect(await stack.stop()).toBe(0);
  } finally {
    await stack.stop();
    rmSync(other, { recursive: true, force: true });
  }
});

/**
 * Runs a program from its source files until it ends.
 * @returns its exit code and output
 */
const program = (entry: string, env: NodeJS.ProcessEnv, ...args: string[]) =>
  new Promise<{ status: number; output: string }>((resolve) => {
    execFile(process.execPath, ['--import', 'tsx', entry, ...args], { env }, (error, stdout, stderr) =>
      resolve({ status: error === null ? 0 : Number(error.code), output: `${stdout}${stderr}` }),
    );
  });

/** Runs `npm run nodrop -- ...`. */
const nodrop = (...args: string[]) => program('src/cli/main.ts', env, ...args);
