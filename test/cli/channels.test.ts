import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { ACCOUNT_FRESH_MS } from '../../src/api/channel-accounts.ts';
import { createChannels } from '../../src/channels/registry.ts';
import {
  findChannelAccount,
  readCredentials,
  rotateCredentials,
  storeConfigured,
} from '../../src/ledger/channel-accounts.ts';
import { createLedgerClient } from '../../src/ledger/client.ts';
import { CREDENTIALS_FRESH_MS, CredentialsCache } from '../../src/ledger/credentials-cache.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { sealCredentials } from '../../src/ledger/sealed-credentials.ts';
import { SECRET, startTestApi } from '../api/support.ts';
import { newTrade, SECRETS, start, tradeNamed } from '../simulator/support.ts';
import { queryOnce } from '../support/stack.ts';
import { callbackBy, home, newSecret, setUp } from './channels-support.ts';

/**
 * Tests the commands for channel accounts together with a real database, the adapters, and the simulator as the
 * channel.
 */

const OTHER_SECRET = 'another secret, which came later, 32+';

type SetUp = Awaited<ReturnType<typeof setUp>>;

/** @returns all rows of the database as text. */
async function dumpOf(url: string): Promise<string> {
  const tables = await queryOnce(
    url,
    "select table_name as name from information_schema.tables where table_schema = 'public'",
  );
  const rows = await Promise.all(
    tables.map(({ name }) => queryOnce(url, `select to_jsonb(t)::text as row from "${name}" as t`)),
  );
  return JSON.stringify(rows);
}

async function expectNoSecret({ database, printed }: SetUp, secrets: readonly string[], ...texts: string[]) {
  const everywhere = [...printed, ...texts, await dumpOf(database.url)].join('\n');
  for (const secret of secrets) {
    expect(everywhere).not.toContain(secret);
    expect(everywhere).not.toContain(Buffer.from(secret).toString('hex'));
  }
}

describe('channels add', () => {
  test('reads secrets only from a file or standard input, does not print them, and stores them encrypted', async () => {
    const it = await setUp();
    const secrets = [newSecret(), newSecret(), newSecret()];
    const [first = '', second = '', typed = ''] = secrets;
    const file = join(home, 'settings');
    writeFileSync(file, `# from the simulator\n\nsecret = ${first}\n`);

    const argument = await it.channels([
      'channels',
      'add',
      'simulator',
      '--account',
      'eu',
      '--set',
      `secret=${typed}`,
    ]);
    expect(argument.code).toBe(1);
    expect(argument.errors).toMatch(
      /^secret is secret, and a shell keeps a history of commands\. .*--file -/,
    );

    const added = await it.channels(['channels', 'add', 'simulator', '--account', 'eu', '--file', file]);
    expect([added.code, added.errors]).toEqual([0, '']);
    const eu = await it.account('eu');
    expect(added.output).toContain(`Callback address: https://pay.example/callbacks/simulator/${eu.id}\n`);
    expect(eu).toMatchObject({ isMerchantDefault: false, mode: 'test', ownsChannelAddress: false });

    const again = await it.channels(['channels', 'add', 'simulator', '--account', 'eu', '--file', file]);
    expect([again.code, again.errors]).toEqual([
      1,
      expect.stringContaining('To change its credentials: channels rotate.'),
    ]);

    const json = JSON.stringify({ secret: second, url: 'http://127.0.0.1:8' });
    const input = ['channels', 'add', 'simulator', '--account', 'us', '--default', '--file', '-'];
    expect((await it.channels(input, json)).code).toBe(0);
    const us = await it.account('us');
    expect(us.isMerchantDefault).toBe(true);
    expect((await it.account('main')).isMerchantDefault).toBe(false);
    expect(await readCredentials(it.db, SECRET, us.id, new Date())).toEqual([
      { secret: second, url: 'http://127.0.0.1:8' },
    ]);

    const list = await it.channels(['channels', 'list']);
    expect(list.output).toContain('https://pay.example/callbacks/simulator/');
    expect(list.output).toMatch(/acme +simulator +us +test +yes +[0-9a-f]{8} +enabled/);
    await expectNoSecret(it, secrets);
  });

  test('rejects a wrong value with an error that does not contain the value', async () => {
    const it = await setUp();
    const wrong = newSecret().slice(0, 20);
    const add = ['channels', 'add', 'simulator', '--account', 'eu'];
    const cases: [string[], string, RegExp, Record<string, string>?][] = [
      [
        ['channels', 'add', 'nothing'],
        '',
        /^There is no channel nothing\. The channels are simulator, simulator2/,
      ],
      [add, '', /^simulator needs more settings\. .*\n {2}secret \(secret\): /],
      [
        [...add, '--file', '-'],
        `secret=${wrong}`,
        /^secret is wrong: it must be whsec_ and at least 24 bytes/,
      ],
      [[...add, '--file', '-'], `secret ${wrong}`, /^Line 1 of standard input is not name=value\.\n$/],
      [
        [...add, '--file', '-'],
        `{"secret": ${wrong}`,
        /^standard input begins like JSON, but is not valid JSON\.\n$/,
      ],
      [
        [...add, '--file', '-'],
        `${wrong}=x`,
        /^simulator has no setting with a name that standard input gives\. Its settings are secret, url\.\n$/,
      ],
      [[...add, '--file', '/nowhere'], '', /^\/nowhere cannot be read: /],
      [[...add, '--set', 'url=ftp://x'], '', /^url is wrong: it must be an http or https URL/],
      [
        ['channels', 'add', 'simulator', '--account', 'E U'],
        '',
        /^--account is wrong: it must be 1 to 32 of/,
      ],
      [['channels', 'add', 'simulator', '--merchant', 'nobody'], '', /^There is no merchant nobody/],
      [
        ['channels', 'disable', 'simulator', '--account', 'eu'],
        '',
        /^Merchant acme has no account eu at simulator: it has main there\.\n$/,
      ],
      [
        [...add, '--file', '-'],
        `secret=${newSecret()}`,
        /^NODROP_MODE=live refuses the channel simulator, which moves no real money\.\n$/,
        { NODROP_MODE: 'live' },
      ],
    ];
    const results = await Promise.all(
      cases.map(async ([args, input, words, change]) => ({
        words,
        ...(await it.channels(args, input, change)),
      })),
    );
    for (const { words, code, errors } of results) {
      expect(errors).toMatch(words);
      expect(code).toBe(1);
    }
    expect(await it.db.channelCredentials.count()).toBe(0);
    await expectNoSecret(it, [wrong]);
  });
});

