import { createSign, generateKeyPairSync } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { CallbackOutcome, ChannelAccount, NewTrade } from '../../../src/domain/channel.ts';
import { type AlipayDouble, oracleFolder, startAlipayDouble } from '../../doubles/alipay/start.ts';
import { eventually } from '../../support/progress.ts';
import {
  accountOf,
  adapter,
  callback,
  certifiedSettingsOf,
  named,
  newTrade,
  OURS,
  paid,
  settingsOf,
  signed,
  THEIRS,
} from './support.ts';

/**
 * Tests which notifications the adapter accepts and which it refuses, and what it reports about an accepted
 * notification.
 */

describe('a published notification', () => {
  /**
   * A key, and parameters that were signed with it. Both come from the tests of Alipay's own library
   * (test/alipay.test.ts of alipay-sdk-nodejs-all, MIT).
   */
  const PUBLIC_KEY =
    'MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAqObrdC7hrgAVM98tK0nv3hSQRGGKT4lBsQjHiGjeYZjOPIPHR5knm2jnnz/YGIXIofVHkA/tAlBAd5DrY7YpvI4tP5EONLtZKC2ghBMx7McI2wRD0xiqzxOQr1FuhZGJ8/AUokBzJrzY+aGX2xcOrxFYRlFilvVLTXg4LWjR1tdPkO6+i7wQZAIVMClPkwVRZEbaERRHlKqTzv2gGv5rDU8gRoe1LeaN+6BlbTqHWkQcNCUNrA8C6l17XAXGKDsm/9TFWwO8EPHHHCaQdjtV5/FdcWIt+L8SR1ss7EXTjYDFtxcKVv9rEoY1lX8T4mX+GbXfZHraG5NCF1+XioL5JwIDAQAB';
  const PARAMS = {
    gmt_create: '2019-08-15 15:56:22',
    charset: 'utf-8',
    seller_email: 'z97-yuquerevenue@service.aliyun.com',
    subject: '语雀空间 500人规模',
    sign: 'QfTb8tqE1BMhS5qAnXtvsF3/jBkEvu9q9en0pdbBUDDjvKycZhQb7h8GDs4FKfi049PynaNuatxSgLb/nLWZpXyyh0LEWdK2S6Ri7nPwrVgOs08zugLO20vOQz44y3ti2Ncm8/wZts1Fr2gZ7pShnVX3d1B50hbsXnObT1r/U8ONNQjWXd0HIul4TG+Q3fm3svmSvFEy0WnzuhcyHPX5Gm4ELNctL6Qd5YniGJFNcc7kopHYtI/XD9YCKCH6Ct02rzUs9i11C9CsadtZn+WhxF26Dqt9sGEFajkJ8cxUTLi8+VCpLHsgPE8P0y095uQcDdK0YjCh4x7wVSov+lrmOQ==',
    buyer_id: '2088102534368455',
    invoice_amount: '0.10',
    notify_id: '2019081500222155624068450559358070',
    fund_bill_list: '[{"amount":"0.10","fundChannel":"ALIPAYACCOUNT"}]',
    notify_type: 'trade_status_sync',
    trade_status: 'TRADE_SUCCESS',
    receipt_amount: '0.10',
    buyer_pay_amount: '0.10',
    sign_type: 'RSA2',
    app_id: '2019073166072302',
    seller_id: '2088531891668739',
    gmt_payment: '2019-08-15 15:56:24',
    notify_time: '2019-08-15 15:56:25',
    version: '1.0',
    out_trade_no: '20190815155618536-564-57',
    total_amount: '0.10',
    trade_no: '2019081522001468450512505578',
    auth_app_id: '2019073166072302',
    buyer_logon_id: 'xud***@126.com',
    point_amount: '0.00',
  };

  test('a notification that Alipay itself has signed is accepted if it is unchanged, and refused after any change', async () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const account = accountOf({
      app_id: PARAMS.app_id,
      seller_id: PARAMS.seller_id,
      private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
      alipay_public_key: PUBLIC_KEY,
    });
    const verify = (params: Record<string, string>) =>
      adapter.verifyCallback(account, callback(new URLSearchParams(params).toString()));
    // nodrop did not create the trade's number, but the signature of the notification is valid.
    expect(await verify(PARAMS)).toMatchObject({ kind: 'ignored', notificationId: PARAMS.notify_id });
    for (const changes of [
      { total_amount: '0.01' },
      { out_trade_no: 'pay_1' },
      { seller_id: '2088531891668738' },
    ])
      await expect(verify({ ...PARAMS, ...changes })).rejects.toMatchObject({ kind: 'unverified' });
  });
});

