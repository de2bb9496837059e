import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createAlipayAdapter } from '../../../src/channels/alipay/adapter.ts';
import { validated } from '../../../src/channels/validated-adapter.ts';
import { createWechatpayAdapter } from '../../../src/channels/wechatpay/adapter.ts';
import { callbackProof } from '../../../src/client-token.ts';
import type { ChannelAccount, ChannelAdapter, Credentials, NewTrade } from '../../../src/domain/channel.ts';
import { addAccount } from '../../../src/ledger/channel-accounts.ts';
import { linkOf, OURS, pay as payAlipay, settingsOf } from '../../channels/alipay/support.ts';
import {
  type AlipayDouble,
  oracleFolder as alipayOracle,
  startAlipayDouble,
} from '../../doubles/alipay/start.ts';
import {
  startWechatpayDouble,
  type WechatpayDouble,
  oracleFolder as wechatpayOracle,
} from '../../doubles/wechatpay/start.ts';
import { pay, SECRET, setUp, testChannels } from '../support.ts';

/**
 * Tests callbacks of Alipay and WeChat Pay over HTTP, as their doubles sign them and as an attacker would forge them.
 * At both callback URLs, the account's and the payment's own, a callback without proof is refused and recorded, and
 * changes no payment. An Alipay payer can read the payment's own callback URL in the link, so for Alipay this URL
 * proves nothing.
 */

const adapters: Readonly<Record<Channel, ChannelAdapter>> = {
  alipay: validated(createAlipayAdapter()),
  wechatpay: validated(createWechatpayAdapter()),
};
type Channel = 'alipay' | 'wechatpay';

const { api, key, merchantId } = await setUp({
  channels: new Map([...testChannels(), ...Object.entries(adapters)]),
});

const folder = wechatpayOracle();
const isComplete = folder !== undefined && alipayOracle() !== undefined;
let alipay: AlipayDouble;
let wechatpay: WechatpayDouble;
const accounts = {} as Record<Channel, ChannelAccount>;

beforeAll(async () => {
  if (!isComplete) return;
  [alipay, wechatpay] = await Promise.all([startAlipayDouble(), startWechatpayDouble(folder)]);
  await alipay.tell('fate', { fate: 'lost' });
  await wechatpay.tell('rules', { callbacks: 'lost' });
  const add = async (channel: Channel, credentials: Credentials) => {
    const given = { merchantId, channel, name: 'main', mode: 'test', credentials } as const;
    const account = await addAccount(api.db, { ...given, isMerchantDefault: true }, SECRET, new Date());
    accounts[channel] = { id: account?.id ?? '', merchantId, channel, credentials: [credentials] };
  };
  await add('alipay', settingsOf(alipay));
  await add('wechatpay', wechatpay.accounts.direct);
});
afterAll(async () => await Promise.all([alipay?.stop(), wechatpay?.stop()]));
beforeEach(async () => {
  await api.unverified.flush();
  await api.db.unverifiedCallback.deleteMany();
  api.workflows.calls.length = 0;
});

interface Sent {
  readonly raw: string;
  readonly headers: Record<string, string>;
}

/** Creates a payment that is paid at its channel. No callback about it has arrived yet. */
async function newPaid(channel: Channel): Promise<string> {
  const { id, expiresAt } = await pay(api, key, { channel });
  const trade: NewTrade = {
    ...{ outTradeNo: id, amount: 1050, currency: 'CNY', reference: null, subject: 'Two tickets' },
    method: channel === 'alipay' ? 'page' : 'native',
    ...{ createdAt: new Date().toISOString(), expiresAt, payer: {} },
    ...{ notifyUrl: 'http://127.0.0.1:9/callbacks', returnUrl: 'https://shop.example/done' },
  };
  if (channel === 'alipay') await payAlipay(await linkOf(adapters.alipay, accounts.alipay, trade));
  else {
    await adapters.wechatpay.createTrade(accounts.wechatpay, trade);
    await wechatpay.tell('pay', { outTradeNo: id });
  }
  api.workflows.calls.length = 0;
  return id;
}