test('an account can be added with only an API key, and its callback secret can be set after nodrop has printed the callback address', async () => {
  const it = await setUp();
  const key = `sk_test_${randomBytes(12).toString('hex')}`;
  const secret = `whsec_${randomBytes(12).toString('hex')}`;
  const added = await it.channels(['channels', 'add', 'stripe', '--file', '-'], `secret_key=${key}`);
  expect([added.code, added.errors]).toEqual([0, '']);
  const { id } = await it.account('main', 'stripe');
  expect(added.output).toContain(`Callback address: https://pay.example/callbacks/stripe/${id}\n`);
  const rotate = ['channels', 'rotate', 'stripe', '--drop-old', '--file', '-'];
  expect((await it.channels(rotate, `webhook_secret=${secret}`)).code).toBe(0);
  expect(await readCredentials(it.db, SECRET, id, new Date())).toEqual([
    { secret_key: key, webhook_secret: secret },
  ]);
  await expectNoSecret(it, [key, secret]);
});

test('the credentials that were stored last are the newest, even if a clock is behind, and concurrent rotations lose no credentials', async () => {
  const { db, account } = await setUp();
  const main = await account();
  const rotate = (given: Record<string, string>, behindMs: number) =>
    rotateCredentials(
      db,
      main,
      (current) => ({ ...current, ...given }),
      null,
      SECRET,
      new Date(Date.now() - behindMs),
    );
  await rotate({ secret: 'first' }, 0);
  await rotate({ secret: 'second' }, 60_000);
  const newest = async () => (await readCredentials(db, SECRET, main.id, new Date()))[0];
  expect(await newest()).toEqual({ secret: 'second' });
  await Promise.all([rotate({ secret: 'third' }, 0), rotate({ url: 'http://127.0.0.1:8' }, 60_000)]);
  expect(await newest()).toEqual({ secret: 'third', url: 'http://127.0.0.1:8' });
});

