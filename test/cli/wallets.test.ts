import { spawn } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Credentials } from '../../src/domain/channel.ts';
import { newKey, SECRET } from '../api/support.ts';
import { settingsOf } from '../channels/alipay/support.ts';
import {
  type AlipayDouble,
  oracleFolder as alipayOracle,
  startAlipayDouble,
} from '../doubles/alipay/start.ts';
import {
  startWechatpayDouble,
  type WechatpayDouble,
  oracleFolder as wechatpayOracle,
} from '../doubles/wechatpay/start.ts';
import { temporaryHome, useDatabase } from '../support/stack.ts';

/**
 * Tests accounts at Alipay and WeChat Pay. The commands `channels add`, `check`, `smoke` and `rotate` run
 * against doubles of the channels.
 */

const folder = wechatpayOracle();
const isComplete = folder !== undefined && alipayOracle() !== undefined;
const home = temporaryHome();
let alipay: AlipayDouble;
let wechatpay: WechatpayDouble;
const { databaseUrl, db } = useDatabase();
/** Collects the outputs and errors of all commands, to search them for secrets. */
const printed: string[] = [];

beforeAll(async () => {
  if (!isComplete) return;
  [alipay, wechatpay] = await Promise.all([startAlipayDouble(), startWechatpayDouble(folder)]);
  await newKey(db, 'merchant', 'acme');
});
afterAll(async () => {
  rmSync(home, { recursive: true, force: true });
  await Promise.all([alipay?.stop(), wechatpay?.stop()]);
});

async function channels(...args: string[]) {
  const child = spawn(process.execPath, ['--import', 'tsx', 'src/cli/main.ts', 'channels', ...args], {
    env: {
      ...{
        PATH: process.env.PATH ?? '',
        DATABASE_URL: databaseUrl,
        NODROP_HOME: home,
        NODROP_SECRET: SECRET,
      },
      ...{ TEMPORAL_ADDRESS: '127.0.0.1:9', NODROP_PUBLIC_URL: 'https://pay.example' },
    },
  });
  let [output, errors] = ['', ''];
  child.stdout.on('data', (data) => {
    output += data;
  });
  child.stderr.on('data', (data) => {
    errors += data;
  });
  child.stdin.end();
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  printed.push(output, errors);
  return { code, output, errors };
}

async function add(channel: string, account: string, credentials: Credentials): Promise<void> {
  const file = join(home, `${account}.json`);
  writeFileSync(file, JSON.stringify(credentials));
  const added = await channels('add', channel, '--account', account, '--file', file);
  expect([added.code, added.errors]).toEqual([0, '']);
}

const credentialsOf = {
  alipay: () => settingsOf(alipay),
  wechatpay: () => wechatpay.accounts.direct,
} as const;
const wrongOf = {
  alipay: () => ({ ...settingsOf(alipay), private_key: alipay.keys.strangerKey }),
  wechatpay: () => wechatpay.accounts.stranger,
} as const;

/** Replaces the parts of an output that differ in each run. */
const plain = (text: string) =>
  text
    .replaceAll(/pay_\w+/g, 'pay_')
    .replaceAll(/http:\/\/127\.0\.0\.1:\d+\S*/g, 'LINK')
    .replaceAll(/weixin:\/\/\S+/g, 'CODE')
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME');

const untried = (channel: string) =>
  `Account ${channel}-good of merchant acme at ${channel} can create, query and close trades. Nothing was paid or refunded: test that by hand, with the smallest amount.\n`;

