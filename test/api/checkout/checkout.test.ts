import { encode } from 'uqr';
import { describe, expect, test } from 'vitest';
import { checkoutPage } from '../../../src/api/checkout/shell.ts';
import { newOrderId, pay, settle, setUp, startTestApi } from '../support.ts';

// Tests the HTML of the cashier page. The tests in test/browser cover the behaviour of the page.

const { api, key } = await setUp();

const open = (path: string, headers = {}) => api.call(`/checkout/${path}`, { headers });

describe('the cashier page', () => {
  test('loads nothing from other hosts, runs nothing inline, cannot be framed and sends no referrer', async () => {
    const made = await pay(api, key);
    const { status, headers, text } = await open(`${made.id}?token=${made.clientToken}`);
    expect(status).toBe(200);
    expect(headers.get('content-security-policy')).toBe(
      "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    );
    expect(headers.get('referrer-policy')).toBe('no-referrer');
    expect(headers.get('cache-control')).toBe('no-store');
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    // Links and data attributes are left out of this check, because the browser loads nothing from them.
    const loading = text.replaceAll(/<a [^>]*>| data-[\w-]+="[^"]*"/g, '');
    expect(loading).not.toMatch(/https?:\/\/|<style|style=|\son\w+=|<script>/);
    expect(text).not.toContain(made.clientToken);
    const assets = [...text.matchAll(/(?:src|href)="(assets\/[^"]+)"/g)].map(([, path]) => path ?? '');
    for (const path of assets) expect((await open(path)).status).toBe(200);
    expect(assets.filter((path) => !path.endsWith('.js'))).toEqual(['assets/icon.svg', 'assets/page.css']);
  });

  test('preloads every module of its script', async () => {
    const { text } = await open('pay_nobody');
    const preloaded = [...text.matchAll(/<link rel="modulepreload" href="assets\/([^"]+)">/g)].map(
      ([, name]) => name ?? '',
    );
    const found = new Set<string>();
    const follow = async (name: string): Promise<void> => {
      for (const [, from = ''] of (await open(`assets/${name}`)).text.matchAll(
        /^(?:import|export) .* from ['"]\.\/(.+)['"];$/gm,
      )) {
        if (found.has(from)) continue;
        found.add(from);
        await follow(from);
      }
    };
    await follow('page.js');
    expect(preloaded).toEqual([...found].sort());
    expect((await open('pay_nobody?token=ct_x')).text).not.toContain('modulepreload');
  });

  test('asks a payer not to pay again if the page has no JavaScript or its script does not load', async () => {
    const made = await pay(api, key);
    const { text } = await open(`${made.id}?token=${made.clientToken}`);
    expect(text).toMatch(/<noscript><p>[^<]*do not pay again/);
    expect((await open(made.id)).text).toMatch(/<p id="detail">[^<]*do not pay again/);
  });

  const RETURN_URL = 'https://shop.example/thanks?a=1&b=2';
  /**
   * Opens the cashier page.
   * @returns the HTML of the page, and parts of the HTML
   */
  const page = async (id: string, token: string, query = '') => {
    const { text } = await open(`${id}?token=${token}${query}`);
    expect(text).not.toContain(token);
    const link = (name: string) =>
      [...text.matchAll(/<a([^>]*)>([^<]*)<\/a>/g)].find(([, , words]) => words?.startsWith(name))?.[1];
    const refresh = /<noscript><meta http-equiv="refresh" content="(\d+)"><\/noscript>/.exec(text)?.[1];
    const screen = /<body data-screen="(\w+)"/.exec(text)?.[1];
    return { text, link, refresh, screen };
  };

  test('without a script the page shows the amount and the subject, and links to the channel', async () => {
    const order = { id: newOrderId(), amount: 1_050_000, currency: 'CNY', subject: 'Tea & <cake>' };
    const made = await pay(api, key, { order, returnUrl: RETURN_URL });
    const { text, link, refresh, screen } = await page(made.id, made.clientToken);
    expect([screen, refresh]).toEqual(['pay', '15']);
    expect(text).toContain('<p id="amount" class="long">CNY 10,500.00</p>');
    expect(text).toContain('<p id="subject">Tea &amp; &lt;cake&gt;</p>');
    expect(text).toContain('<h1 id="title" tabindex="-1">Ready to pay</h1>');
    expect(text).toContain('<title>Ready to pay · CNY 10,500.00</title>');
    expect(link('Pay CNY 10,500.00')).toContain(`href="https://wallet.example/${made.id}"`);
    // The HTML shows the QR code unfolded, because each refresh of the page restores the state in the HTML. On phones,
    // the script folds the QR code.
    expect(text).toMatch(/<details id="qr" open><summary>[^<]*<\/summary><div id="qr-code"><svg /);
    expect(text).toMatch(/<noscript>[\s\S]*<p>30 minutes left to pay\.<\/p>/);
    expect(link('Reload now')).toContain('href=""');
    // Browsers without JavaScript always show this link. In other browsers, the script shows the link when the payer
    // has nothing else to do.
    expect(text).toMatch(/<noscript>(?:(?!<\/noscript>)[\s\S])*href="https:\/\/shop\.example\/thanks/);
    expect(link('Back to the shop')).toBeDefined();
  });

  test('while the channel has not answered, the page links back to the shop', async () => {
    const made = await pay(api, key, { returnUrl: RETURN_URL });
    const seen = await api.call(`/v1/payments/${made.id}`, { key: made.clientToken });
    for (const [ago, screen] of [
      [0, 'preparing'],
      [60_000, 'slow'],
    ] as const) {
      const now = new Date();
      const createdAt = new Date(now.getTime() - ago).toISOString();
      const payment = { ...seen.json, status: 'created', nextAction: null, createdAt };
      const text = checkoutPage(
        'en',
        { payment, subject: '', now, mayHavePaid: false, browser: 'desktop' },
        { titles: {}, methods: {} },
      );
      expect(text).toContain(`data-screen="${screen}"`);
      expect(text).toContain('>Back to the shop</a>');
    }
  });

  test('if there is no link to the channel, the page draws the QR code itself and shows it expanded', async () => {
    const made = await pay(api, key);
    const qr = 'weixin://wxpay/bizpayurl?pr=NwY5Mz9';
    await api.db.payment.update({ where: { id: made.id }, data: { nextAction: { type: 'qr', qr } } });
    const { text, link } = await page(made.id, made.clientToken);
    const drawn = /<details id="qr" open>.*?<svg viewBox="0 0 (\d+) \1".*?<path d="([^"]+)"/.exec(text);
    const { data, size } = encode(qr, { ecc: 'M', border: 4 });
    expect(Number(drawn?.[1])).toBe(size);
    const seen = [...Array(size)].map(() => Array<boolean>(size).fill(false));
    for (const [, x, y, length] of drawn?.[2]?.matchAll(/M(\d+) (\d+)h(\d+)v1h-\3z/g) ?? [])
      seen[Number(y)]?.fill(true, Number(x), Number(x) + Number(length));
    expect(seen).toEqual(data);
    expect(link('Pay')).toBeUndefined();
  });

  test('tells a returning payer that nodrop is still asking the bank, and repeats the payment link', async () => {
    const made = await pay(api, key, { returnUrl: RETURN_URL });
    const { text, link, refresh, screen } = await page(made.id, made.clientToken, '&returned=1');
    // Without JavaScript, the page is refreshed every 15 s. Nothing in the HTML is folded, because each refresh would
    // fold it again.
    expect([screen, refresh]).toEqual(['asking', '15']);
    expect(text).toContain('We are still asking the bank');
    expect(text).toMatch(/<noscript>[\s\S]*If you have not paid, you can pay here:[\s\S]*<\/noscript>/);
    expect(text.match(/<details/g)).toHaveLength(1);
    expect(link('Pay CNY 10.50')).toContain(`href="https://wallet.example/${made.id}"`);
    expect(link('Back to the shop')).toBeDefined();
  });

  test.each([
    ['paid', undefined],
    ['unpaid', '60'],
  ])('shows the final state %s and links back to the shop', async (screen, refresh) => {
    const made = await pay(api, key, { returnUrl: RETURN_URL });
    if (screen === 'paid') await settle(api.db, made.id);
    else await api.db.payment.update({ where: { id: made.id }, data: { status: 'failed' } });
    const shown = await page(made.id, made.clientToken);
    expect([shown.screen, shown.refresh]).toEqual([screen, refresh]);
    expect(shown.text.includes('reloads automatically')).toBe(refresh !== undefined);
    expect(shown.link('Back to the shop')).toContain(
      `href="https://shop.example/thanks?a=1&amp;b=2&amp;paymentId=${made.id}"`,
    );
    expect(shown.link('Pay')).toBeUndefined();
  });

  test('when the next action has expired, the page links back to the shop', async () => {
    const made = await pay(api, key, { returnUrl: RETURN_URL });
    const nextAction = {
      type: 'redirect',
      url: 'https://wallet.example/',
      expiresAt: '2026-01-01T00:00:00.000Z',
    };
    await api.db.payment.update({ where: { id: made.id }, data: { nextAction } });
    const { link, screen } = await page(made.id, made.clientToken);
    expect(screen).toBe('lapsed');
    expect(link('Back to the shop')).toBeDefined();
  });

  test('a page without its token says that the link is private, and has the same content for every payment id', async () => {
    const made = await pay(api, key, { returnUrl: RETURN_URL });
    const { text } = await open(made.id);
    expect(text).toBe((await open('pay_nobody')).text);
    expect(text).toMatch(/<noscript><h2>This link is private<\/h2>[\s\S]*Go back to the shop/);
    expect(text).not.toContain('http-equiv="refresh"');
    expect(text).not.toContain('has ended');
  });

  test("redirects from a URL with a trailing slash to the URL without it, because the page's files are relative to that URL", async () => {
    const made = await pay(api, key);
    const answer = await fetch(`${api.url}/checkout/${made.id}/?token=${made.clientToken}`, {
      redirect: 'manual',
    });
    expect([answer.status, answer.headers.get('location')]).toEqual([
      308,
      `../${made.id}?token=${made.clientToken}`,
    ]);
    expect(answer.headers.get('cache-control')).toBe('no-store');
  });

  test.each([
    ['de-DE,de;q=0.9', 'en'],
    ['zh-CN,zh;q=0.9,en;q=0.8', 'zh-Hans'],
    ['zh-TW', 'zh-Hans'],
    ['en-US,zh;q=0.5', 'en'],
    ['*', 'en'],
  ])('if the header Accept-Language is "%s", the language of the page is %s', async (language, lang) => {
    for (const path of ['pay_nobody', 'pay_nobody?token=ct_x']) {
      const answer = await open(path, { 'accept-language': language });
      expect(answer.text).toContain(`<html lang="${lang}">`);
      expect(answer.headers.get('vary')).toContain('Accept-Language');
    }
  });

  test.each(['checkout', 'return'])(
    'a parameter of the URL /%s selects the language, and the language form keeps the other parameters',
    async (path) => {
      const made = await pay(api, key);
      const chinese = { 'accept-language': 'zh-CN' };
      const token = path === 'checkout' ? made.clientToken : 'ct_wrong+&';
      const at = (query: string) => `/${path}/${made.id}?${query}`;
      const query = `token=${encodeURIComponent(token)}&returned=1`;
      for (const [before, headers, now, other, words] of [
        ['', {}, 'en', 'zh', '中文'],
        ['', chinese, 'zh-Hans', 'en', 'English'],
        ['&lang=zh', {}, 'zh-Hans', 'en', 'English'],
        ['&lang=en', chinese, 'en', 'zh', '中文'],
        ['&lang=en&lang=zh', {}, 'en', 'zh', '中文'],
        ['&lang=xx', chinese, 'zh-Hans', 'en', 'English'],
      ] as const) {
        const { text } = await api.call(at(query + before), { headers });
        expect(text).toContain(`<html lang="${now}">`);
        expect(text).toMatch(
          new RegExp(`<form method="post"><button class="language" lang="[\\w-]+">${words}</button></form>`),
        );
        expect(text).not.toContain(token);
        const url = `${api.url}${at(query + before)}`;
        const sent = await fetch(url, { method: 'POST', headers, redirect: 'manual' });
        expect([sent.status, sent.headers.get('cache-control'), sent.headers.get('referrer-policy')]).toEqual(
          [303, 'no-store', 'no-referrer'],
        );
        const to = new URL(sent.headers.get('location') ?? '', url);
        expect(to.origin + to.pathname).toBe(`${api.url}/${path}/${made.id}`);
        expect([...to.searchParams]).toEqual([
          ['token', token],
          ['returned', '1'],
          ['lang', other],
        ]);
      }
    },
  );

  test('the page without a token contains the form that changes the language', async () => {
    const { text } = await open('pay_nobody');
    expect(text).toMatch(/<noscript><h2>This link[\s\S]*<form method="post"><button class="language"/);
    expect(text.match(/<form/g)).toHaveLength(1);
    const to = await fetch(`${api.url}/checkout/pay_nobody`, { method: 'POST', redirect: 'manual' });
    expect([to.status, to.headers.get('location')]).toEqual([303, '?lang=zh']);
    expect((await open('pay_nobody?lang=zh')).text).toContain('<html lang="zh-Hans">');
  });

  test.each(['checkout', 'return'])(
    'a broken link under /%s is answered with a page whose style sheet and icon can be loaded',
    async (path) => {
      const { id } = await pay(api, key);
      for (const query of [`token=${'x'.repeat(3_000)}`, 'token=ct_a&token=ct_b', 'token=%00', 'token']) {
        const answer = await api.call(`/${path}/${id}?${query}`);
        expect([answer.status, answer.headers.get('content-type')]).toEqual([
          404,
          'text/html; charset=utf-8',
        ]);
        const files = [...answer.text.matchAll(/href="([^"]+)"/g)].map(([, file]) => file ?? '');
        expect(files).toHaveLength(2);
        expect(answer.text).not.toContain('has ended');
        for (const file of files)
          expect((await fetch(new URL(file, `${api.url}/${path}/${id}`))).status, file).toBe(200);
      }
    },
  );

  test('if a URL contains several tokens, the first token is used, and a repeated `returned` parameter has no further effect', async () => {
    const { id, clientToken } = await pay(api, key);
    expect((await open(`${id}?token=${clientToken}&token=ct_b&returned=1&returned=1`)).status).toBe(200);
    expect((await api.call(`/return/${id}?token=${clientToken}&token=ct_b`)).status).toBe(303);
  });

  test("shows a merchant's texts as text, not as HTML", async () => {
    const subject = `"><script>alert(1)</script>&amp;'`;
    const made = await pay(api, key, {
      order: { id: newOrderId(), amount: 1050, currency: 'CNY', subject },
      returnUrl: 'https://shop.example/?a="><b>&c',
    });
    const { text } = await open(`${made.id}?token=${made.clientToken}`);
    expect(text).toContain('data-subject="&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;\'"');
    expect(text).toContain('data-return-url="https://shop.example/?a=%22%3E%3Cb%3E&amp;c&amp;paymentId=');
  });

  test("shows the subject under which the attempt was created, even after the order's subject has changed", async () => {
    const order = { id: newOrderId(), amount: 1050, currency: 'CNY', subject: 'Two tickets' };
    const made = await pay(api, key, { order });
    await api.call(`/v1/orders/${order.id}`, { method: 'PATCH', key, body: { subject: 'Three tickets' } });
    const { text } = await open(`${made.id}?token=${made.clientToken}`);
    expect(text).toContain('data-subject="Two tickets"');
  });

  test('while the database is down the page is still served, and reloads itself', async () => {
    const made = await pay(api, key);
    const dead = await startTestApi('postgresql://nodrop@127.0.0.1:1/none');
    try {
      const answer = await dead.call(`/checkout/${made.id}?token=${made.clientToken}`);
      expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
      expect(answer.text).toContain('<noscript><meta http-equiv="refresh" content="5"></noscript>');
    } finally {
      await dead.close();
    }
  });

  test("the page's files import only each other, and browsers revalidate the files each time", async () => {
    for (const name of ['page.js', 'nodrop.js', 'uqr.js', 'currencies.js', 'schemes.js', 'page.css']) {
      const { status, headers, text } = await open(`assets/${name}`);
      expect([status, headers.get('cache-control')]).toEqual([200, 'no-cache']);
      expect(headers.get('content-type')).toMatch(name.endsWith('js') ? /javascript/ : /css/);
      for (const [, from] of text.matchAll(/^import .* from ['"](.+)['"];$/gm))
        expect((await open(`assets/${from}`)).status, from).toBe(200);
    }
    for (const name of ['shell.ts', 'nodrop.d.ts', '..%2fshell.ts'])
      expect((await open(`assets/${name}`)).status).toBe(404);
  });
});
