import { request } from 'node:http';
import { describe, expect, test } from 'vitest';
import { NO_FAULTS } from '../../src/simulator/faults.ts';
import { ACCOUNT, newTrade, start } from './support.ts';

/** Tests access control on the payer side and the control side of the simulator. */

/** Sends a request with headers that fetch does not allow. */
function status(url: string, headers: Record<string, string>, method = 'GET'): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    request(url, { method, headers }, (res) => {
      res.resume();
      resolve(res.statusCode);
    })
      .on('error', reject)
      .end();
  });
}

describe('the control side', () => {
  test.each([
    ['a rebound DNS name', { host: 'evil.example' }, 403],
    ['a name that starts like loopback', { host: '127.0.0.1.evil.example' }, 403],
    ['a web page', { origin: 'http://127.0.0.1:3000' }, 403],
    ['a proxy (X-Forwarded-For)', { 'x-forwarded-for': '127.0.0.1' }, 403],
    ['a proxy (X-Forwarded-Host)', { 'x-forwarded-host': 'localhost' }, 403],
    ['a proxy (Forwarded)', { forwarded: 'for=127.0.0.1' }, 403],
    ['a proxy (X-Real-IP)', { 'x-real-ip': '127.0.0.1' }, 403],
    ['a proxy (Via)', { via: '1.1 proxy' }, 403],
    ['localhost', { host: 'localhost:4000' }, 200],
    ['IPv6 loopback', { host: '[::1]:4000' }, 200],
  ])('a request from %s is answered only if it is direct and local', async (_, headers, expected) => {
    const { url } = await start();
    expect(await status(`${url}/_control/ledger`, headers as unknown as Record<string, string>)).toBe(
      expected,
    );
  });

  test('a change of some faults keeps the other faults, and the answer contains all faults', async () => {
    const { setFaults } = await start();
    await setFaults({ callback: { dropRate: 0.5 }, down: true });
    expect((await setFaults({ callback: { delayMs: 10 } })).body).toEqual({
      ...NO_FAULTS,
      callback: { ...NO_FAULTS.callback, dropRate: 0.5, delayMs: 10 },
      down: true,
    });
  });

  test.each([
    ['callback.dropRat', { callback: { dropRat: 1 } }],
    ['callback.dropRate', { callback: { dropRate: 1.5 } }],
    ['query', { query: true }],
    ['dwn', { dwn: true }],
    ['rateLimitPerSecond', { rateLimitPerSecond: -1 }],
    ['seed', { seed: 'x' }],
  ])(
    'a change that contains the invalid setting %s is refused as a whole, and the refusal names the setting',
    async (path, faults) => {
      const { setFaults } = await start();
      const answer = await setFaults({ ...faults, close: { errorRate: 1 } });
      expect(answer).toMatchObject({ status: 422, body: { errors: [{ path }] } });
      expect((await setFaults({})).body).toEqual(NO_FAULTS);
    },
  );

  test('the control side empties the ledger and keeps the faults', async () => {
    const { adapter, url, ledger, setFaults } = await start();
    await setFaults({ callback: { dropRate: 1 } });
    await adapter.createTrade(ACCOUNT, newTrade());
    expect(await ledger()).toEqual([
      expect.objectContaining({ amount: 1050, currency: 'CNY', state: 'NOTPAY', paidAt: null, refunded: 0 }),
    ]);
    await fetch(`${url}/_control/ledger`, { method: 'DELETE' });
    expect(await ledger()).toEqual([]);
    expect((await setFaults({})).body).toMatchObject({ callback: { dropRate: 1 } });
  });
});

