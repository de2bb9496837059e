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

/**
 * Tests the cashier page inside WeChat and Alipay: how the page opens the app's own payment, and how the payer leaves
 * the app.
 */

describe.skipIf(CHROMIUM === undefined)('the cashier page with wallets', () => {
  describe("inside WeChat, with the payer's openid", () => {
    /**
     * WeChat's JavaScript bridge, as a page sees it. It returns the answer that the test sets, and records its calls.
     */
    const bridge = (errMsg: string) => `
      globalThis.asked = [];
      globalThis.WeixinJSBridge = {
        invoke: (name, params, answer) => {
          globalThis.asked.push([name, params]);
          answer({ err_msg: ${JSON.stringify(errMsg)} });
        },
      };`;
    const asked = (page: Page) => page.evaluate('globalThis.asked');

    test("the button opens WeChat Pay, and the page queries the payment instead of trusting the bridge's answer", async () => {
      // This tab respects the page's content security policy.
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
    ])('a payer who has not paid can try again: %s', async (answer, english, chinese) => {
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

    test('the page waits for a bridge that loads late, and shows a message if no bridge loads', async () => {
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

    test('if the payment cannot be made inside the app, the payer can switch on the page to a method that works inside it', async () => {
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

  test('inside WeChat without an openid, the payer pays in another browser, and the page inside WeChat also shows the result', async () => {
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
    // The page shows the same screen after a reload.
    await page.reload();
    await shows(page, 'outside');
    // The token stays in the URL only while the payer has to copy it.
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
    // WeChat Pay requires a referrer. It gets only the origin of the page.
    expect((await (await led).allHeaders()).referer).toBe(`${api.url}/`);
    expect(other.complaints).toEqual([]);
    await other.context.close();

    await settle(api.db, made.id, { amount: 1990 });
    await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`);
    await shows(page, 'paid');
    // The payer no longer has to copy the URL, so the URL has no token.
    expect(new URL(page.url()).search).toBe('');
    expect(await context.pages()[0]?.locator('#copy').isVisible()).toBe(false);
    await close();
  });

  test('if an app denies access to the clipboard, the page selects the link so that the payer can copy it', async () => {
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
