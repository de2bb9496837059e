import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createLedgerClient } from '../../src/ledger/client.ts';
import { findOrderService } from '../../src/ledger/merchants.ts';
import { runningTime } from '../support/progress.ts';
import { eventually, type FreshDatabase, freePort, freshDatabase, temporaryHome } from '../support/stack.ts';
import { CHANNEL_SECRET, callUrl, SECRET, startTestApi } from './support.ts';

// The API and the command line as processes of their own. Temporal is not there: that must not keep them down.

let database: FreshDatabase;
let home: string;
const running: ChildProcess[] = [];

beforeAll(async () => {
  database = await freshDatabase();
  home = temporaryHome();
});
afterAll(async () => {
  await database.drop();
  rmSync(home, { recursive: true, force: true });
});
afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
});

async function environment(change: Record<string, string> = {}) {
  const [port, admin, temporal] = await Promise.all([freePort(), freePort(), freePort()]);
  return {
    DATABASE_URL: database.url,
    TEMPORAL_ADDRESS: `127.0.0.1:${temporal}`,
    NODROP_HOME: home,
    NODROP_SECRET: SECRET,
    NODROP_SIMULATOR_SECRET: CHANNEL_SECRET,
    PORT: String(port),
    NODROP_ADMIN_PORT: String(admin),
    ...change,
  };
}

