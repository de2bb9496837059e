import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createChannels } from '../../src/channels/registry.ts';
import { listAccounts, storeConfigured } from '../../src/ledger/channel-accounts.ts';
import { createLedgerClient } from '../../src/ledger/client.ts';
import { CredentialsCache } from '../../src/ledger/credentials-cache.ts';
import { applyMigrations, prismaDir, readMigrations } from '../../src/stack/migrate.ts';
import { newKey, newOrderId, SECRET, startTestApi } from '../api/support.ts';
import { SECRETS, start } from '../simulator/support.ts';
import { emptyDatabase, queryOnce, temporaryHome } from '../support/stack.ts';
import { callbackBy, newSecret, setUp } from './channels-support.ts';

/**
 * Tests that a payment uses the channel account that the request names. If the request names none, the payment uses the
 * merchant's default.
 */

test('the migration to named accounts makes an older account its merchant’s default, and the next start stores credentials for this account', async () => {
  const before = '20261127090001_account_names';
  const dir = temporaryHome();
  cpSync(prismaDir, dir, { recursive: true });
  for (const { path } of readMigrations().migrationDirectories)
    if (path >= before) rmSync(join(dir, 'migrations', path), { recursive: true });
  const database = await emptyDatabase();
  onTestFinished(async () => {
    await database.drop();
    rmSync(dir, { recursive: true, force: true });
  });
  await applyMigrations(database.url, dir);
  const statements = [
    "insert into merchants (id, name) values ('mer_1', 'acme'), ('mer_2', 'other')",
    "insert into channel_accounts (id, merchant_id, channel, is_default) values ('acc_1', 'mer_1', 'simulator', true), ('acc_2', 'mer_2', 'simulator', false)",
    "insert into orders (merchant_id, id, amount, currency, subject, status) values ('mer_1', 'o1', 100, 'CNY', 'Tea', 'paying')",
    `insert into payments (id, merchant_id, order_id, channel, channel_account_id, method, amount, currency, status, expires_at, client_token_hash)
      values ('pay_1', 'mer_1', 'o1', 'simulator', 'acc_1', 'wallet', 100, 'CNY', 'paying', now() + interval '1 hour', 'x')`,
  ];
  for (const statement of statements) await queryOnce(database.url, statement);
  await applyMigrations(database.url);

  const simulator = await start();
  const db = createLedgerClient(database.url);
  onTestFinished(() => db.$disconnect());
  const configured = [{ channel: 'simulator', credentials: { secret: SECRETS.simulator } }];
  await storeConfigured(db, configured, SECRET, new Date());
  const accounts = await listAccounts(db, new Date());
  expect(accounts).toMatchObject([
    {
      id: 'acc_1',
      name: 'main',
      isMerchantDefault: true,
      ownsChannelAddress: true,
      mode: 'test',
      disabledAt: null,
    },
    { id: 'acc_2', name: 'main', isMerchantDefault: true, ownsChannelAddress: false },
  ]);
  expect(accounts.map(({ credentials }) => credentials.length)).toEqual([1, 1]);
  const channels = createChannels({ mode: 'test', simulator, stripe: {} }, new CredentialsCache(db, SECRET));
  const api = await startTestApi(database.url, { channels });
  onTestFinished(() => api.close());
  const { key } = await newKey(db, 'merchant', 'acme');
  // The live payment continues. Its callbacks to the address without an account id are still accepted.
  const again = await api.call('/v1/payments', { key, body: { orderId: 'o1', channel: 'simulator' } });
  expect([again.status, again.json.id, again.json.account]).toEqual([200, 'pay_1', 'main']);
  expect((await api.call('/callbacks/simulator', callbackBy(SECRETS.simulator))).status).toBe(200);
});

