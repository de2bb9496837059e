import type { Page } from 'playwright-core';
import { describe, expect, test } from 'vitest';
import { newOrderId, pay, settle } from '../api/support.ts';
import { api, browser, key, LOOKS, openWith } from './screens-support.ts';
import { CHROMIUM, expectAccessible, keep, openTab, shows } from './support.ts';

/** The cashier page where something is missing: a connection, a payment, the scripts of the page, JavaScript. */

describe.skipIf(CHROMIUM === undefined)('the cashier page', () => {
  test('without a connection, and when changing the channel fails', async () => {
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

  test('at an address that opens nothing', async () => {
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

  test('at an address that opens nothing there is no room for an amount', async () => {
    const made = await pay(api, key);
    const { page, close } = await openWith(LOOKS[1]);
    await page.goto(`${api.url}/checkout/${made.id}`);
    await shows(page, 'gone');
    expect(await page.locator('header').isVisible()).toBe(false);
    expect(await page.locator('footer').isVisible()).toBe(false);
    await close();
  });

  describe('in a browser that does not run the scripts of the page', () => {
    const file = (name: string) => new RegExp(`/checkout/assets/${name}$`);
    test.each<[string, (page: Page) => Promise<unknown>]>([
      [
        'as it does not understand their language',
        (page) =>
          page.route(file('page.js'), (route) =>
            route.fulfill({ contentType: 'text/javascript', body: 'let = ;' }),
          ),
      ],
      ['as one of them does not arrive', (page) => page.route(file('money.js'), (route) => route.abort())],
      [
        'as it has no modules',
        (page) =>
          page.route(/\/checkout\/pay_/, async (route) => {
            const response = await route.fetch();
            const body = (await response.text()).replace('type="module"', 'type="text/later"');
            await route.fulfill({ response, body });
          }),
      ],
      ['as it lacks what they call', (page) => page.addInitScript('delete Element.prototype.append')],
    ])('%s, it has what a browser without scripts has, and looks again by itself', async (_why, spoil) => {
      const made = await pay(api, key, { returnUrl: 'https://shop.example/thanks' });
      const { page, context } = await openWith(LOOKS[0]);
      await spoil(page);
      await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
      await page.getByRole('link', { name: 'Back to the shop' }).waitFor();
      await page.getByRole('link', { name: 'Reload now' }).waitFor();
      expect(await page.getByRole('link', { name: /^Pay CNY/ }).getAttribute('href')).toBe(made.payUrl);
      await settle(api.db, made.id);
      await page.getByRole('heading', { name: 'Paid' }).waitFor();
      // The heading is there from the beginning; what browsers without scripts have, once the page has loaded.
      await page.getByRole('button', { name: '中文' }).waitFor();
      expect(await page.locator('main button:visible').count()).toBe(1);
      // A file that cannot be read is an error of the page: no look at its complaints.
      await context.close();
      // In a tab that has not opened the payment.
      const other = await openWith(LOOKS[0]);
      await spoil(other.page);
      await other.page.goto(`${api.url}/checkout/${made.id}`);
      await other.page.getByRole('heading', { name: 'This link is private' }).waitFor();
      expect(await other.page.locator('#state').count()).toBe(0);
      await other.context.close();
    });

    test('a reload in the tab of the payer, in which they ran before, leads to the payment and to what is known of it', async () => {
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

    test('one that lacks newer ways to change a page runs them', async () => {
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

    test('where they run, nothing is said twice', async () => {
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
    /** axe-core needs a script: it is shown what a browser without one makes of the page. */
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

    test('says what is to be paid, leads to the channel, and has the code as an image', async () => {
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
        // However often the page has looked again.
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

    test('looks again by itself, says how the payment ended, and leads back to the shop', async () => {
      const made = await pay(api, key, { returnUrl: 'https://shop.example/thanks' });
      const { page, close } = await openWith({ ...LOOKS[0], ...WITHOUT } as never);
      const url = `${api.url}/checkout/${made.id}?token=${made.clientToken}&returned=1`;
      await page.goto(url);
      await page.getByRole('heading', { name: 'We are still asking the bank' }).waitFor();
      // What is in a `noscript` has no text and no role for Playwright.
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
      // Nothing comes after this one.
      expect(await page.locator('meta[http-equiv="refresh"]').count()).toBe(0);
      await keep(page, 'no script paid');
      await close();
      await expectAccessibleWithout(url, LOOKS[0]);
    });

    test('changes its language, as often as the payer likes, and stays with the payment', async () => {
      const made = await pay(api, key);
      // Under the page's own policy, which says where its form may lead.
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

    test('says of a copy of its address that the link is private', async () => {
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