function run(entry: string, args: readonly string[], env: Record<string, string>) {
  const child = spawn(process.execPath, ['--import', 'tsx', entry, ...args], {
    env: { PATH: process.env.PATH ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.push(child);
  let output = '';
  let errors = '';
  child.stdout.on('data', (data) => {
    output += data;
  });
  child.stderr.on('data', (data) => {
    errors += data;
  });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  return { child, ended, output: () => output, errors: () => errors };
}

const cli = async (args: readonly string[], change: Record<string, string> = {}) => {
  const program = run('src/cli/main.ts', args, await environment(change));
  return { code: await program.ended, output: program.output(), errors: program.errors() };
};

describe('npm run nodrop', () => {
  test('before the embedded stack has made its secrets it refuses, and makes none', async () => {
    const folder = temporaryHome();
    try {
      const embedded = { DATABASE_URL: '', NODROP_SECRET: '', NODROP_HOME: folder };
      const { code, output, errors } = await cli(
        ['merchants', 'set', 'acme', '--late-payment', 'refund'],
        embedded,
      );
      expect([code, output]).toEqual([1, '']);
      expect(errors).toMatch(/^NODROP_HOME=\S+ has no secrets yet: start the stack [^\n]+\.\n$/);
      expect(readdirSync(folder)).toEqual([]);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test('makes a merchant and a key that works, and shows keys by their ends', async () => {
    const made = await cli(['keys', 'create', '--merchant', 'acme', '--role', 'operator']);
    expect([made.code, made.errors]).toEqual([0, '']);
    expect(made.output).toMatch(/Merchant acme is new \(mer_\w+\), with accounts at: simulator\./);
    const key = made.output.trim().split('\n').at(-1) ?? '';
    expect(key).toMatch(/^sk_[\w-]{43}$/);
    const again = await cli(['keys', 'create', '--merchant', 'acme']);
    expect(again.output).not.toContain('is new');
    const list = await cli(['keys', 'list']);
    expect(list.output).toContain(`sk_...${key.slice(-4)}`);
    expect(list.output).not.toContain(key);
    expect(list.output.split('\n').filter((line) => line.includes('acme'))).toHaveLength(2);
    const db = createLedgerClient(database.url);
    expect(JSON.stringify(await db.apiKey.findMany())).not.toContain(key);
    await db.$disconnect();
  });

  test('revokes a key at once and for good, and no other', async () => {
    const make = async () => {
      const { output } = await cli(['keys', 'create', '--merchant', 'revoker']);
      return { id: /Key (key_\w+) of/.exec(output)?.[1] ?? '', key: output.trim().split('\n').at(-1) ?? '' };
    };
    const [gone, kept] = [await make(), await make()];
    const api = await startTestApi(database.url);
    const ask = async ({ key }: { key: string }) => (await api.call('/v1/orders', { key })).status;
    try {
      expect(await ask(gone)).toBe(200);
      const revoked = await cli(['keys', 'revoke', gone.id]);
      expect(revoked).toMatchObject({ code: 0, errors: '' });
      expect(revoked.output).toMatch(new RegExp(`^Key ${gone.id} opens nothing since \\d{4}-.*Z\\.\n$`));
      expect([await ask(gone), await ask(kept)]).toEqual([401, 200]);
      // Again it says the same.
      expect((await cli(['keys', 'revoke', gone.id])).output).toBe(revoked.output);
      expect((await cli(['keys', 'list'])).output).toMatch(new RegExp(`${gone.id} .*revoked \\d{4}-`));
    } finally {
      await api.close();
    }
  });

  test('shows merchants and changes what becomes of their late payments', async () => {
    await cli(['keys', 'create', '--merchant', 'late']);
    const set = await cli(['merchants', 'set', 'late', '--late-payment', 'refund']);
    expect(set).toEqual({
      code: 0,
      output: 'Merchant late: late payments are from now on: refund.\n',
      errors: '',
    });
    const { output } = await cli(['merchants', 'list']);
    expect(output).toMatch(
      /^ID +MERCHANT +LATE PAYMENT +CHANNELS +ORDER SERVICE +READ BACK AT +SECRETS +RETURN SCHEMES +CREATED\n/,
    );
    expect(output).toMatch(/\nmer_\w+ +late +refund +simulator +embedded +\d{4}-.*Z\n/);
    // Others keep theirs.
    expect(output).toMatch(/ acme +apply +/);
  });

  test('sets which apps payers may be sent back to', async () => {
    await cli(['keys', 'create', '--merchant', 'app']);
    const set = (...options: string[]) => cli(['merchants', 'set', 'app', ...options]);
    const listed = async () => /\n(mer_\w+ +app .*)\n/.exec((await cli(['merchants', 'list'])).output)?.[1];
    expect(await set('--return-schemes', 'MyApp, com.example.app,myapp')).toEqual({
      code: 0,
      output:
        'Merchant app: payers are sent back to URLs of http, https, myapp, com.example.app from now on.\n',
      errors: '',
    });
    expect(await listed()).toMatch(/ myapp, com\.example\.app +\d{4}-/);
    // What is left out stays; what is given replaces what was set.
    await set('--late-payment', 'review');
    expect(await listed()).toMatch(/ myapp, com\.example\.app +\d{4}-/);
    await set('--return-schemes', 'other');
    expect(await listed()).toMatch(/ other +\d{4}-/);
    expect((await set('--no-return-schemes')).output).toBe(
      'Merchant app: payers are sent back to URLs of http, https from now on.\n',
    );
    expect(await listed()).not.toContain('other');
  });

  test('sets an order service, shows its secret once, and rotates it', async () => {
    const [url, status] = ['http://shop.example/hooks', 'http://shop.example/orders/{orderId}'];
    await cli(['keys', 'create', '--merchant', 'shop']);
    const set = (...options: string[]) => cli(['merchants', 'set', 'shop', ...options]);
    const listed = async () =>
      /\n(mer_\w+ +shop .*)\n/.exec((await cli(['merchants', 'list'])).output)?.[1] ?? '';

    const first = await set('--order-service-url', url);
    expect([first.code, first.errors]).toEqual([0, '']);
    const secret = first.output.trim().split('\n').at(-1) ?? '';
    expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    expect(first.output).toBe(
      `Merchant shop: events go to ${url}.\n` +
        'What it acknowledges is believed: --order-status-url has its orders read back.\n' +
        `Its events are signed with this secret. It is shown only now:\n${secret}\n`,
    );
    // Again, with the read-back: what was set stays, and no other secret is made or shown.
    const second = await set('--order-status-url', status);
    expect(second).toEqual({
      code: 0,
      output:
        `Merchant shop: events go to ${url}.\nIts orders are read back at ${status}.\n` +
        `They are signed with: ...${secret.slice(-4)}.\n`,
      errors: '',
    });
    expect((await set('--order-service-url', url, '--order-status-url', status)).output).toBe(second.output);
    expect(await listed()).toContain(` apply         simulator  ${url}  ${status}  ...${secret.slice(-4)}  `);

    const rotated = await cli(['merchants', 'rotate-secret', 'shop']);
    const fresh = rotated.output.trim().split('\n').at(-1) ?? '';
    expect([rotated.code, rotated.errors]).toEqual([0, '']);
    expect(rotated.output).toBe(
      'Merchant shop: older secrets sign as well for 24 h more at most.\n' +
        `Its events are signed with this secret. It is shown only now:\n${fresh}\n`,
    );
    const row = await listed();
    expect(row).toMatch(/ \.\.\..{4}, \.\.\..{4} \(until \d{4}-.*Z\) /);
    expect(row).toContain(` ...${fresh.slice(-4)}, ...${secret.slice(-4)} (until `);
    for (const whole of [secret, fresh]) expect(row).not.toContain(whole);
    const db = createLedgerClient(database.url);
    try {
      const { id } = await db.merchant.findUniqueOrThrow({ where: { name: 'shop' } });
      const both = { url, statusUrl: status, secrets: [fresh, secret] };
      expect(await findOrderService(db, id, SECRET, new Date())).toEqual(both);
      const cut = await cli(['merchants', 'rotate-secret', 'shop', '--old-valid-hours', '0']);
      expect(cut.output).toContain('Merchant shop: older secrets sign nothing from now on.\n');
      const last = cut.output.trim().split('\n').at(-1) ?? '';
      expect((await findOrderService(db, id, SECRET, new Date()))?.secrets).toEqual([last]);

      expect((await set('--no-order-status')).output).toContain('What it acknowledges is believed');
      expect((await findOrderService(db, id, SECRET, new Date()))?.statusUrl).toBeNull();
      const back = await set('--no-order-service', '--late-payment', 'review');
      expect(back.output).toBe(
        'Merchant shop: late payments are from now on: review.\n' +
          'Merchant shop: no order service is told; its orders are those of the embedded one alone.\n',
      );
      expect(await findOrderService(db, id, SECRET, new Date())).toBeNull();
    } finally {
      await db.$disconnect();
    }
  });

  test('takes only https where events leave the network in live mode', async () => {
    const live = { NODROP_MODE: 'live', NODROP_SIMULATOR_SECRET: '' };
    const set = (url: string, change: Record<string, string>) =>
      cli(['merchants', 'set', 'acme', '--order-service-url', url], change);
    expect(await set('http://shop.example/', live)).toEqual({
      code: 1,
      output: '',
      errors: '--order-service-url is wrong: it must be an https URL.\n',
    });
    const near = { ...live, NODROP_ALLOW_PRIVATE_ORDER_SERVICES: 'true' };
    expect((await set('http://shop.internal/', near)).code).toBe(0);
    expect((await set('https://shop.example/', live)).code).toBe(0);
  });

  test.each([
    [['keys', 'create'], /--merchant/],
    [['keys', 'create', '--merchant', 'a b'], /a b/],
    [['keys', 'create', '--merchant', 'a', '--role', 'king'], /king/],
    [['keyz'], /keyz/],
    [['keys', 'revoke'], /id/],
    [['keys', 'revoke', 'key_nobody'], /^There is no key key_nobody: keys list shows them\.\n$/],
    [['merchants', 'set', 'acme'], /^Nothing to set: merchants set --help shows what there is\.\n$/],
    [
      ['merchants', 'set', 'acme', '--order-service-url', 'shop'],
      /^--order-service-url is wrong: it is no URL\.\n$/,
    ],
    [
      ['merchants', 'set', 'acme', '--order-service-url', 'https://me:pass@shop.example/'],
      /^--order-service-url is wrong: it must have no user name or password: events are signed\.\n$/,
    ],
    [
      ['merchants', 'set', 'late', '--order-status-url', 'https://shop.example/{orderId}'],
      /^Merchant late has no order service to read back from: give --order-service-url as well\.\n$/,
    ],
    ...['https://shop.example/orders', 'https://{orderId}.shop.example/'].map((url): [string[], RegExp] => [
      ['merchants', 'set', 'acme', '--order-service-url', 'https://shop.example/', '--order-status-url', url],
      /^--order-status-url is wrong: /,
    ]),
    [
      ['merchants', 'set', 'acme', '--no-order-service', '--order-service-url', 'https://shop.example/'],
      /^--no-order-service goes with no other address: leave one of them out\.\n$/,
    ],
    [
      [
        'merchants',
        'set',
        'acme',
        '--no-order-status',
        '--order-status-url',
        'https://shop.example/{orderId}',
      ],
      /^--no-order-status and --order-status-url contradict each other\.\n$/,
    ],
    ...['javascript', 'DATA', 'vbscript', 'file', 'blob', 'about', 'view-source', 'intent', 'mailto'].map(
      (scheme): [string[], RegExp] => [
        ['merchants', 'set', 'acme', '--return-schemes', `myapp,${scheme}`],
        /^--return-schemes is wrong: "[a-z-]+" is never allowed: browsers or systems act on it themselves\.\n$/,
      ],
    ),
    ...['my app', 'myapp:', 'myapp://', '1app', 'ä', '', 'a,,b', 'x'.repeat(64)].map(
      (scheme): [string[], RegExp] => [
        ['merchants', 'set', 'acme', '--return-schemes', scheme],
        /^--return-schemes is wrong: ".*" is no scheme: /,
      ],
    ),
    [
      ['merchants', 'set', 'acme', '--return-schemes', 'https'],
      /"https" is always allowed: leave it out\.\n$/,
    ],
    // Names are read by people, and by other commands.
    ...['a\u202eb', 'a\u2066b', '\u200b', ' '].map((name): [string[], RegExp] => [
      ['keys', 'create', '--merchant', name],
      /Use 1 to 64 of A-Z a-z 0-9 _ \. -/,
    ]),
    [['merchants', 'rotate-secret', 'acme', '--old-valid-hours', '-1'], /Use 0 to 720/],
    [['merchants', 'rotate-secret', 'acme', '--old-valid-hours', '721'], /Use 0 to 720/],
    [
      ['merchants', 'rotate-secret', 'nobody'],
      /^There is no merchant nobody: merchants list shows them\.\n$/,
    ],
    [['merchants', 'set', 'acme', '--late-payment', 'keep'], /apply, refund, review/],
    [
      ['merchants', 'set', 'nobody', '--late-payment', 'apply'],
      /^There is no merchant nobody: merchants list shows them\.\n$/,
    ],
  ])('%j is refused in words', async (args, words) => {
    const { code, errors } = await cli(args);
    expect(code).toBe(1);
    expect(errors).toMatch(words);
  });

  test('a database that is away and a wrong setting are one sentence each', async () => {
    const away = await cli(['keys', 'list'], {
      DATABASE_URL: 'postgresql://nodrop:hunter2@127.0.0.1:1/none',
    });
    expect([away.code, away.errors]).toEqual([
      1,
      'The database none at 127.0.0.1:1 cannot be used: start it (npm run stack) or set DATABASE_URL.\n',
    ]);
    const wrong = await cli(['keys', 'list'], { PORT: 'x' });
    expect(wrong.code).toBe(1);
    expect(wrong.errors).toMatch(/^PORT is wrong: [^\n]+\.\n$/);
  });
});

describe('npm run api', () => {
  test('starts without Temporal, answers, and on SIGTERM lets waiters go with the current state', async () => {
    const env = await environment();
    const created = await cli(['keys', 'create', '--merchant', 'waiter']);
    const key = created.output.trim().split('\n').at(-1) ?? '';
    const api = run('src/api/main.ts', [], env);
    const url = `http://127.0.0.1:${env.PORT}`;
    await eventually(() =>
      callUrl(`${url}/healthz`).then(
        ({ status }) => status === 200,
        () => false,
      ),
    );
    const ready = await callUrl(`${url}/readyz`);
    expect([ready.status, ready.json]).toEqual([
      503,
      { status: 'not_ready', database: 'ok', temporal: 'unreachable' },
    ]);
    expect((await callUrl(`http://127.0.0.1:${env.NODROP_ADMIN_PORT}/metrics`)).text).toContain(
      'process_cpu_seconds_total',
    );
    expect((await callUrl(`http://127.0.0.1:${env.NODROP_ADMIN_PORT}/details`)).json).toMatchObject({
      ...{ database: 'ok', temporal: 'unreachable', attention: {} },
    });
    for (const path of ['/metrics', '/details']) expect((await callUrl(`${url}${path}`)).status).toBe(404);

    await callUrl(`${url}/v1/orders`, { key, body: { id: 'o1', amount: 1, currency: 'CNY' } });
    const waiting = callUrl(`${url}/v1/orders/o1?wait=60`, { key });
    // The waiter is in when a later request of the same kind has been answered.
    await callUrl(`${url}/v1/orders/o1?wait=1`, { key });
    const began = runningTime();
    api.child.kill('SIGTERM');
    expect(await waiting).toMatchObject({ status: 200, json: { id: 'o1', status: 'unpaid' } });
    expect(await api.ended).toBe(0);
    expect(began()).toBeLessThan(20_000);
    await expect(callUrl(`${url}/healthz`)).rejects.toThrow();
  });

  test('starts while the database is down', async () => {
    const env = await environment({ DATABASE_URL: 'postgresql://nodrop@127.0.0.1:1/none' });
    const api = run('src/api/main.ts', [], env);
    const url = `http://127.0.0.1:${env.PORT}`;
    await eventually(() =>
      callUrl(`${url}/healthz`).then(
        ({ status }) => status === 200,
        () => false,
      ),
    );
    expect((await callUrl(`${url}/v1/orders`, { key: 'sk_x' })).json.code).toBe('database_unavailable');
    api.child.kill('SIGINT');
    expect(await api.ended).toBe(0);
  });

  test.each([
    ['PORT', 'PORT'],
    ['NODROP_ADMIN_PORT', 'NODROP_ADMIN_PORT'],
  ])('a taken %s is one sentence that names it', async (setting) => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as { port: number };
    const api = run('src/api/main.ts', [], await environment({ [setting]: String(port) }));
    expect(await api.ended).toBe(1);
    expect(api.errors()).toBe(`Port ${port} on 127.0.0.1 is taken: set ${setting} to a free one.\n`);
    taken.close();
  });

  test('a wrong setting is one sentence that names it', async () => {
    const api = run('src/api/main.ts', [], await environment({ NODROP_SECRET: 'short' }));
    expect(await api.ended).toBe(1);
    expect(api.errors()).toMatch(/^NODROP_SECRET is wrong: [^\n]+\.\n$/);
  });
});