describe.skipIf(oracleFolder() === undefined)('notifications from the double', () => {
  let double: AlipayDouble;
  let account: ChannelAccount;
  let server: Server;
  let receiver: string;
  const received: string[] = [];
  const outcomes: CallbackOutcome[] = [];

  beforeAll(async () => {
    double = await startAlipayDouble();
    server = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      received.push(Buffer.concat(chunks).toString('utf8'));
      const said = adapter.acknowledge?.(outcomes.shift() ?? 'stored');
      response.writeHead(said?.status ?? 500, { 'content-type': said?.type ?? '' }).end(said?.body);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    receiver = `http://127.0.0.1:${(server.address() as AddressInfo).port}/callbacks/alipay`;
  });
  afterAll(async () => {
    server?.close();
    await double?.stop();
  });
  beforeEach(async () => {
    await double.tell('reset');
    received.length = 0;
    outcomes.length = 0;
    account = accountOf(settingsOf(double));
  });

  const verify = (body: string, of = account) => adapter.verifyCallback(of, callback(body));
  const paidHere = () => paid(adapter, account, newTrade({ notifyUrl: receiver }));
  const next = () => eventually(() => received.shift());
  /**
   * Returns a notification about the trade in which the double changes these parameters before it signs the
   * notification.
   */
  const notification = async (trade: NewTrade, changes: Record<string, string> = {}) =>
    (await double.tell<{ body: string }>('notification', { ...named(trade), changes })).body;

  test('notifications report a payment, and later the refunded sum', async () => {
    const trade = await paidHere();
    const about = { outTradeNo: trade.outTradeNo };
    const answer = { state: 'paid', amount: 1050, currency: 'CNY', payerAmount: 1050 };
    const first = await verify(await next());
    expect(first).toMatchObject({ kind: 'trade', about, answer });
    expect(first).not.toMatchObject({ answer: { refundedAmount: expect.anything() } });
    await double.tell('refund', { ...named(trade), amount: '3.50' });
    expect(await verify(await next())).toMatchObject({ about, answer: { ...answer, refundedAmount: 350 } });
    await double.tell('refund', { ...named(trade), amount: '7.00' });
    const last = await verify(await next());
    expect(last).toMatchObject({ about, answer: { ...answer, state: 'refunded', refundedAmount: 1050 } });
    expect(await adapter.queryTrade(account, trade)).toMatchObject({ state: 'refunded' });
  });

  test('notifications are repeated with the same content until nodrop answers success', async () => {
    outcomes.push('refused');
    const trade = await paidHere();
    const [first, again] = [await next(), await next()];
    const verified = await verify(first);
    expect(await verify(again)).toEqual(verified);
    await double.tell('fate', { fate: 'doubled' });
    await double.tell('refund', { ...named(trade), amount: '1.00' });
    expect(await verify(await next())).toEqual(await verify(await next()));
    const answers = await eventually(async () => {
      const all = await double.tell<{ body: string }[]>('answers');
      return all.length === 4 ? all : undefined;
    });
    expect(answers.map(({ body }) => body)).toEqual(['fail', 'success', 'success', 'success']);
    expect(adapter.acknowledge?.('ignored')).toEqual({ status: 200, type: 'text/plain', body: 'success' });
  });

  test('notifications that arrive late report the time when the payment was made', async () => {
    await double.tell('fate', { fate: 'held' });
    const trade = await paidHere();
    await double.tell('clock', { offsetMs: 86_400_000 });
    await double.tell('deliver');
    const verified = await verify(await next());
    expect(verified).toMatchObject({ kind: 'trade', about: { outTradeNo: trade.outTradeNo } });
    const { paidAt } = (verified as unknown as { answer: { paidAt: string } }).answer;
    expect(Math.abs(Date.parse(paidAt) - Date.now())).toBeLessThan(60_000);
  });

  test('notifications that arrive more than 10 min after the payment cause a query, unless they report a refunded amount', async () => {
    const trade = await paidHere();
    const told = await next();
    const about = { outTradeNo: trade.outTradeNo };
    await double.tell('refund', { ...named(trade), amount: '3.50' });
    const back = await next();
    const after = async (ms: number, body: string) => {
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + ms });
      return await verify(body).finally(() => vi.useRealTimers());
    };
    expect(await after(9 * 60_000, told)).toMatchObject({ kind: 'trade', about });
    const late = await after(11 * 60_000, told);
    expect(late).toMatchObject({ kind: 'notice', about, isProven: true });
    expect(late).not.toHaveProperty('answer');
    // Only this notification reports the partial refund. Without it, an order could become paid with money that was
    // already refunded.
    expect(await after(11 * 60_000, back)).toMatchObject({
      ...{ kind: 'trade', about, answer: { state: 'paid', refundedAmount: 350 } },
    });
  });

  test('notifications are verified in certificate mode, and with older credentials during rotation', async () => {
    const trade = await paidHere();
    const body = await next();
    const expected = { about: { outTradeNo: trade.outTradeNo } };
    expect(await verify(body, accountOf(certifiedSettingsOf(double)))).toMatchObject(expected);
    const rotated = accountOf({ ...settingsOf(double, THEIRS) }, { app_id: OURS }, settingsOf(double));
    expect(await verify(body, rotated)).toMatchObject(expected);
  });

  test('notifications are refused after any change', async () => {
    await paidHere();
    const good = new URLSearchParams(await next());
    for (const [name, value] of good) {
      if (name === 'sign_type') continue;
      const changed = new URLSearchParams(good);
      changed.set(name, name === 'sign' ? `A${value.slice(1)}` : `${value}0`);
      await expect(verify(changed.toString()), `${name} changed`).rejects.toMatchObject({
        kind: 'unverified',
      });
      const without = new URLSearchParams(good);
      without.delete(name);
      await expect(verify(without.toString()), `${name} missing`).rejects.toMatchObject({
        kind: 'unverified',
      });
    }
    await expect(verify(`${good}&extra=1`)).rejects.toMatchObject({ kind: 'unverified' });
  });

  test('notifications with another sign_type than RSA2 are refused, even if the signature is valid', async () => {
    const trade = await paidHere();
    await next();
    const good = Object.fromEntries(new URLSearchParams(await notification(trade)));
    const { sign: _sign, sign_type: _type, ...params } = good;
    const key = double.keys.alipayPrivateKey;
    // The control case: a notification that the test has signed is accepted.
    await expect(verify(signed(params, key))).resolves.toMatchObject({ kind: 'trade' });
    const weak = signed(params, key, { algorithm: 'RSA-SHA1', signType: 'RSA' });
    await expect(verify(weak)).rejects.toMatchObject({ message: expect.stringContaining('RSA2') });
    for (const signType of ['RSA', 'rsa2', '', 'MD5'])
      await expect(verify(signed(params, key, { signType }))).rejects.toMatchObject({ kind: 'unverified' });
    await expect(verify(signed(params, double.keys.strangerKey))).rejects.toMatchObject({
      kind: 'unverified',
    });
  });

  test('notifications are refused for another application or seller, even if Alipay signed them', async () => {
    const trade = await paidHere();
    await next();
    for (const [changes, says] of [
      [{ app_id: THEIRS }, 'app_id'],
      [{ seller_id: '2088000000000999' }, 'seller_id'],
      [{ charset: 'gbk' }, 'charset'],
    ] as const) {
      const refused = verify(await notification(trade, changes));
      await expect(refused).rejects.toMatchObject({
        kind: 'unverified',
        message: expect.stringContaining(says),
      });
    }
  });

  test('notifications are refused if a parameter occurs twice, in either order', async () => {
    const trade = await paidHere();
    const body = await next();
    for (const twice of [`${body}&total_amount=0.01`, `total_amount=0.01&${body}`, `${body}&out_trade_no=x`])
      await expect(verify(twice)).rejects.toMatchObject({ message: expect.stringContaining('twice') });
    expect(adapter.peekOutTradeNo(Buffer.from(body))).toBe(trade.outTradeNo);
  });

  test('notifications are refused if an attacker has split one signed value into several parameters', async () => {
    const trade = await paidHere();
    await next();
    // Alipay has signed the subject as a whole. The attacker splits it into the parameters of a payment of 100 yuan.
    const inner = 'x&total_amount=100.00&trade_no=9&trade_status=TRADE_SUCCESS&u=';
    const {
      sign: _sign,
      sign_type: _type,
      ...params
    } = Object.fromEntries(new URLSearchParams(await notification(trade)));
    const whole = { ...params, subject: inner };
    const text = Object.keys(whole)
      .sort()
      .map((name) => `${name}=${(whole as Record<string, string>)[name]}`)
      .join('&');
    const sign = createSign('RSA-SHA256').update(text, 'utf8').sign(double.keys.alipayPrivateKey, 'base64');
    const [head = '', tail = ''] = text.split('&u=');
    const forged = new Map(head.split('&').map((pair) => pair.split(/=(.*)/s, 2) as [string, string]));
    forged.set('u', tail);
    const body = new URLSearchParams({ ...Object.fromEntries(forged), sign_type: 'RSA2', sign }).toString();
    await expect(verify(body)).rejects.toMatchObject({
      kind: 'unverified',
      message: expect.stringContaining('more parameters'),
    });
    expect(forged.get('total_amount')).toBe('100.00');
  });

  test("notifications are refused if a parameter's name contains the signed text of several parameters", async () => {
    const trade = await paidHere();
    await next();
    const {
      sign: _sign,
      sign_type: _type,
      ...params
    } = Object.fromEntries(new URLSearchParams(await notification(trade)));
    const whole = { ...params, receipt_amount: '10.00', refund_fee: '5.00' };
    const body = signed(whole, double.keys.alipayPrivateKey);
    // The changed parameters give the same signed text, but hide the refund.
    const hidden = body
      .replace('receipt_amount=10.00', '')
      .replace('refund_fee=5.00', '')
      .replace(/&&+/g, '&');
    const forged = `${hidden}&receipt_amount%3D10.00%26refund_fee=5.00`;
    await expect(verify(body)).resolves.toMatchObject({ answer: { refundedAmount: 500 } });
    await expect(verify(forged)).rejects.toMatchObject({
      kind: 'unverified',
      message: expect.stringContaining('name'),
    });
  });

  test("notifications with another amount than the trade's are accepted and report that amount, because the ledger compares amounts", async () => {
    const trade = await paidHere();
    await next();
    const verified = await verify(await notification(trade, { total_amount: '0.01' }));
    expect(verified).toMatchObject({ kind: 'trade', answer: { state: 'paid', amount: 1 } });
    for (const total_amount of ['10.5.0', '1e3', '-1.00', '', '10.505', '0.00', '10,50'])
      await expect(verify(await notification(trade, { total_amount }))).rejects.toMatchObject({
        kind: 'malformed',
      });
  });

  test('notifications never report a payment as closed or failed, but only make nodrop query Alipay', async () => {
    const trade = await paidHere();
    await next();
    const params = Object.fromEntries(new URLSearchParams(await notification(trade)));
    const { sign: _sign, sign_type: _type, gmt_payment: _paid, ...unpaid } = params;
    const key = double.keys.alipayPrivateKey;
    for (const trade_status of ['TRADE_CLOSED', 'TRADE_PENDING', 'SOMETHING_NEW'])
      expect(await verify(signed({ ...unpaid, trade_status }, key))).toMatchObject({
        ...{ kind: 'notice', isProven: true },
      });
    const other = signed({ ...unpaid, notify_type: 'open_app_auth_notify' }, key);
    expect(await verify(other)).toMatchObject({ kind: 'ignored' });
  });

  test('python-alipay-sdk accepts the signature of a notification, and rejects the notification after a change', async () => {
    const trade = await paidHere();
    const { sign = '', ...params } = Object.fromEntries(new URLSearchParams(await next()));
    expect(await double.tell('verify', { params, sign })).toEqual({ good: true });
    const changed = { ...params, total_amount: '0.01' };
    expect(await double.tell('verify', { params: changed, sign })).toEqual({ good: false });
    expect(trade.amount).toBe(1050);
  });
});
