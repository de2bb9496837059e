import type { Page } from 'playwright-core';
import { describe, expect, test } from 'vitest';
import { settle } from '../api/support.ts';
import { CHROMIUM, expectAccessible, keep, openTab, shows } from './support.ts';
import {
  AGENTS,
  api,
  browser,
  H5,
  H5_URL,
  IN_WECHAT,
  JSAPI,
  NATIVE,
  open,
  PAYER,
} from './wallets-support.ts';

/** The cashier page within WeChat and Alipay: how the app's own way to pay is opened, and the way out of the app. */

describe.skipIf(CHROMIUM === undefined)('the cashier page with wallets', () => {
  describe("within WeChat, with the payer's openid", () => {
    /** WeChat's bridge, as a page sees it: it answers as the test says, and keeps what it was asked. */
    const bridge = (errMsg: string) => `
      globalThis.asked = [];
      globalThis.WeixinJSBridge = {
        invoke: (name, params, answer) => {
          globalThis.asked.push([name, params]);
          answer({ err_msg: ${JSON.stringify(errMsg)} });
        },
      };`;
    const asked = (page: Page) => page.evaluate('globalThis.asked');

    test('the button opens WeChat Pay, and what it says is asked for and not believed', async () => {
      // Under the policy of the page.
      const { page, made, go, close } = await open('wechat', IN_WECHAT, { bypassCSP: false });
      await page.addInitScript(bridge('get_brand_wcpay_request:ok'));
      const hinted = page.waitForRequest('**/hint');
      await go();
      await page.getByRole('button', { name: 'Pay CNY 19.90' }).click();
      await shows(page, 'asking');
      await hinted;
      expect(await asked(page)).toEqual([['getBrandWCPayRequest', JSAPI]]);
      await settle(api.db, made.id, { amount: 1990 });
      await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`);
      await shows(page, 'paid');
      await close();
    });

    test.each([
      ['get_brand_wcpay_request:cancel', 'WeChat says that you have not paid.', '微信提示您尚未付款'],
      ['get_brand_wcpay_request:fail', 'WeChat did not open the payment.', '微信未能打开支付'],
    ])('who has not paid can try again: %s', async (answer, english, chinese) => {
      const { page, go, close } = await open('wechat', IN_WECHAT);
      await page.addInitScript(bridge(answer));
      await go();
      await page.getByRole('button', { name: 'Pay CNY 19.90' }).click();
      await page.getByText(english).waitFor();
      await expectAccessible(page);
      await keep(page, `wechat jsapi ${answer}`);
      await page.getByRole('button', { name: '中文' }).click();
      await page.getByText(chinese).waitFor();
      await page.getByRole('button', { name: '支付 CNY 19.90' }).click();
      await page.getByText(chinese).waitFor();
      expect(await asked(page)).toHaveLength(2);
      await shows(page, 'pay');
      await close();
    });

    test('a bridge that comes later is waited for, and one that does not come is told of', async () => {
      const { page, go, close } = await open('wechat', IN_WECHAT);
      await go();
      const button = page.getByRole('button', { name: 'Pay CNY 19.90' });
      await button.click();
      await page.getByText('WeChat did not open the payment.').waitFor();
      await button.click();
      await page.evaluate(
        `${bridge('get_brand_wcpay_request:cancel')} document.dispatchEvent(new Event('WeixinJSBridgeReady'))`,
      );
      await page.getByText('WeChat says that you have not paid.').waitFor();
      await close();
    });

    test('a payment that was begun in another way is changed to it', async () => {
      const { page, go, close } = await open('wechat', NATIVE);
      await page.addInitScript(bridge('get_brand_wcpay_request:ok'));
      await go();
      await shows(page, 'outside');
      await page.getByRole('button', { name: 'WeChat Pay (on this device)' }).click();
      await page.getByRole('button', { name: 'Pay CNY 19.90' }).click();
      await shows(page, 'asking');
      expect(new URL(page.url()).search).toBe('');
      await close();
    });
  });

  test('within WeChat, without an openid, the way out is another browser, and the result is told here as well', async () => {
    const { page, context, made, address, go, close } = await open('wechat', H5, {
      payer: { ip: PAYER.ip },
      permissions: ['clipboard-read', 'clipboard-write'],
    });
    await go();
    await shows(page, 'outside');
    expect(await page.locator('#channels button').count()).toBe(0);
    await page.getByRole('button', { name: 'Copy the link of this page' }).click();
    await page.getByText('Copied.').waitFor();
    await keep(page, 'wechat copied');
    expect(await page.evaluate('navigator.clipboard.readText()')).toBe(address);
    expect(page.url()).toBe(address);
    // A reload is the same page.
    await page.reload();
    await shows(page, 'outside');
    // The token is in the address no longer than it is to be taken elsewhere.
    await page.getByRole('button', { name: 'I have paid' }).click();
    await shows(page, 'asking');
    expect(new URL(page.url()).search).toBe('');
    await page.getByRole('button', { name: 'I have not paid' }).click();
    await shows(page, 'outside');
    expect(page.url()).toBe(address);

    const other = await openTab(browser, [api.url, 'https://wx.tenpay.com/'], { userAgent: AGENTS.ios });
    await other.context.route(`${H5_URL}*`, (route) => route.fulfill({ body: 'WeChat Pay' }));
    await other.page.goto(page.url());
    await shows(other.page, 'pay');
    expect(new URL(other.page.url()).search).toBe('');
    const led = other.page.waitForRequest(`${H5_URL}*`);
    await other.page.getByRole('link', { name: 'Pay CNY 19.90' }).click();
    // WeChat Pay wants to know where its payer comes from; it learns no more than that.
    expect((await (await led).allHeaders()).referer).toBe(`${api.url}/`);
    expect(other.complaints).toEqual([]);
    await other.context.close();

    await settle(api.db, made.id, { amount: 1990 });
    await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`);
    await shows(page, 'paid');
    // Nothing is to be taken elsewhere any more.
    expect(new URL(page.url()).search).toBe('');
    expect(await context.pages()[0]?.locator('#copy').isVisible()).toBe(false);
    await close();
  });

  test('where the app lets no page copy, the payer can', async () => {
    const { page, address, go, close } = await open('alipay', H5);
    await page.addInitScript(`Object.defineProperty(navigator, 'clipboard', { value: undefined })`);
    await go();
    await page.getByRole('button', { name: 'Copy the link of this page' }).click();
    const field = page.getByRole('textbox', { name: 'The link of this page' });
    expect(await field.inputValue()).toBe(address);
    expect(await page.evaluate('getSelection().toString()')).toBe(address);
    await expectAccessible(page);
    await keep(page, 'alipay not copied');
    await close();
  });
});
