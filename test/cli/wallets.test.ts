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

/** Alipay and WeChat Pay by the command line: accounts added, checked and tried, against the doubles. */

const folder = wechatpayOracle();
const isComplete = folder !== undefined && alipayOracle() !== undefined;
const home = temporaryHome();
let alipay: AlipayDouble;
let wechatpay: WechatpayDouble;
const { databaseUrl, db } = useDatabase();
/** Everything that was printed. */
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

/** What is different each time. */
const plain = (text: string) =>
  text
    .replaceAll(/pay_\w+/g, 'pay_')
    .replaceAll(/http:\/\/127\.0\.0\.1:\d+\S*/g, 'LINK')
    .replaceAll(/weixin:\/\/\S+/g, 'CODE')
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME');

const untried = (channel: string) =>
  `Account ${channel}-good of merchant acme at ${channel} creates, queries and closes. Nothing was paid or refunded: do that by hand, with the smallest amount.\n`;

describe.skipIf(!isComplete)('channels', () => {
  test.each([
    ['alipay', 'private_key'],
    ['wechatpay', 'private_key'],
  ] as const)(
    'check %s: says that credentials work, and what is wrong with others',
    async (channel, setting) => {
      await add(channel, `${channel}-good`, credentialsOf[channel]());
      const good = await channels('check', channel, '--account', `${channel}-good`);
      // What takes long is said.
      expect([good.code, good.errors.replaceAll(/^Waiting for .*\n/gm, '')]).toEqual([0, '']);
      expect(good.output).toContain(channel);
      await add(channel, `${channel}-wrong`, wrongOf[channel]());
      const wrong = await channels('check', channel, '--account', `${channel}-wrong`);
      expect(wrong.code).toBe(1);
      expect(wrong.errors).toContain(setting);
    },
  );

  test('add and rotate refuse settings of which a half is missing', async () => {
    const file = join(home, 'half.json');
    const { direct } = wechatpay.accounts;
    const says = 'public_key_id goes with public_key: give both or neither.';
    writeFileSync(file, JSON.stringify({ ...direct, public_key_id: 'PUB_KEY_ID_1' }));
    const added = await channels('add', 'wechatpay', '--account', 'half', '--file', file);
    expect([added.code, added.errors]).toEqual([1, expect.stringContaining(says)]);
    const rotated = await channels('rotate', 'wechatpay', '--account', 'wechatpay-good', '--file', file);
    expect([rotated.code, rotated.errors]).toEqual([1, expect.stringContaining(says)]);
  });

  test('smoke alipay: goes as far as a program can, by each method', async () => {
    const { code, output, errors } = await channels('smoke', 'alipay', '--account', 'alipay-good');
    expect([code, errors]).toEqual([0, '']);
    const link = (method: string, action: string) => `By ${method}:
  create pay_, CNY 10.00: no reference, ${action}
  query: unknown_trade
  nobody pays: the channel has no payment by a program.
  close: unknown_trade
`;
    expect(plain(output)).toBe(
      `alipay takes the credentials.\n${link('page', 'LINK')}${link('wap', 'LINK')}${link('precreate', 'LINK')}${untried('alipay')}`,
    );
  });

  test('smoke wechatpay: goes as far as a program can, by each method that needs nothing of a payer', async () => {
    const { code, output, errors } = await channels('smoke', 'wechatpay', '--account', 'wechatpay-good');
    expect([code, errors]).toEqual([0, '']);
    const created = (method: string, action: string) => `By ${method}:
  create pay_, CNY 10.00: no reference, ${action}
  query: unpaid
  nobody pays: the channel has no payment by a program.
  close: not before TIME
`;
    expect(plain(output)).toBe(
      `wechatpay takes the credentials.\n${created('native', 'CODE')}By h5:\n  left out: it needs ip of a payer.\n` +
        `By jsapi:\n  left out: it needs id of a payer.\n${created('app', 'an sdk action')}${untried('wechatpay')}`,
    );
  });

  test.each([
    ['alipay', { app_id: '2021000000000999' }],
    ['alipay', { seller_id: '2088000000000999' }],
    ['wechatpay', { mchid: '1900000999' }],
    ['wechatpay', { sub_mchid: '1900000999' }],
  ] as const)('rotate %s keeps who is paid: %j is refused, and changes nothing', async (channel, change) => {
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
    expect([refused.code, refused.errors]).toEqual([
      1,
      expect.stringContaining(`keeps its ${name} for life`),
    ]);
    expect(refused.errors).toContain(`channels add ${channel} --account NAME`);
    expect(await sets()).toBe(before);
    // The same one again is no other.
    const own: Credentials = credentialsOf[channel]();
    const kept = Object.keys(own).includes(name) ? `${name}=${own[name]}` : `mchid=${own.mchid}`;
    expect((await rotate(kept)).code).toBe(0);
  });

  test('no key is printed', () => {
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