/** Changes the content of a callback that the channel has signed. */
async function made(
  channel: Channel,
  outTradeNo: string,
  changes: Record<string, unknown> = {},
): Promise<Sent> {
  if (channel === 'alipay') {
    const { body } = await alipay.tell<{ body: string }>('notification', {
      appId: OURS,
      outTradeNo,
      changes,
    });
    return { raw: body, headers: { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' } };
  }
  const { body, headers } = (await wechatpay.tell('callback', { outTradeNo, ...changes })) as {
    readonly body: string;
    readonly headers: Record<string, string>;
  };
  return { raw: body, headers };
}

const addressOf = (channel: Channel) => `/callbacks/${channel}/${accounts[channel].id}`;
const ownAddressOf = (channel: Channel, id: string) =>
  `${addressOf(channel)}/${id}/${callbackProof(SECRET, accounts[channel].id, id)}`;
const send = (to: string, { raw, headers }: Sent) => api.call(to, { method: 'POST', raw, headers });

const REFUSED = { alipay: [400, 'fail'], wechatpay: [401, '{"code":"FAIL","message":"refused"}'] } as const;
const TAKEN = { alipay: [200, 'success'], wechatpay: [200, '{"code":"SUCCESS","message":"OK"}'] } as const;

/** Expects that both URLs refuse the callback and record this reason. The only effect is a query of the channel. */
async function expectRefused(channel: Channel, id: string, sent: Sent, reason: string): Promise<void> {
  for (const address of [addressOf(channel), ownAddressOf(channel, id)]) {
    const answer = await send(address, sent);
    expect([answer.status, answer.text], reason).toEqual(REFUSED[channel]);
    await api.unverified.flush();
    const rows = await api.db.unverifiedCallback.findMany();
    expect(rows.map((row) => row.channelAccountId)).toEqual([accounts[channel].id]);
    expect(rows[0]?.reason).toContain(reason);
    expect(Buffer.from(rows[0]?.bodyHead ?? []).toString()).toBe(sent.raw.slice(0, 4096));
    await api.db.unverifiedCallback.deleteMany();
  }
  expect(await api.db.callback.count({ where: { outTradeNo: id } })).toBe(0);
  const payment = await api.db.payment.findUniqueOrThrow({ where: { id } });
  expect(payment).toMatchObject({ status: 'paying', channelAnswer: null });
  // nodrop treats a callback at the payment's own URL as a notice if only the channel can know that URL.
  expect(payment.noticedAt === null, channel).toBe(channel === 'alipay');
}

describe.skipIf(!isComplete)('a callback', () => {
  test.each(['alipay', 'wechatpay'] as const)(
    'of %s is accepted, and the payment is recorded as paid',
    async (channel) => {
      const id = await newPaid(channel);
      const sent = await made(channel, id);
      for (const address of [ownAddressOf(channel, id), addressOf(channel)]) {
        const answer = await send(address, sent);
        expect([answer.status, answer.text]).toEqual(TAKEN[channel]);
      }
      expect(await api.db.payment.findUniqueOrThrow({ where: { id } })).toMatchObject({
        channelAnswer: { state: 'paid', amount: 1050, currency: 'CNY', by: 'callback' },
      });
      expect(await api.db.callback.count({ where: { outTradeNo: id } })).toBe(1);
      expect(await api.db.unverifiedCallback.count()).toBe(0);
    },
  );

  test.each([
    ['alipay', { total_amount: '0.01' }],
    ['wechatpay', { content: { amount: { total: 1, payer_total: 1, currency: 'CNY' } } }],
  ] as const)(
    'of %s with another amount and a correct signature is stored but settles no payment',
    async (channel, changes) => {
      const id = await newPaid(channel);
      const answer = await send(ownAddressOf(channel, id), await made(channel, id, changes));
      expect([answer.status, answer.text]).toEqual(TAKEN[channel]);
      expect(await api.db.callback.findMany({ where: { outTradeNo: id } })).toMatchObject([
        { paymentId: id, answer: { state: 'paid', amount: 1 } },
      ]);
      // The callback makes nodrop query the channel.
      expect(await api.db.payment.findUniqueOrThrow({ where: { id } })).toMatchObject({
        channelAnswer: null,
      });
      expect(api.workflows.calls.map(({ name }) => name)).toEqual(['deliverCallback']);
    },
  );

  test('of Alipay is refused if it has a tampered amount, a repeated parameter, another seller or application, or a weaker signature', async () => {
    const id = await newPaid('alipay');
    const { raw, headers } = await made('alipay', id);
    const signed = (change: Record<string, string>) => made('alipay', id, change);
    const changed = (name: string, value: string) => {
      const params = new URLSearchParams(raw);
      params.set(name, value);
      return { raw: params.toString(), headers };
    };
    await expectRefused('alipay', id, changed('total_amount', '0.01'), 'not made with a key');
    await expectRefused('alipay', id, { raw: `${raw}&total_amount=0.01`, headers }, 'twice');
    await expectRefused('alipay', id, await signed({ seller_id: '2088000000000999' }), 'seller_id');
    await expectRefused('alipay', id, await signed({ app_id: '2021000000000999' }), 'app_id');
    await expectRefused('alipay', id, changed('sign_type', 'RSA'), 'RSA2');
  });

  test('of WeChat Pay is refused if it was tampered with, is too old, is a signature probe, or is for another merchant or key', async () => {
    const id = await newPaid('wechatpay');
    const { raw, headers } = await made('wechatpay', id);
    const changed = (change: Record<string, string>) => ({ raw, headers: { ...headers, ...change } });
    const { mchid = '' } = wechatpay.accounts.direct;
    const content = JSON.parse(raw) as { resource: { ciphertext: string } };
    const { ciphertext } = content.resource;
    content.resource.ciphertext = `${ciphertext.startsWith('A') ? 'B' : 'A'}${ciphertext.slice(1)}`;
    const body = JSON.stringify(content);
    const resigned = {
      raw: body,
      headers: (await wechatpay.tell('sign', { mchid, body, atMs: Date.now() })) as Record<string, string>,
    };
    const time = String(Number(headers['wechatpay-timestamp']) + 1);
    const probe = `WECHATPAY/SIGNTEST/${headers['wechatpay-signature']?.slice(19)}`;
    const refused = (sent: Sent, why: string) => expectRefused('wechatpay', id, sent, why);
    await refused({ raw: raw.replace('"id":"', '"id":"0'), headers }, 'not made with a key of WeChat Pay');
    await refused(resigned, 'was changed');
    await refused(changed({ 'wechatpay-serial': 'A'.repeat(40) }), 'not made with a key of WeChat Pay');
    await refused(changed({ 'wechatpay-timestamp': time }), 'not made with a key of WeChat Pay');
    await refused(await made('wechatpay', id, { atOffsetMs: -310_000 }), 'too old');
    await refused(changed({ 'wechatpay-signature': probe }), 'testing whether');
    await refused(await made('wechatpay', id, { content: { mchid: '1900000110' } }), 'another merchant');
    const apiV3Key = randomBytes(16).toString('hex');
    await refused(await made('wechatpay', id, { apiV3Key }), 'another key');
  });
});
