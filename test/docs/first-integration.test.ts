// The commands of docs/first-integration.md and docs/order-service.md, typed into a shell as they stand there, beside a
// real npm start. Only ports and the home folder are the test's own.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EVENT_TYPES } from '../../src/domain/event.ts';
import { newPlace, removePlace, type StackPlace } from '../stack/program.ts';
import { eventually, freePort } from '../support/stack.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const SETTINGS = ['PORT', 'NODROP_ADMIN_PORT', 'NODROP_SIMULATOR_PORT', 'NODROP_SHOP_PORT'] as const;

let place: StackPlace;
/** What stands in the pages, and what it is here. */
let ports: Record<string, string>;
let env: NodeJS.ProcessEnv;
let shell: Shell;
const programs: ChildProcess[] = [];

/** A shell that stays, as a user's does, with what was set in it. */
class Shell {
  readonly #child: ChildProcess;
  #output = '';

  constructor() {
    this.#child = spawn('bash', ['--norc'], { cwd: root, env });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on('data', (data) => {
        this.#output += data;
      });
    }
    programs.push(this.#child);
    this.#child.stdin?.write("trap 'failed=$?' ERR\n");
  }

  /** @returns the exit code of the last of its commands that failed, 0 when none did, and what they printed. */
  async type(block: string): Promise<{ code: number; output: string }> {
    this.#output = '';
    this.#child.stdin?.write(`failed=0\n${block}\nprintf '\\n@@%s@@\\n' "$failed"\n`);
    return await eventually(() => {
      const [, output = '', code] = /^([\s\S]*)\n@@(\d+)@@\n$/.exec(this.#output) ?? [];
      return code !== undefined && { code: Number(code), output };
    });
  }
}

/** A terminal of its own, in which the command stays. */
async function terminal(command: string, readyWords: string): Promise<ChildProcess> {
  const child = spawn('bash', ['--norc', '-c', command], { cwd: root, env, detached: true });
  programs.push(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (data) => {
      output += data;
    });
  }
  await eventually(() => {
    if (child.exitCode !== null) throw new Error(`${command} ended: ${output}`);
    return output.includes(readyWords);
  });
  return child;
}

/** The blocks of commands of a page, in their order, at this test's ports. */
const blocksOf = (page: string, at = ports): string[] =>
  [...readFileSync(join(root, 'docs', page), 'utf8').matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(
    ([, block = '']) =>
      Object.entries(at).reduce(
        (text, [there, here]) =>
          text.replaceAll(new RegExp(`(127\\.0\\.0\\.1:|PORT=)${there}\\b`, 'g'), `$1${here}`),
        block.trimEnd(),
      ),
  );

beforeAll(async () => {
  place = await newPlace();
  const own = Object.fromEntries(
    await Promise.all(SETTINGS.map(async (name) => [name, String(await freePort())] as const)),
  );
  ports = {
    3000: own.PORT ?? '',
    3200: String(await freePort()),
    54329: new URL(place.databaseUrl).port,
  };
  // npm alone knows the settings of this test: the user's shell has none.
  const [bin, home] = [join(place.home, 'bin'), join(place.home, 'user')];
  for (const folder of [bin, home]) mkdirSync(folder);
  const settings = Object.entries({ ...place.env, ...own }).filter(([name]) =>
    /^NODROP_|^PORT$|^XDG_/.test(name),
  );
  const lines = [...settings, ['HOME', homedir()]].map(([name, value]) => `export ${name}='${value}'`);
  const path = [dirname(process.execPath), process.env.PATH].join(delimiter);
  writeFileSync(join(bin, 'npm'), `#!/bin/sh\nPATH='${path}'\n${lines.join('\n')}\nexec npm "$@"\n`, {
    mode: 0o755,
  });
  env = { PATH: [bin, path].join(delimiter), HOME: home };
  shell = new Shell();
  const [start = ''] = blocksOf('first-integration.md');
  expect(start).toBe('npm start');
  await terminal(start, 'nodrop is ready in');
});

afterAll(async () => {
  for (const child of programs.toReversed()) {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) continue;
    const closed = once(child, 'close');
    // The terminal's Ctrl-C reaches all that runs in it.
    if (child.spawnargs.includes('-c')) process.kill(-child.pid, 'SIGINT');
    else child.stdin?.end();
    await closed;
  }
  removePlace(place);
});

test('docs/first-integration.md leads from npm start to an order that the own receiver made paid', async () => {
  const [, merchant, database, receiver, testEvents, order, pay, wallet, paid, ...more] = blocksOf(
    'first-integration.md',
  ) as [string, ...string[]];
  expect(more).toEqual([]);
  const typed = async (block: string | undefined) => {
    const { code, output } = await shell.type(block ?? '');
    expect(code, output).toBe(0);
    return output;
  };
  await typed(merchant);
  expect(await typed('echo "$KEY $SECRET"')).toMatch(/^sk_[\w-]{43} whsec_[A-Za-z0-9+/]{43}=$/m);
  expect(await typed(database)).toBe('The database my_shop has its tables.\n');
  await terminal(receiver ?? '', 'The receiver takes events at');
  const table = await typed(testEvents);
  for (const type of EVENT_TYPES)
    expect(table).toMatch(new RegExp(`^${type.replace('.', '\\.')} +200 `, 'm'));
  expect(JSON.parse(await typed(order))).toMatchObject({
    id: 'order-1',
    amount: '1990',
    paid_payment_id: null,
  });
  await eventually(async () => JSON.parse(await typed(pay)).payUrl !== null);
  await typed(wallet);
  // Each answers after 30 s at the latest, with whatever is so by then.
  const output = await eventually(async () => {
    const text = await typed(paid);
    return text.includes('"orderUpdate":"applied"') && text;
  });
  const id = (await typed('echo "$PAYMENT_ID"')).trim();
  expect(output).toContain(`"paid_payment_id":"${id}"`);
});

test('a block fails when any of its commands does', async () => {
  expect(await shell.type('(exit 3)\necho on')).toEqual({ code: 3, output: 'on\n' });
  expect(await shell.type('echo on')).toEqual({ code: 0, output: 'on\n' });
});

test('every command of docs/order-service.md works on npm start, where the merchant is demo, and leaves it as it was', async () => {
  const merchants = async () => (await shell.type('npm run --silent nodrop -- merchants list')).output;
  const asItWas = /^mer_\w+ +demo +apply +simulator, simulator2 +embedded /m;
  expect(await merchants()).toMatch(asItWas);
  // The order service of the page.
  const server = createServer((request, response) => {
    request.resume().on('end', () => response.end('noted'));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  try {
    const blocks = blocksOf('order-service.md', { ...ports, 3200: String(port) });
    expect(blocks.length).toBeGreaterThan(4);
    let testEvents = '';
    for (const block of blocks) {
      const { code, output } = await shell.type(block);
      expect(code, `${block}\n${output}`).toBe(0);
      // What curl is answered.
      expect(output, block).not.toContain('"status":4');
      if (block.includes(' test-event ')) testEvents = output;
    }
    for (const type of EVENT_TYPES)
      expect(testEvents).toMatch(new RegExp(`^${type.replace('.', '\\.')} +200 .*noted`, 'm'));
  } finally {
    server.closeAllConnections();
    server.close();
  }
  // The other pages pay orders of it.
  expect(await merchants()).toMatch(asItWas);
});