describe.skipIf(!isComplete)('channels', () => {
  test.each([
    ['alipay', 'private_key'],
    ['wechatpay', 'private_key'],
  ] as const)(
    'check %s accepts valid credentials, and names the wrong setting of invalid credentials',
    async (channel, setting) => {
      await add(channel, `${channel}-good`, credentialsOf[channel]());
      const good = await channels('check', channel, '--account', `${channel}-good`);
      // The command prints "Waiting for ..." when the channel is slow.
      expect([good.code, good.errors.replaceAll(/^Waiting for .*\n/gm, '')]).toEqual([0, '']);
      expect(good.output).toContain(channel);
      await add(channel, `${channel}-wrong`, wrongOf[channel]());
      const wrong = await channels('check', channel, '--account', `${channel}-wrong`);
      expect(wrong.code).toBe(1);
      expect(wrong.errors).toContain(setting);
    },
  );

  test('add and rotate reject a setting that needs another setting if the other setting is missing', async () => {
    const file = join(home, 'half.json');
    const { direct } = wechatpay.accounts;
    const says = 'public_key_id needs public_key as well: give both or neither.';
    writeFileSync(file, JSON.stringify({ ...direct, public_key_id: 'PUB_KEY_ID_1' }));
    const added = await channels('add', 'wechatpay', '--account', 'half', '--file', file);
    expect([added.code, added.errors]).toEqual([1, expect.stringContaining(says)]);
    const rotated = await channels('rotate', 'wechatpay', '--account', 'wechatpay-good', '--file', file);
    expect([rotated.code, rotated.errors]).toEqual([1, expect.stringContaining(says)]);
  });

  test('smoke alipay creates, queries and closes one trade with each method, and pays no trade', async () => {
    const { code, output, errors } = await channels('smoke', 'alipay', '--account', 'alipay-good');
    expect([code, errors]).toEqual([0, '']);
    const link = (method: string, action: string) => `By ${method}:
  create pay_, CNY 10.00: no reference, ${action}
  query: unknown_trade
  not paid: the channel offers no way for a program to pay.
  close: unknown_trade
`;
    expect(plain(output)).toBe(
      `alipay accepts the credentials.\n${link('page', 'LINK')}${link('wap', 'LINK')}${link('precreate', 'LINK')}${untried('alipay')}`,
    );
  });

  test('smoke wechatpay creates, queries and closes one trade with each method that needs no payer data', async () => {
    const { code, output, errors } = await channels('smoke', 'wechatpay', '--account', 'wechatpay-good');
    expect([code, errors]).toEqual([0, '']);
    const created = (method: string, action: string) => `By ${method}:
  create pay_, CNY 10.00: no reference, ${action}
  query: unpaid
  not paid: the channel offers no way for a program to pay.
  close: not before TIME
`;
    expect(plain(output)).toBe(
      `wechatpay accepts the credentials.\n${created('native', 'CODE')}By h5:\n  skipped: this method needs ip of a payer.\n` +
        `By jsapi:\n  skipped: this method needs id of a payer.\n${created('app', 'an sdk action')}${untried('wechatpay')}`,
    );
  });

  test.each([
    ['alipay', { app_id: '2021000000000999' }],
    ['alipay', { seller_id: '2088000000000999' }],
    ['wechatpay', { mchid: '1900000999' }],
    ['wechatpay', { sub_mchid: '1900000999' }],
  ] as const)('rotate %s refuses a change of the receiver of payments: %j', async (channel, change) => {
    const rotate = (...settings: string[]) =>
      channels(
        'rotate',
        channel,
        '--account',
        `${channel}-good`,
        ...settings.flatMap((one) => ['--set', one]),
      );
    const sets = () => db.channelCredentials.count();
    const before = await sets();
    const [[name, value] = ['', '']] = Object.entries(change);
    const refused = await rotate(`${name}=${value}`);
    expect([refused.code, refused.errors]).toEqual([1, expect.stringContaining(`cannot change its ${name}`)]);
    expect(refused.errors).toContain(`channels add ${channel} --account NAME`);
    expect(await sets()).toBe(before);
    // A setting can be set again to the value that it already has.
    const own: Credentials = credentialsOf[channel]();
    const kept = Object.keys(own).includes(name) ? `${name}=${own[name]}` : `mchid=${own.mchid}`;
    expect((await rotate(kept)).code).toBe(0);
  });

  test('the output of each command contains no key', () => {
    const all = printed.join('\n');
    expect(all).not.toBe('');
    const given = [...Object.values(credentialsOf), ...Object.values(wrongOf)].map((of): Credentials => of());
    for (const { private_key: pem = '', api_v3_key: key } of given) {
      const [part = 'PRIVATE'] = /[0-9A-Za-z]{20,}/.exec(pem) ?? [];
      expect(all).not.toContain(part);
      if (key !== undefined) expect(all).not.toContain(key);
    }
  });
});
