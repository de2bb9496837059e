// Tests how the demo checks the books of doubles, how it proxies their callbacks, and how it parses its options.
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Command } from 'commander';
import { afterEach, describe, expect, test } from 'vitest';
import { type Callback, CallbackProxy } from '../../src/demo/callback-proxy.ts';
import { readOptions } from '../../src/demo/options.ts';
import { PAYERS } from '../../src/demo/payers.ts';
import { Books as AlipayBooks } from '../doubles/alipay/books.ts';
import { type Merchant, Books as WechatpayBooks } from '../doubles/wechatpay/books.ts';

describe('the books of a double', () => {
  test('contain an Alipay trade with its amount and its refunded amount after the payer has opened the trade', () => {
    const books = new AlipayBooks();
    const terms = { appId: '1', subject: 'x', notifyUrl: 'http://x', ends: Date.now() + 60_000 };
    const open = (outTradeNo: string) => books.open({ ...terms, outTradeNo, total: 1050 });
    const [paid, refunded] = [open('pay_1'), open('pay_2')];
    open('pay_3');
    for (const trade of [paid, refunded]) books.pay(trade);
    books.refund(refunded, 're_1', '10.50');
    const row = { amount: 1050, currency: 'CNY', refunded: 0 };
    expect(books.ledger()).toEqual([
      { ...row, outTradeNo: 'pay_1', state: 'TRADE_SUCCESS', paidAt: isoOf(paid.paidAt) },
      { ...row, outTradeNo: 'pay_2', state: 'TRADE_CLOSED', paidAt: isoOf(refunded.paidAt), refunded: 1050 },
      { ...row, outTradeNo: 'pay_3', state: 'WAIT_BUYER_PAY', paidAt: null },
    ]);
  });

  test('count a finished refund of WeChat Pay as refunded, and do not count a pending refund', () => {
    const books = new WechatpayBooks();
    const merchant = { mchid: '1' } as Merchant;
    const add = (outTradeNo: string) => {
      const order = {
        ...{ merchant, outTradeNo, subMchid: null, method: 'native', asked: '', appid: 'wx', total: 1050 },
        ...{ currency: 'CNY', notifyUrl: 'http://x', createdAt: 0, payableUntil: Date.now() + 60_000 },
        ...{ state: 'NOTPAY', transactionId: null, paidAt: null, payerTotal: null },
      };
      books.orders.set(`1 ${outTradeNo}`, order);
      return order;
    };
    const [paid, unpaid] = [add('pay_1'), add('pay_2')];
    expect(books.pay(paid, null)).toBe(true);
    books.addRefund(paid, 're_1', 1050);
    const row = { amount: 1050, currency: 'CNY', refunded: 0 };
    const first = { ...row, outTradeNo: 'pay_1', state: 'REFUND', paidAt: isoOf(paid.paidAt) };
    const second = { ...row, outTradeNo: unpaid.outTradeNo, state: 'NOTPAY', paidAt: null };
    expect(books.ledger()).toEqual([first, second]);
    books.finishRefunds();
    expect(books.ledger()).toEqual([{ ...first, refunded: 1050 }, second]);
  });
});

const isoOf = (at: number | null) => new Date(at ?? Number.NaN).toISOString();