describe('the wallet page', () => {
  test('the wallet page shows the amount and the subject, escaped, and loads nothing from elsewhere', async () => {
    const { adapter, url } = await start();
    const trade = newTrade({
      subject: '<img src=x> & "co"',
      returnUrl: 'https://shop.example/r?a=1&b="2"',
      currency: 'KWD',
    });
    await adapter.createTrade(ACCOUNT, trade);
    const response = await fetch(`${url}/pay/${trade.outTradeNo}`);
    const html = await response.text();
    expect(html).toContain('<h1>KWD 1.050</h1>');
    expect(html).toContain('&lt;img src=x&gt; &amp; &quot;co&quot;');
    expect(html).not.toContain('<img');
    expect(html).not.toMatch(/<script|src="|<link(?! rel="icon" type="image\/svg\+xml" href="icon.svg">)/);
    const icon = await fetch(`${url}/pay/icon.svg`);
    expect([icon.status, icon.headers.get('content-type')]).toEqual([200, 'image/svg+xml; charset=utf-8']);
    for (const label of ['Pay', 'Decline', 'Back']) expect(html).toContain(`>${label}<`);
    expect(response.headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(response.headers.get('cache-control')).toBe('no-store');
  });

  test('sending the form of the wallet page pays the trade, and the page then has a link to the shop', async () => {
    const { adapter, url } = await start();
    const trade = newTrade();
    await adapter.createTrade(ACCOUNT, trade);
    const page = `${url}/pay/${trade.outTradeNo}`;
    const body = new URLSearchParams({ result: 'success' });
    const headers = { origin: url, accept: 'text/html,*/*;q=0.8' };
    const answer = await fetch(page, { method: 'POST', body, headers, redirect: 'manual' });
    expect([answer.status, answer.headers.get('location')]).toEqual([303, `/pay/${trade.outTradeNo}`]);
    const html = await (await fetch(page)).text();
    expect(html).toContain('Paid.');
    expect(html).toContain(`href="${trade.returnUrl}"`);
    expect(html).not.toContain('<form');
  });

  test("the wallet page is in Chinese, even after the payment, if the payer's browser or the payer chooses Chinese", async () => {
    const { adapter, url } = await start();
    const trade = newTrade();
    await adapter.createTrade(ACCOUNT, trade);
    const page = `${url}/pay/${trade.outTradeNo}`;
    const chinese = { 'accept-language': 'zh-CN,zh;q=0.9,en;q=0.8' };
    for (const [address, headers, lang, button, other] of [
      [page, {}, 'en', 'Pay', '?lang=zh'],
      [page, chinese, 'zh-Hans', '支付', '?lang=en'],
      [`${page}?lang=zh`, {}, 'zh-Hans', '支付', '?lang=en'],
      [`${page}?lang=en`, chinese, 'en', 'Pay', '?lang=zh'],
    ] as const) {
      const html = await (await fetch(address, { headers })).text();
      expect(html).toContain(`<html lang="${lang}">`);
      expect(html).toContain(`>${button}</button>`);
      expect(html).toContain(`<a href="${other}"`);
    }
    const body = new URLSearchParams({ result: 'success' });
    const headers = { origin: url, accept: 'text/html,*/*;q=0.8' };
    const paid = await fetch(`${page}?lang=zh`, { method: 'POST', body, headers });
    expect(await paid.text()).toContain('支付成功。');
    expect(await (await fetch(`${url}/pay/p1?lang=zh`)).text()).toContain('没有此编号的交易。');
  });

  test.each(['https://evil.example', 'null', 'http://127.0.0.1:1'])(
    'the wallet page refuses a payment from %s',
    async (origin) => {
      const { adapter, url, ledger } = await start();
      const trade = newTrade();
      await adapter.createTrade(ACCOUNT, trade);
      const body = new URLSearchParams({ result: 'success' });
      const answer = await fetch(`${url}/pay/${trade.outTradeNo}`, {
        method: 'POST',
        body,
        headers: { origin },
      });
      expect(answer.status).toBe(403);
      expect(await ledger()).toMatchObject([{ state: 'NOTPAY' }]);
    },
  );

  test("a program that sends the wallet's form gets the same answers as a program that sends JSON", async () => {
    const { adapter, url } = await start();
    const trade = newTrade();
    await adapter.createTrade(ACCOUNT, trade);
    const send = async (result: string) => {
      const body = new URLSearchParams({ result });
      const answer = await fetch(`${url}/pay/${trade.outTradeNo}`, {
        method: 'POST',
        body,
        redirect: 'manual',
      });
      return [answer.status, await answer.json()];
    };
    expect(await send('success')).toEqual([200, { outTradeNo: trade.outTradeNo, state: 'SUCCESS' }]);
    expect(await send('declined')).toEqual([409, expect.objectContaining({ code: 'ORDERPAID' })]);
  });

  test.each([
    ['text/plain', '{"result":"declined"}'],
    ['application/octet-stream', '{"result":"declined"}'],
    [undefined, new TextEncoder().encode('{"result":"declined"}')],
  ])('a body of type %s is answered 415 and pays nothing', async (type, body) => {
    const { adapter, url, ledger } = await start();
    const trade = newTrade();
    await adapter.createTrade(ACCOUNT, trade);
    const headers = type === undefined ? undefined : { 'content-type': type };
    const page = `${url}/pay/${trade.outTradeNo}`;
    expect((await fetch(page, { method: 'POST', body, ...(headers && { headers }) })).status).toBe(415);
    expect(await ledger()).toMatchObject([{ state: 'NOTPAY' }]);
    expect((await fetch(page, { method: 'POST' })).status).toBe(200);
  });

  test('the wallet page refuses requests under another host name, even if that name points to this host', async () => {
    const { url } = await start();
    const page = `${url}/pay/p1`;
    const as = (host: string) => status(page, { host, origin: `http://${host}` }, 'POST');
    expect(await as('evil.example:4000')).toBe(403);
    // The request passes the access check. The answer is 404, because no such trade exists.
    expect(await as('localhost:4000')).toBe(404);
  });

  test('the wallet page accepts the same decision twice, and refuses a contradictory decision', async () => {
    const { adapter, pay } = await start();
    const trade = newTrade();
    await adapter.createTrade(ACCOUNT, trade);
    const first = await pay(trade.outTradeNo);
    expect(await pay(trade.outTradeNo)).toEqual(first);
    expect(await pay(trade.outTradeNo, 'declined')).toMatchObject({
      status: 409,
      body: { code: 'ORDERPAID' },
    });
  });

  test('the wallet page answers invalid requests with a suitable status', async () => {
    const { url } = await start();
    const post = (body: string) =>
      fetch(`${url}/pay/p1`, { method: 'POST', body, headers: { 'content-type': 'application/json' } });
    expect((await post('{"result"')).status).toBe(400);
    expect((await post('{"result":"maybe"}')).status).toBe(400);
    expect((await post('{"result":"success"}')).status).toBe(404);
    const asForm = new URLSearchParams('{"result":"declined"}');
    expect((await fetch(`${url}/pay/p1`, { method: 'POST', body: asForm })).status).toBe(400);
    expect((await post(`"${'x'.repeat(256 * 1024)}"`)).status).toBe(413);
    const page = await fetch(`${url}/pay/p1`);
    expect([page.status, await page.text()]).toEqual([
      404,
      expect.stringContaining('No trade has this number.'),
    ]);
  });
});
