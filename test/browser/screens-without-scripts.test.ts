import type { Page } from 'playwright-core';
import { describe, expect, test } from 'vitest';
import { newOrderId, pay, settle } from '../api/support.ts';
import { api, browser, key, LOOKS, openWith } from './screens-support.ts';
import { CHROMIUM, expectAccessible, keep, openTab, shows } from './support.ts';

/**
 * Tests the cashier page if there is no connection or no payment, or if the page's scripts or JavaScript are missing.
 */

describe.skipIf(CHROMIUM === undefined)('the cashier page', () => {
  test('shows that there is no connection, and that a switch of the channel has failed', async () => {
    const made = await pay(api, key);
    for (const look of LOOKS) {
      const { page, close } = await openWith(look);
      await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
      await shows(page, 'pay');
      await page.route('**/v1/**', (route) => route.abort());
      await page.locator('#channels button').click();
      await page.locator('#alert:not(:empty)').waitFor();
      await keep(page, `switch failed ${look.locale}`);
      await page.locator('#i-paid').click();
      expect(await page.locator('#alert').textContent()).toBe('');
      await page.locator('#connection:not(:empty)').waitFor();
      await shows(page, 'asking');
      await expectAccessible(page);
      await keep(page, `away ${look.locale}`);
      await close();
    }
  });

  test('shows a separate page at a URL that opens no payment', async () => {
    const made = await pay(api, key);
    for (const look of LOOKS) {
      const { page, close } = await openWith(look);
      for (const query of ['', '?token=ct_wrong']) {
        await page.goto(`${api.url}/checkout/${made.id}${query}`);
        await shows(page, 'gone');
        await expectAccessible(page);
        await keep(page, `gone${query} ${look.locale}`);
      }
      await close();
    }
  });

  test('shows no amount at a URL that opens no payment', async () => {
    const made = await pay(api, key);
    const { page, close } = await openWith(LOOKS[1]);
    await page.goto(`${api.url}/checkout/${made.id}`);
    await shows(page, 'gone');
    expect(await page.locator('header').isVisible()).toBe(false);
    expect(await page.locator('footer').isVisible()).toBe(false);
    await close();
  });

  describe('with or without running scripts', () => {
    const file = (name: string) => new RegExp(`/checkout/assets/${name}$`);
    test.each<[string, (page: Page) => Promise<unknown>]>([
      [
        'because it cannot parse them',
        (page) =>
          page.route(file('page.js'), (route) =>
            route.fulfill({ contentType: 'text/javascript', body: 'let = ;' }),
          ),
      ],
      ['because one of them does not load', (page) => page.route(file('money.js'), (route) => route.abort())],
      [
        'because it does not support modules',
        (page) =>
          page.route(/\/checkout\/pay_/, async (route) => {
            const response = await route.fetch();
            const body = (await response.text()).replace('type="module"', 'type="text/later"');
            await route.fulfill({ response, body });
          }),
      ],
      [
        'because it lacks a function that they call',
        (page) => page.addInitScript('delete Element.prototype.append'),
      ],
    ])(
      'if a browser cannot run the scripts %s, the page shows what a browser without JavaScript shows, and reloads itself',
      async (_why, spoil) => {
        const made = await pay(api, key, { returnUrl: 'https://shop.example/thanks' });
        const { page, context } = await openWith(LOOKS[0]);
        await spoil(page);
        await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
        await page.getByRole('link', { name: 'Back to the shop' }).waitFor();
        await page.getByRole('link', { name: 'Reload now' }).waitFor();
        expect(await page.getByRole('link', { name: /^Pay CNY/ }).getAttribute('href')).toBe(made.payUrl);
        await settle(api.db, made.id);
        await page.getByRole('heading', { name: 'Paid' }).waitFor();
        // The page has the heading from the start. The other texts appear once the page has loaded.
        await page.getByRole('button', { name: '中文' }).waitFor();
        expect(await page.locator('main button:visible').count()).toBe(1);
        // The browser reports a script that cannot be parsed as an error of the page. So this test does not check that
        // the browser reports no errors.
        await context.close();
        // This tab has not opened the payment before.
        const other = await openWith(LOOKS[0]);
        await spoil(other.page);
        await other.page.goto(`${api.url}/checkout/${made.id}`);
        await other.page.getByRole('heading', { name: 'This link is private' }).waitFor();
        expect(await other.page.locator('#state').count()).toBe(0);
        await other.context.close();
      },
    );

    test("if the scripts ran earlier in the payer's tab, a reload without the scripts still shows the payment and its current state", async () => {
      const made = await pay(api, key, { returnUrl: 'https://shop.example/thanks' });
      const { page, context } = await openWith(LOOKS[0]);
      await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}&lang=zh`);
      await shows(page, 'pay');
      await page.locator('#i-paid').click();
      await shows(page, 'asking');
      await page.route(file('money.js'), (route) => route.abort());
      await page.reload();
      await page.getByRole('heading', { name: '正在向银行确认' }).waitFor();
      await settle(api.db, made.id);
      await page.getByRole('heading', { name: '支付成功' }).waitFor();
      await context.close();
    });

    test('the scripts run in a browser that lacks only newer DOM functions', async () => {
      const made = await pay(api, key);
      const { page, close } = await openWith(LOOKS[0]);
      await page.addInitScript('delete Element.prototype.replaceChildren');
      await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
      await shows(page, 'pay');
      await page.locator('html[data-runs]').waitFor();
      await page.locator('#qr-code svg').waitFor({ state: 'attached' });
      expect(await page.locator('#channels button').count()).toBeGreaterThan(0);
      await close();
    });

    test('if the scripts run, the texts for browsers without scripts are removed', async () => {
      const made = await pay(api, key, { returnUrl: 'https://shop.example/thanks' });
      const { page, close } = await openWith(LOOKS[0]);
      await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`, { waitUntil: 'load' });
      await shows(page, 'pay');
      expect(await page.locator('.without').count()).toBe(0);
      await close();
    });
  });

  describe('without JavaScript', () => {
    const WITHOUT = { javaScriptEnabled: false };
    /** axe-core needs JavaScript. So it checks a copy of the HTML that a browser without JavaScript would show. */
    async function expectAccessibleWithout(url: string, look: (typeof LOOKS)[number]): Promise<void> {
      const { page, close } = await openWith(look);
      await page.route(url, async (route) => {
        const response = await route.fetch();
        const text = await response.text();
        const body = text.replaceAll(
          /<\/?noscript>|<script.*?<\/script>|<meta http-equiv="refresh"[^>]*>/g,
          '',
        );
        await route.fulfill({ response, body });
      });
      await page.goto(url);
      await expectAccessible(page);
      await close();
    }

    test('shows the amount, links to the channel, and shows the code as an image', async () => {
      const order = { id: newOrderId(), amount: 1990, currency: 'CNY', subject: 'Coffee' };
      const made = await pay(api, key, { order, returnUrl: 'https://shop.example/thanks' });
      for (const look of LOOKS) {
        const { page, close } = await openWith({ ...look, ...WITHOUT } as never);
        const url = `${api.url}/checkout/${made.id}?token=${made.clientToken}`;
        await page.goto(url);
        const isChinese = look.locale === 'zh-CN';
        await page.getByText('CNY 19.90', { exact: true }).waitFor();
        await page.getByText('Coffee').waitFor();
        await page.getByRole('heading', { name: isChinese ? '待支付' : 'Ready to pay' }).waitFor();
        const link = page.getByRole('link', { name: isChinese ? '支付 CNY 19.90' : 'Pay CNY 19.90' });
        expect(await link.getAttribute('href')).toBe(`https://wallet.example/${made.id}`);
        const said = page.locator('.content noscript');
        expect(await said.isVisible()).toBe(true);
        expect(await said.textContent()).toContain(isChinese ? '请勿重复付款' : 'do not pay again');
        const code = page.getByRole('img', { name: isChinese ? '用钱包打开此支付的二维码' : 'QR code' });
        // The QR code is still there after the page has reloaded itself.
        await code.waitFor();
        expect(await page.locator('#back, noscript a[href^="https://shop.example"]').count()).toBeGreaterThan(
          0,
        );
        for (const button of await page.locator('main :is(button, a, summary):visible').all())
          expect((await button.boundingBox())?.height).toBeGreaterThanOrEqual(44);
        expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(look.viewport.width);
        await keep(page, `no script ${look.locale}`);
        await close();
        await expectAccessibleWithout(url, look);
      }
    });

    test('reloads itself, shows how the payment ended, and links back to the shop', async () => {
      const made = await pay(api, key, { returnUrl: 'https://shop.example/thanks' });
      const { page, close } = await openWith({ ...LOOKS[0], ...WITHOUT } as never);
      const url = `${api.url}/checkout/${made.id}?token=${made.clientToken}&returned=1`;
      await page.goto(url);
      await page.getByRole('heading', { name: 'We are still asking the bank' }).waitFor();
      // Playwright sees no text and no role inside a `noscript`.
      const link = page.locator('noscript .again a');
      await link.waitFor();
      expect(await page.locator('noscript details').count()).toBe(0);
      expect(await link.textContent()).toBe('Pay CNY 10.50');
      await keep(page, 'no script asking');
      await expectAccessibleWithout(url, LOOKS[0]);
      await settle(api.db, made.id);
      await page.getByRole('heading', { name: 'Paid' }).waitFor();
      expect(await page.getByRole('link', { name: 'Back to the shop' }).getAttribute('href')).toBe(
        `https://shop.example/thanks?paymentId=${made.id}`,
      );
      expect(await page.locator('main a:visible').count()).toBe(1);
      // The final page does not reload itself.
      expect(await page.locator('meta[http-equiv="refresh"]').count()).toBe(0);
      await keep(page, 'no script paid');
      await close();
      await expectAccessibleWithout(url, LOOKS[0]);
    });

    test('keeps showing the payment, however often the payer switches the language', async () => {
      const made = await pay(api, key);
      // This tab respects the page's own content security policy, which limits where the form may be sent.
      const { page, context, complaints } = await openTab(browser, [api.url], { ...LOOKS[0], ...WITHOUT });
      await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}&returned=1`);
      for (const [title, amount] of [
        ['We are still asking the bank', 'CNY 10.50'],
        ['正在向银行确认', 'CNY 10.50'],
        ['We are still asking the bank', 'CNY 10.50'],
      ] as const) {
        await page.locator('h1', { hasText: title }).waitFor();
        expect(await page.locator('#amount').textContent()).toBe(amount);
        await keep(page, `no script language ${title}`);
        await page.locator('.bar form button').click();
      }
      expect(complaints).toEqual([]);
      await context.close();
    });

    test('if its URL is opened in another browser, the page says that the link is private', async () => {
      const made = await pay(api, key);
      const { page, close } = await openWith({ ...LOOKS[0], ...WITHOUT } as never);
      const url = `${api.url}/checkout/${made.id}`;
      await page.goto(url);
      await page.locator('noscript h2').waitFor();
      expect(await page.locator('noscript h2').textContent()).toBe('This link is private');
      expect(await page.locator('#state').isVisible()).toBe(false);
      expect(await page.locator('.content noscript').textContent()).toContain('Go back to the shop');
      await keep(page, 'no script private');
      await close();
      await expectAccessibleWithout(url, LOOKS[0]);
    });
  });
});
