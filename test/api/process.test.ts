import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createLedgerClient } from '../../src/ledger/client.ts';
import { createApiKey, ensureMerchant } from '../../src/ledger/merchants.ts';
import { requireSecret } from '../../src/ledger/secret-fingerprint.ts';
import { makeEmbeddedSecrets } from '../../src/stack/embedded-secrets.ts';
import { runningTime } from '../support/progress.ts';
import { emptyDatabase, eventually, freshDatabase, queryOnce, temporaryHome } from '../support/stack.ts';
import { cli, environment, run } from './process-support.ts';
import { callUrl, SECRET } from './support.ts';

// Tests the API and the command line, each in its own process. Both must work without Temporal.

describe('npm run nodrop', () => {
  test('fails if the embedded stack has not created its secrets yet, and does not create them', async () => {
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

  test('a command with the NODROP_HOME of another stack does nothing, and prints the path of the right secret', async () => {
    const [mine, other] = [temporaryHome(), temporaryHome()];
    const own = await freshDatabase();
    try {
      const under = (folder: string) => ({ DATABASE_URL: own.url, NODROP_HOME: folder });
      for (const folder of [mine, other]) makeEmbeddedSecrets(folder);
      const kept = JSON.parse(readFileSync(join(mine, 'secrets.json'), 'utf8')).secret;
      const db = createLedgerClient(own.url);
      await requireSecret(db, {
        secret: kept,
        secretFile: join(mine, 'secrets.json'),
        embeddedDatabase: true,
      });
      const wrong = JSON.parse(readFileSync(join(other, 'secrets.json'), 'utf8')).secret;
      const right = { ...under(mine), NODROP_SECRET: kept };
      expect((await cli(['keys', 'create', '--merchant', 'acme'], right)).code).toBe(0);
      for (const args of [
        ['keys', 'create', '--merchant', 'other'],
        ['keys', 'list'],
        ['keys', 'revoke', 'key_1'],
        ['merchants', 'list'],
        ['recover'],
        ['merchants', 'set', 'acme', '--order-service-url', 'https://shop.example/'],
        ['merchants', 'set', 'acme', '--late-payment', 'refund'],
        ['merchants', 'rotate-secret', 'acme'],
        ['merchants', 'test-event', 'acme'],
        ['recover', '--lost'],
        ['recover', '--lost', '--write'],
      ]) {
        const refused = await cli(args, { ...under(other), NODROP_SECRET: wrong });
        expect([refused.code, refused.output]).toEqual([1, '']);
        expect(refused.errors).toMatch(/^NODROP_SECRET is not the secret [^\n]+\n$/);
        expect(refused.errors).toContain(
          `${join(mine, 'secrets.json')}. Set NODROP_SECRET to the \`secret\``,
        );
        for (const secret of [kept, wrong]) expect(refused.errors).not.toContain(secret);
      }
      expect(await db.signingSecret.count()).toBe(0);
      expect(await db.merchant.findMany()).toMatchObject([{ name: 'acme', latePayment: 'apply' }]);
      await db.$disconnect();
    } finally {
      await own.drop();
      for (const folder of [mine, other]) rmSync(folder, { recursive: true, force: true });
    }
  });

  test('`secret replace` changes the database to another NODROP_SECRET, and lists the merchants that need new signing secrets', async () => {
    const own = await freshDatabase();
    try {
      const before = { DATABASE_URL: own.url };
      const after = { ...before, NODROP_SECRET: 'another secret of 32 characters!' };
      await cli(['keys', 'create', '--merchant', 'acme'], before);
      const set = ['merchants', 'set', 'acme', '--order-service-url', 'https://shop.example/'];
      expect((await cli(set, before)).code).toBe(0);
      expect((await cli(set, after)).code).toBe(1);
      const worker = createLedgerClient(own.url, 'nodrop-worker');
      try {
        await worker.merchant.count();
        const refused = await cli(['secret', 'replace'], after);
        expect([refused.code, refused.errors]).toEqual([
          1,
          'Processes are connected to this database and use its present secret (nodrop-worker). Stop them first, or use --force.\n',
        ]);
        expect((await cli(['secret', 'replace', '--force'], before)).code).toBe(0);
      } finally {
        await worker.$disconnect();
      }
      const replaced = await cli(['secret', 'replace'], after);
      expect([replaced.code, replaced.errors]).toEqual([0, '']);
      expect(replaced.output).toContain('  npm run nodrop -- merchants rotate-secret acme\n');
      expect((await cli(['merchants', 'rotate-secret', 'acme'], after)).code).toBe(0);
      expect((await cli(['secret', 'replace'], after)).output).toContain(
        'Every signing secret can be decrypted',
      );
      expect((await cli(set, before)).code).toBe(1);
    } finally {
      await own.drop();
    }
  });

  test('prints one sentence if the database is down or a setting is wrong', async () => {
    const away = await cli(['keys', 'list'], {
      DATABASE_URL: 'postgresql://nodrop:hunter2@127.0.0.1:1/none',
    });
    expect([away.code, away.errors]).toEqual([
      1,
      'The database none at 127.0.0.1:1 cannot be reached: start it (npm run stack), or set DATABASE_URL to the right one.\n',
    ]);
    const wrong = await cli(['keys', 'list'], { PORT: 'x' });
    expect(wrong.code).toBe(1);
    expect(wrong.errors).toMatch(/^PORT is wrong: [^\n]+\.\n$/);
    const noUrl = await cli(['keys', 'list'], { DATABASE_URL: 'nonsense' });
    expect(noUrl.errors).toBe('DATABASE_URL is wrong: must be postgresql://USER:PASSWORD@HOST:PORT/NAME.\n');
  });

  test('refuses a database that exists but cannot be used, and prints the reason', async () => {
    const empty = await emptyDatabase();
    try {
      const change = (part: Partial<URL>) => Object.assign(new URL(empty.url), part).href;
      const missing = await cli(['keys', 'list'], { DATABASE_URL: change({ pathname: '/not_there' }) });
      expect(missing.errors).toMatch(/^There is no database not_there at [^\n]+ DATABASE_URL[^\n]*\.\n$/);
      const stranger = await cli(['keys', 'list'], {
        DATABASE_URL: change({ username: 'nobody', password: 'hunter2' }),
      });
      expect(stranger.errors).toMatch(
        /^The database \S+ at \S+ refuses the user or the password in DATABASE_URL\.\n$/,
      );
      const bare = await cli(['merchants', 'list'], { DATABASE_URL: empty.url });
      expect(bare.errors).toMatch(
        /^The database \S+ at \S+ lacks tables of this release\. Migrate it: npm run stack /,
      );
      expect([missing.code, stranger.code, bare.code]).toEqual([1, 1, 1]);
    } finally {
      await empty.drop();
    }
  });
});

describe("a process whose NODROP_SECRET differs from the database's", () => {
  const OTHER = 'another secret of 32 characters!';

  test.each(['src/api/main.ts', 'src/worker/main.ts'])('%s refuses to start', async (entry) => {
    const own = await freshDatabase();
    try {
      const db = createLedgerClient(own.url);
      await requireSecret(db, { secret: SECRET, secretFile: null, embeddedDatabase: false });
      await db.$disconnect();
      const program = run(entry, [], await environment({ DATABASE_URL: own.url, NODROP_SECRET: OTHER }));
      expect(await program.ended).toBe(1);
      expect(program.errors()).toMatch(
        /^NODROP_SECRET is not the secret that this database was set up with: [^\n]+\n$/,
      );
      expect(program.errors() + program.output()).not.toContain(SECRET);
    } finally {
      await own.drop();
    }
  });

  test('an API that cannot compare the secrets yet serves no requests, and exits once it detects that the secrets differ', async () => {
    const own = await freshDatabase();
    const db = createLedgerClient(own.url);
    try {
      await requireSecret(db, { secret: SECRET, secretFile: null, embeddedDatabase: false });
      const { merchant } = await ensureMerchant(db, 'acme', []);
      const { key } = await createApiKey(db, merchant.id, 'merchant');
      await queryOnce(own.url, 'alter table secret_fingerprint rename to away');
      const env = await environment({ DATABASE_URL: own.url, NODROP_SECRET: OTHER });
      const api = run('src/api/main.ts', [], env);
      const url = `http://127.0.0.1:${env.PORT}`;
      await eventually(() =>
        callUrl(`${url}/healthz`).then(
          ({ status }) => status === 200,
          () => false,
        ),
      );
      const answer = await callUrl(`${url}/v1/orders`, { key });
      expect([answer.status, answer.json.code]).toEqual([503, 'database_unavailable']);
      await queryOnce(own.url, 'alter table away rename to secret_fingerprint');
      expect(await api.ended).toBe(1);
      expect(api.errors()).toMatch(
        /^NODROP_SECRET is not the secret that this database was set up with: [^\n]+\n$/,
      );
    } finally {
      await db.$disconnect();
      await own.drop();
    }
  });
});

describe('npm run api', () => {
  test("starts and answers requests without Temporal, and on SIGTERM answers waiting requests with the payment's current state", async () => {
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
    // Once the API has answered a later request of the same kind, it has also received the waiting request.
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
    // The payer still gets the cashier page. The script of the page keeps retrying.
    const page = await fetch(`${url}/checkout/pay_1?token=ct_1`);
    expect([page.status, page.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
    const back = await fetch(`${url}/return/pay_1?token=ct_1`, { redirect: 'manual' });
    expect([back.status, back.headers.get('location')]).toEqual([
      303,
      '../checkout/pay_1?token=ct_1&returned=1',
    ]);
    api.child.kill('SIGINT');
    expect(await api.ended).toBe(0);
  });

  test.each([
    ['PORT', 'PORT'],
    ['NODROP_ADMIN_PORT', 'NODROP_ADMIN_PORT'],
  ])(
    'if the port in %s is in use, the process exits with one sentence that names the setting',
    async (setting) => {
      const taken = createServer();
      await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
      const { port } = taken.address() as { port: number };
      const api = run('src/api/main.ts', [], await environment({ [setting]: String(port) }));
      expect(await api.ended).toBe(1);
      expect(api.errors()).toBe(`Port ${port} on 127.0.0.1 is taken: set ${setting} to a free one.\n`);
      taken.close();
    },
  );

  test('exits with one sentence that names the setting if a setting is wrong', async () => {
    const api = run('src/api/main.ts', [], await environment({ NODROP_SECRET: 'short' }));
    expect(await api.ended).toBe(1);
    expect(api.errors()).toMatch(/^NODROP_SECRET is wrong: [^\n]+\.\n$/);
  });
});