test('check distinguishes a wrong secret from a channel that cannot be reached', async () => {
  const simulator = await start();
  const it = await setUp(simulator.url);
  const check = ['channels', 'check', 'simulator'];

  const none = await it.channels(check);
  expect([none.code, none.errors]).toEqual([1, expect.stringContaining('has no credentials')]);
  const rotate = ['channels', 'rotate', 'simulator', '--file', '-'];
  const wrong = newSecret();
  expect((await it.channels(rotate, `secret=${wrong}`)).code).toBe(0);
  const refused = await it.channels(check);
  expect([refused.code, refused.errors]).toEqual([
    1,
    expect.stringMatching(/^Account main of merchant acme at simulator does not work: .*check the secret/),
  ]);
  expect((await it.channels(rotate, `secret=${SECRETS.simulator}`)).code).toBe(0);
  const works = await it.channels(check);
  expect([works.code, works.output]).toEqual([0, 'Account main of merchant acme at simulator works.\n']);
  await simulator.close();
  const away = await it.channels(check);
  expect([away.code, away.errors]).toEqual([2, expect.stringContaining('could not be reached: ')]);
  await expectNoSecret(it, [wrong, SECRETS.simulator]);
});

test('after a rotation new trades use the new credentials, and callbacks signed with the old credentials are accepted until these are dropped', async () => {
  const simulator = await start();
  const it = await setUp(simulator.url);
  let clock = Date.now();
  const now = () => new Date(clock);
  const cache = new CredentialsCache(it.db, SECRET, () => clock);
  const channels = createChannels({ mode: 'test', simulator: { url: simulator.url }, stripe: {} }, cache);
  const api = await startTestApi(it.database.url, { channels, now });
  onTestFinished(() => api.close());
  const [old, current] = [newSecret(), SECRETS.simulator];
  await it.channels(['channels', 'rotate', 'simulator', '--file', '-'], `secret=${old}`);
  const { id, merchantId } = await it.account();
  const account = { id, merchantId, channel: 'simulator', credentials: [] };
  const adapter = channels.get('simulator');
  const path = `/callbacks/simulator/${id}`;
  const statusBy = async (secret: string) => (await api.call(path, callbackBy(secret))).status;

  expect(await statusBy(old)).toBe(200);
  expect(await statusBy(current)).toBe(401);
  await expect(adapter?.createTrade(account, newTrade())).rejects.toMatchObject({ kind: 'misconfigured' });

  const rotated = await it.channels(['channels', 'rotate', 'simulator', '--file', '-'], `secret=${current}`);
  expect(rotated.output).toContain('--drop-old');
  // When the channel refuses the cached credentials, the cache reads them again immediately. The refused create still
  // fails, because an attempt has no time for a second request. The next create uses the new credentials.
  clock += 2_000;
  await expect(adapter?.createTrade(account, newTrade())).rejects.toMatchObject({ kind: 'misconfigured' });
  expect(await adapter?.createTrade(account, newTrade())).toMatchObject({ action: { type: 'redirect' } });
  for (const secret of [current, old, current]) expect(await statusBy(secret)).toBe(200);

  const dropped = await it.channels(['channels', 'rotate', 'simulator', '--drop-old']);
  expect(dropped.output).toMatch(/: 1 older sets of credentials are valid at most until /);
  clock = Date.now() + ACCOUNT_FRESH_MS;
  expect(await statusBy(old)).toBe(401);
  expect(await statusBy(current)).toBe(200);
  const { json } = await api.call('/v1/callbacks/unmatched', { key: it.key });
  await api.unverified.flush();
  await expectNoSecret(it, [old, current], api.logged(), JSON.stringify(json));
});

test('credentials are read at most once in 30 s, however many calls use them', async () => {
  const simulator = await start();
  const it = await setUp();
  await storeConfigured(
    it.db,
    [{ channel: 'simulator', credentials: { secret: SECRETS.simulator } }],
    SECRET,
    new Date(0),
  );
  let clock = Date.now();
  let reads = 0;
  const counted = it.db.$extends({
    query: {
      channelCredentials: {
        findMany: ({ args, query }) => {
          reads += 1;
          return query(args);
        },
      },
    },
  });
  const cache = new CredentialsCache(counted as unknown as typeof it.db, SECRET, () => clock);
  const adapter = createChannels({ mode: 'test', simulator, stripe: {} }, cache).get('simulator');
  const { id, merchantId } = await it.account();
  const ask = () =>
    adapter?.queryTrade({ id, merchantId, channel: 'simulator', credentials: [] }, tradeNamed('p1'));
  for (let n = 0; n < 3; n += 1) await Promise.all([ask(), ask(), ask()]);
  expect(reads).toBe(1);
  clock += CREDENTIALS_FRESH_MS;
  await ask();
  expect(reads).toBe(2);
});