describe('the callback proxy', () => {
  const servers: (Server | CallbackProxy)[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) server.close();
  });

  /**
   * Starts a proxy in front of a simulated API.
   * @returns the proxy, a function that sends it a callback, and the callbacks that reached the API
   */
  async function build(status = 200) {
    const came: (Callback & { readonly path: string })[] = [];
    const api = createServer(async (request: IncomingMessage, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const headers = request.headers as Record<string, string>;
      came.push({ path: request.url ?? '', headers, body: Buffer.concat(chunks).toString() });
      response.writeHead(status).end('said');
    });
    servers.push(api);
    await new Promise<void>((resolve) => api.listen(0, '127.0.0.1', resolve));
    const proxy = new CallbackProxy({
      seed: 1,
      apiUrl: `http://127.0.0.1:${(api.address() as AddressInfo).port}`,
      withOtherAmount: async (channel, id) => ({
        headers: {},
        body: `${channel} says another amount of ${id}`,
      }),
      delayMs: 1,
    });
    await proxy.listen();
    servers.push(proxy);
    const send = async (path: string, body = 'signed') => {
      const headers = { 'wechatpay-serial': 'serial', 'content-type': 'text/plain', 'x-other': 'x' };
      const answer = await fetch(`${proxy.url}${path}`, { method: 'POST', headers, body });
      return { status: answer.status, body: await answer.text() };
    };
    return { came, proxy, send };
  }

  test('loses, duplicates or falsifies some callbacks, and counts the callbacks that it forwards', async () => {
    const { came, proxy, send } = await build();
    const ids = Array.from({ length: 300 }, (_, nth) => `pay_${nth}`);
    const answers = await Promise.all(ids.map((id) => send(`/callbacks/wechatpay/acc_1/${id}/proof`)));
    const bodies = (id: string) =>
      came.filter(({ path }) => path.includes(`/${id}/`)).map(({ body }) => body);
    const kindOf = (id: string) => {
      const [body, again, ...more] = bodies(id);
      expect([again, more]).toEqual([body, []]);
      if (body === undefined) return 'lost';
      if (body === 'signed ') return 'broken';
      return body === 'signed'
        ? 'passed'
        : body === `wechatpay says another amount of ${id}`
          ? 'changed'
          : body;
    };
    const counts = new Map<string, number>();
    for (const id of ids) counts.set(kindOf(id), (counts.get(kindOf(id)) ?? 0) + 1);
    expect([...counts.keys()].sort()).toEqual(['broken', 'changed', 'lost', 'passed']);
    expect(counts.get('lost')).toBeGreaterThan(60);
    expect(counts.get('passed')).toBeGreaterThan(150);
    ids.forEach((id, nth) => {
      const isLost = kindOf(id) === 'lost';
      // The proxy drops this callback but acknowledges it, so that the channel does not send it again.
      expect(answers[nth]).toEqual({ status: 200, body: isLost ? 'success' : 'said' });
      expect(proxy.passed.get(id)).toBe(isLost ? undefined : 2);
    });
    expect(came[0]?.headers).toMatchObject({ 'wechatpay-serial': 'serial', 'content-type': 'text/plain' });
    expect(came[0]?.headers['x-other']).toBeUndefined();
  });

  test('handles all callbacks of one payment in the same way, but changes the amount only in the first callback', async () => {
    const { came, send } = await build();
    const ids = Array.from({ length: 300 }, (_, nth) => `pay_${nth}`);
    const path = (id: string) => `/callbacks/wechatpay/acc_1/${id}/proof`;
    for (const _ of [1, 2]) await Promise.all(ids.map((id) => send(path(id))));
    for (const id of ids) {
      const bodies = came.filter((one) => one.path === path(id)).map(({ body }) => body);
      expect([0, 4]).toContain(bodies.length);
      if (bodies[0]?.includes('another amount')) expect(bodies.slice(2)).toEqual(['signed', 'signed']);
      else expect(new Set(bodies).size).toBeLessThanOrEqual(1);
    }
  });

  test("reads the payment from the form of an Alipay callback if the callback's URL names only the account", async () => {
    const { came, proxy, send } = await build();
    const ids = Array.from({ length: 300 }, (_, nth) => `pay_${nth}`);
    await Promise.all(
      ids.map((id) => send('/callbacks/alipay/acc_1', `total_amount=1.00&out_trade_no=${id}`)),
    );
    const lost = ids.filter((id) => !proxy.passed.has(id));
    expect(lost.length).toBeGreaterThan(60);
    expect(lost.length).toBeLessThan(120);
    expect(came.some(({ body }) => body.startsWith('alipay says another amount of pay_'))).toBe(true);
  });

  test("forwards a callback that names no payment unchanged, and returns nodrop's refusal to the channel", async () => {
    const { came, send } = await build(401);
    expect(await send('/callbacks/wechatpay/acc_1')).toEqual({ status: 401, body: 'said' });
    expect(came.map(({ body }) => body)).toEqual(['signed']);
  });

  test('answers 502 while the API is down, so that the channel sends the callback again', async () => {
    const { send } = await build();
    servers[0]?.close();
    (servers[0] as Server).closeAllConnections();
    expect((await send('/callbacks/wechatpay/acc_1')).status).toBe(502);
  });
});

describe('the options of the demo', () => {
  const read = (...args: string[]) =>
    readOptions(
      args,
      new Command().exitOverride().configureOutput({ writeErr: () => {}, writeOut: () => {} }),
    );

  test('select the simulator if no channel is named, and otherwise the named channels in the given order', () => {
    expect(read()).toEqual({ payers: PAYERS });
    expect(read('--channels', 'wechatpay,alipay')).toEqual({
      payers: PAYERS,
      channels: ['wechatpay', 'alipay'],
    });
    expect(read('--channels=alipay', '--payers', '60')).toEqual({ payers: 60, channels: ['alipay'] });
  });

  test.each([
    [['--channels', 'paypal'], 'There is no double of "paypal". Use alipay, wechatpay'],
    [['--channels', ''], 'There is no double of ""'],
    [['--channels', 'alipay,simulator'], 'The simulator cannot be combined with doubles'],
    [['--channels', 'alipay,alipay'], 'alipay is named twice'],
    [['--payers', '12'], 'Use 20 to 1000'],
    [['--payers', '1e2'], 'Use 20 to 1000'],
    [['--chanels', 'alipay'], 'Did you mean --channels'],
    [['alipay'], 'too many arguments'],
  ])('the wrong options %j are rejected with an error that gives the reason', (args, sentence) => {
    expect(() => read(...args)).toThrow(sentence);
  });
});
