import { beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../support/stack.ts';
import type { Answer } from '../support/system.ts';
import {
  addressOf,
  allowed,
  browser,
  type Cashier,
  openCashier,
  pay,
  payLink,
  settledBy,
  system,
} from './checkout-support.ts';
import { CHROMIUM, DESKTOP, expectAccessible, openTab, PHONE, shows } from './support.ts';

// Tests the cashier page itself: after a reload, by keyboard, in each language, without a connection, and in its final
// state.

/**
 * The shortest expiry that the API accepts. The test creates a payment with this expiry first and checks the payment
 * last.
 */
const SHORTEST_EXPIRY_S = 60;
let expiring: Cashier & { readonly id: string };
beforeAll(async () => {
  if (CHROMIUM === undefined) return;
  const made = await pay({ expiresInSeconds: SHORTEST_EXPIRY_S });
  expiring = { ...(await openCashier(made)), id: made.id };
  await shows(expiring.page, 'pay');
});

describe.skipIf(CHROMIUM === undefined)('the payer', () => {
  test('reloads the page, which keeps the token although the URL does not contain it', async () => {
    const made = await pay();
    const { page, context } = await openCashier(made);
    await shows(page, 'pay');
    await page.reload();
    await shows(page, 'pay');
    await page.getByText('Coffee').waitFor();
    const stripped = page.url();
    expect(stripped).not.toContain('ct_');
    expect(await page.content()).not.toContain(made.clientToken);
    await context.close();
    // In another browser, the URL without its token does not open the payment.
    const elsewhere = await openTab(browser, allowed());
    await elsewhere.page.goto(stripped);
    await shows(elsewhere.page, 'gone');
    await elsewhere.context.close();
  });

  test('opens the page with a wrong token, gets the status 404, and sees that the link is wrong', async () => {
    const made = await pay();
    const { page, context, complaints } = await openTab(browser, allowed());
    const answer = await page.goto(`${system.apiUrl}/checkout/${made.id}?token=ct_wrong`);
    expect(answer?.status()).toBe(404);
    await page.getByRole('heading', { name: 'This link does not open a payment' }).waitFor();
    expect(complaints).toEqual([]);
    await context.close();
  });

  test('chooses a language and pays with the keyboard alone', async () => {
    const made = await pay();
    const { page, context } = await openCashier(made, DESKTOP);
    await shows(page, 'pay');
    const press = async (name: RegExp) => {
      const focused = () => page.evaluate<string>('document.activeElement.textContent');
      for (let presses = 0; presses < 20 && !name.test(await focused()); presses += 1)
        await page.keyboard.press('Tab');
      expect(await focused()).toMatch(name);
      await page.keyboard.press('Enter');
    };
    await press(/^中文$/);
    await press(/^English$/);
    await press(/^Pay /);
    await page.getByText('Ready to pay.').waitFor();
    await press(/^Pay$/);
    await page.getByText('Paid.').waitFor();
    await press(/^Back to the shop$/);
    await shows(page, 'paid');
    await context.close();
  });

  test('sees the page in Chinese if the browser prefers Chinese, and can switch to English', async () => {
    const made = await pay();
    const { page, context } = await openCashier(made, { ...PHONE, locale: 'zh-CN' });
    await page.getByRole('link', { name: '支付 CNY 19.90' }).waitFor();
    await page.getByRole('button', { name: 'English' }).click();
    await payLink(page).waitFor();
    expect(await page.locator('html').getAttribute('lang')).toBe('en');
    await page.reload();
    await payLink(page).waitFor();
    await context.close();
  });

  test.each([
    ['en-GB', 'Ready to pay', /^Pay CNY 19.90$/, 'Pay', 'Back to the shop', 'Paid'],
    ['zh-CN', '待支付', /^支付 CNY 19.90$/, '支付', '返回商家', '支付成功'],
  ])(
    'has no JavaScript, pays in the wallet, comes back, and sees the payment as paid (browser language: %s)',
    async (locale, ready, payName, button, back, paidTitle) => {
      const made = await pay();
      const { page, complaints, context } = await openTab(browser, allowed(), {
        ...PHONE,
        locale,
        javaScriptEnabled: false,
      });
      await page.goto(addressOf(made));
      await page.getByRole('heading', { name: ready }).waitFor();
      await page.getByText('Coffee').waitFor();
      await page.getByRole('link', { name: payName }).click();
      // In the wallet.
      await page.getByText('CNY 19.90', { exact: true }).waitFor();
      const choose = page.getByRole('link', { name: locale === 'zh-CN' ? 'English' : '中文' });
      const box = await choose.boundingBox();
      expect(Math.min(box?.width ?? 0, box?.height ?? 0)).toBeGreaterThanOrEqual(44);
      await page.getByRole('button', { name: button, exact: true }).click();
      await page.getByRole('link', { name: back }).click();
      // No other query is scheduled, so the hint about the payer's return causes the query. The page reloads itself.
      await page.getByRole('heading', { name: paidTitle }).waitFor();
      expect(await settledBy(made.id)).toBe('hint');
      expect(complaints).toEqual([]);
      await context.close();
    },
  );

  test('chooses a language in the wallet, and the wallet keeps this language during the payment', async () => {
    const made = await pay();
    const { page, context } = await openCashier(made, { ...PHONE, bypassCSP: true });
    await payLink(page).click();
    await page.getByText('Ready to pay.').waitFor();
    await expectAccessible(page);
    await page.getByRole('link', { name: '中文' }).click();
    await expectAccessible(page);
    await page.getByRole('button', { name: '支付' }).click();
    await page.getByText('支付成功。').waitFor();
    await expectAccessible(page);
    await page.getByRole('link', { name: '返回商家' }).click();
    await shows(page, 'paid');
    await context.close();
  });

  test('loses the connection for 20 s, sees a message about it and no result, and continues without a reload', async () => {
    const made = await pay();
    const { page, screens, context } = await openTabWithClock(made);
    await shows(page, 'pay');
    await context.setOffline(true);
    await page.getByRole('button', { name: 'I have paid' }).click();
    await system.simulator.pay(made.id);
    await page.getByText('No connection to the payment service').waitFor();
    await page.clock.runFor(20_000);
    await shows(page, 'asking');
    await context.setOffline(false);
    await shows(page, 'paid');
    await page.getByText('No connection to the payment service').waitFor({ state: 'detached' });
    expect(screens.filter((screen) => !['loading', 'pay', 'asking', 'paid'].includes(screen))).toEqual([]);
    // The page sent the lost hint again.
    expect(await settledBy(made.id)).toBe('hint');
    await context.close();
  });

  async function openTabWithClock(made: Answer['body']) {
    const tab = await openCashier(made, DESKTOP);
    await tab.page.clock.install();
    await tab.page.goto(addressOf(made));
    return tab;
  }

  test('loses the connection because the API is killed, and later learns that the payment is paid', async () => {
    const made = await pay();
    const { page, context } = await openCashier(made, DESKTOP);
    await shows(page, 'pay');
    system.kill('api');
    await system.simulator.pay(made.id);
    await page.getByRole('button', { name: 'I have paid' }).click();
    await shows(page, 'paid');
    await context.close();
  });

  test('sees on the page that the payment has expired, without a reload', async () => {
    const { page, screens, complaints, context, id } = expiring;
    await eventually(
      async () => (await system.db.payment.findUniqueOrThrow({ where: { id } })).status === 'closed',
      (SHORTEST_EXPIRY_S + 60) * 1000,
    );
    await shows(page, 'expired');
    await page.getByText('Nothing was charged.').waitFor();
    expect(await page.getByRole('timer').isVisible()).toBe(false);
    expect(screens.filter((screen) => !['loading', 'pay', 'asking', 'expired'].includes(screen))).toEqual([]);
    expect(complaints).toEqual([]);
    await context.close();
  });
});