describe('the field `account` of POST /v1/payments', () => {
  async function withApi() {
    const it = await setUp();
    const api = await startTestApi(it.database.url);
    onTestFinished(() => api.close());
    for (const name of ['eu', 'us']) {
      await it.channels(
        ['channels', 'add', 'simulator', '--account', name, '--file', '-'],
        `secret=${newSecret()}`,
      );
    }
    const order = () => ({ id: newOrderId(), amount: 1050, currency: 'CNY' });
    const pay = (body: object) =>
      api.call('/v1/payments', { key: it.key, body: { channel: 'simulator', ...body } });
    return { ...it, api, order, pay };
  }

  test('selects the named account, or the default account if the field is missing, and an unknown name is rejected', async () => {
    const it = await withApi();
    const byDefault = await it.pay({ order: it.order() });
    expect([byDefault.status, byDefault.json.account]).toEqual([201, 'main']);
    const named = await it.pay({ order: it.order(), account: 'eu' });
    expect([named.status, named.json.account]).toEqual([201, 'eu']);
    const row = await it.db.payment.findUniqueOrThrow({ where: { id: named.json.id } });
    expect(row.channelAccountId).toBe((await it.account('eu')).id);
    const shown = await it.api.call(`/v1/payments/${named.json.id}`, { key: it.key });
    expect(shown.json.account).toBe('eu');

    for (const order of [
      { order: it.order() },
      { orderId: (await it.api.call('/v1/orders', { key: it.key, body: it.order() })).json.id },
    ]) {
      const wrong = await it.pay({ ...order, account: 'asia' });
      expect([wrong.status, wrong.json.code, wrong.json.errors]).toEqual([
        422,
        'unknown_account',
        [{ path: 'account', message: 'must be one of eu, main, us' }],
      ]);
    }
    // This account belongs to another merchant.
    const other = await newKey(it.db);
    const foreign = await it.api.call('/v1/payments', {
      key: other.key,
      body: { channel: 'simulator', order: it.order(), account: 'eu' },
    });
    expect(foreign.json.code).toBe('unknown_account');
    // The account is changed to live mode, so the API, which runs in test mode, does not use it.
    await it.db.channelAccount.updateMany({ where: { name: 'us' }, data: { mode: 'live' } });
    expect((await it.pay({ order: it.order(), account: 'us' })).json.errors).toEqual([
      { path: 'account', message: 'must be one of eu, main' },
    ]);
  });

  test('returns the live attempt if the field is missing or names the attempt’s account, and otherwise closes the live attempt first', async () => {
    const it = await withApi();
    const { id: orderId } = (await it.api.call('/v1/orders', { key: it.key, body: it.order() })).json;
    const made = await it.pay({ orderId, account: 'eu' });
    for (const account of [{ account: 'eu' }, {}]) {
      const again = await it.pay({ orderId, ...account });
      expect([again.status, again.json.id, again.json.account]).toEqual([200, made.json.id, 'eu']);
    }
    const closing = await it.pay({ orderId, account: 'us' });
    expect([closing.status, closing.json.code]).toEqual([409, 'attempt_unresolved']);
    expect(it.api.workflows.named('cancel').map(({ paymentId }) => paymentId)).toEqual([made.json.id]);
    await it.db.payment.update({ where: { id: made.json.id }, data: { status: 'closed' } });
    const other = await it.pay({ orderId, account: 'us' });
    expect([other.status, other.json.account]).toEqual([201, 'us']);
  });

  test('cannot name a disabled account for a new payment, but live payments of the disabled account continue', async () => {
    const it = await withApi();
    const { id: orderId } = (await it.api.call('/v1/orders', { key: it.key, body: it.order() })).json;
    const live = await it.pay({ orderId });
    const disabled = await it.channels(['channels', 'disable', 'simulator']);
    expect(disabled.output).toContain('It is the default');
    const refused = await it.pay({ order: it.order() });
    expect([refused.status, refused.json.code, refused.json.errors]).toEqual([
      422,
      'unknown_account',
      [{ path: 'account', message: 'must be one of eu, us' }],
    ]);
    const again = await it.pay({ orderId });
    expect([again.status, again.json.id]).toEqual([200, live.json.id]);
    const payer = await it.api.call(`/v1/payments/${live.json.id}`, { key: live.json.clientToken });
    expect(payer.json.switchTo.map(({ channel }: { channel: string }) => channel)).toEqual(['simulator2']);
    expect(
      (await it.channels(['channels', 'enable', 'simulator', '--account', 'eu', '--default'])).code,
    ).toBe(0);
    expect((await it.pay({ order: it.order() })).json.account).toBe('eu');
    // If a merchant has no enabled account at a channel, the API treats the channel as unknown to this merchant.
    await it.db.channelAccount.updateMany({
      data: { disabledAt: new Date() },
      where: { channel: 'simulator' },
    });
    expect((await it.pay({ order: it.order() })).json.code).toBe('unknown_channel');
  });
});