test('if NODROP_SECRET has changed, the error says that credentials cannot be decrypted, and storing new credentials solves the problem', async () => {
  const it = await setUp();
  const secret = newSecret();
  expect(
    (
      await it.channels(
        ['channels', 'add', 'simulator', '--account', 'eu', '--file', '-'],
        `secret=${secret}`,
      )
    ).code,
  ).toBe(0);
  const { id, merchantId } = await it.account('eu');
  const sentence = `The credentials of channel account ${id} cannot be read: they were encrypted with another NODROP_SECRET. Set that one again, or store them again with channels rotate.`;
  await expect(readCredentials(it.db, OTHER_SECRET, id, new Date())).rejects.toThrow(sentence);
  await expect(findChannelAccount(it.db, OTHER_SECRET, 'simulator', id, new Date())).rejects.toThrow(
    sentence,
  );
  const adapter = createChannels(
    { mode: 'test', simulator: { url: 'http://127.0.0.1:9' }, stripe: {} },
    new CredentialsCache(it.db, OTHER_SECRET),
  ).get('simulator');
  const account = { id, merchantId, channel: 'simulator', credentials: [] };
  await expect(adapter?.queryTrade(account, tradeNamed('p1'))).rejects.toMatchObject({
    kind: 'misconfigured',
    message: sentence,
  });
  // A ciphertext of another account is reported as damaged, not as encrypted with another secret.
  const stolen = sealCredentials(SECRET, (await it.account('main')).id, { secret });
  await it.db.channelCredentials.updateMany({ where: { accountId: id }, data: { ciphertext: stolen } });
  await expect(readCredentials(it.db, SECRET, id, new Date())).rejects.toThrow('they are damaged');

  const under = { NODROP_SECRET: OTHER_SECRET };
  expect((await it.channels(['channels', 'list'], '', under)).errors).toMatch(
    /^NODROP_SECRET is not the secret /,
  );
  const replaced = await it.channels(['secret', 'replace'], '', under);
  const command = `channels rotate simulator --merchant acme --account eu --drop-old --file`;
  expect(replaced.output).toContain(`  npm run nodrop -- ${command} FILE`);
  expect((await it.channels([...command.split(' '), '-'], `secret=${secret}`, under)).code).toBe(0);
  expect(await readCredentials(it.db, OTHER_SECRET, id, new Date())).toEqual([{ secret }]);
  expect((await it.channels(['secret', 'replace'], '', under)).output).toContain(
    'every channel account can be decrypted',
  );
});

test('if several processes start concurrently, the simulator’s credentials are stored once, and an outdated secret is replaced', async () => {
  const it = await setUp();
  const clients = Array.from({ length: 4 }, () => createLedgerClient(it.database.url));
  onTestFinished(async () => void (await Promise.all(clients.map((client) => client.$disconnect()))));
  const startAll = async (secret: string) => {
    const configured = ['simulator', 'simulator2'].map((channel) => ({ channel, credentials: { secret } }));
    await Promise.all(clients.map((client) => storeConfigured(client, configured, SECRET, new Date())));
  };
  const [first, second] = [newSecret(), newSecret()];
  await startAll(first);
  await startAll(first);
  expect(await it.db.channelCredentials.count()).toBe(2);
  await startAll(second);
  expect(await it.db.channelCredentials.count()).toBe(4);
  const { id } = await it.account();
  expect(await readCredentials(it.db, SECRET, id, new Date())).toEqual([{ secret: second }]);
});

test('if a merchant has no credentials, keys create stores the configured credentials for the merchant', async () => {
  const it = await setUp();
  const { merchant } = await ensureMerchant(it.db, 'later', ['simulator']);
  const { id } = await it.db.channelAccount.findFirstOrThrow({ where: { merchantId: merchant.id } });
  const created = await it.channels(['keys', 'create', '--merchant', 'later'], '', {
    NODROP_SIMULATOR_SECRET: newSecret(),
  });
  expect(created.code).toBe(0);
  expect(await readCredentials(it.db, SECRET, id, new Date())).toHaveLength(1);
});
