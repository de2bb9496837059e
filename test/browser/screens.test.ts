import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { newKey, newOrderId, pay, startTestApi, type TestApi } from '../api/support.ts';
import { type FreshDatabase, freshDatabase } from '../support/stack.ts';
import { CHROMIUM, DESKTOP, expectAccessible, launch, openTab, PHONE, shows } from './support.ts';

// Every screen of the cashier page, in both languages and on both sizes: what it says, and that axe-core finds nothing.
// The page and its API are real; what the payment has come to is written into the API's answers.

let database: FreshDatabase;
let api: TestApi;
let browser: Browser;
let key: string;

beforeAll(async () => {
  if (CHROMIUM === undefined) return;
  database = await freshDatabase();
  api = await startTestApi(database.url);
  ({ key } = await newKey(api.db));
  browser = await launch();
});
afterAll(async () => {
  await browser?.close();
  await api?.close();
  await database?.drop();
});

const PAST = new Date(Date.now() - 60_000).toISOString();
const paid = { status: 'succeeded', orderUpdate: 'applied', nextAction: null, payUrl: null };

/** screen, what the API says, and the texts that must be there in English and Chinese */
const SCREENS: readonly (readonly [string, string, object, string, string])[] = [
  ['pay', 'pay', {}, 'Ready to pay', '待支付'],
  ['preparing', 'preparing', { status: 'created', nextAction: null }, 'is being prepared', '正在准备支付'],
  [
    'asking after the expiry',
    'asking',
    { expiresAt: PAST, nextAction: null },
    'Do not pay again',
    '请勿重复付款',
  ],
  [
    'asking without an action',
    'asking',
    { nextAction: null },
    'We are still asking the bank',
    '正在向银行确认',
  ],
  ['a status that is new', 'asking', { status: 'frozen' }, 'Do not pay again', '请勿重复付款'],
  ['paid', 'paid', paid, 'Thank you. We have received your payment', '支付成功'],
  [
    'paid, the shop is being told',
    'paid',
    { ...paid, orderUpdate: 'pending' },
    'are telling the shop',
    '正在通知商家',
  ],
  [
    'paid and returned in part',
    'paid',
    { ...paid, refundedAmount: 50 },
    '0.50 of it has gone back',
    '已退回给您',
  ],
  ['review', 'review', { ...paid, orderUpdate: 'review' }, 'Do not pay again', '请勿重复付款'],
  ['returning', 'returning', { ...paid, orderUpdate: 'conflict' }, 'on its way back', '款项正在退回'],
  [
    'paid twice',
    'returning',
    { ...paid, orderUpdate: 'conflict', refundReason: 'duplicate_payment' },
    'Your second payment is on its way back',
    '重复支付',
  ],
  [
    'paid too late',
    'returning',
    { ...paid, orderUpdate: 'conflict', refundReason: 'late_payment' },
    'Your money is on its way back',
    '付款过晚',
  ],
  [
    'returned',
    'returned',
    { ...paid, orderUpdate: 'conflict', refundedAmount: 1050 },
    'Your money is back',
    '款项已退回',
  ],
  ['declined', 'unpaid', { status: 'failed', nextAction: null }, 'Nothing was charged', '没有扣款'],
  ['cancelled', 'unpaid', { status: 'cancelled', nextAction: null }, 'Nothing was charged', '没有扣款'],
  ['expired', 'expired', { status: 'closed', expiresAt: PAST, nextAction: null }, 'Expired', '已过期'],
];

/** Looked at by people as well: `SHOTS=folder npm test -- test/browser/screens` keeps what it saw. */
async function keep(page: Page, name: string): Promise<void> {
  if (process.env.SHOTS === undefined) return;
  mkdirSync(process.env.SHOTS, { recursive: true });
  await page.screenshot({ path: join(process.env.SHOTS, `${name.replace(/\W+/g, '-')}.png`) });
}

const LOOKS = [
  { ...PHONE, locale: 'en-GB', colorScheme: 'light' },
  { ...DESKTOP, locale: 'zh-CN', colorScheme: 'dark' },
] as const;

async function openWith(look: (typeof LOOKS)[number]) {
  const tab = await openTab(browser, [api.url], { ...look, bypassCSP: true });
  const close = async () => {
    expect(tab.complaints).toEqual([]);
    await tab.page.unrouteAll({ behavior: 'ignoreErrors' });
    await tab.context.close();
  };
  return { ...tab, close };
}

describe.skipIf(CHROMIUM === undefined)('the cashier page', () => {
  test.each(SCREENS)('%s', async (name, screen, changes, english, chinese) => {
    const made = await pay(api, key, { returnUrl: 'https://shop.example/thanks' });
    for (const look of LOOKS) {
      const { page, close } = await openWith(look);
      await page.route('**/v1/payments/*/events', (route) => route.abort());
      await page.route(/\/v1\/payments\/[^/]+$/, async (route) => {
        const response = await route.fetch();
        await route.fulfill({ response, json: { ...(await response.json()), ...changes } });
      });
      await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
      await shows(page, screen);
      await page
        .getByText(look.locale === 'zh-CN' ? chinese : english)
        .first()
        .waitFor();
      expect(await page.locator('html').getAttribute('lang')).toBe(
        look.locale === 'zh-CN' ? 'zh-Hans' : 'en',
      );
      await expectAccessible(page);
      await keep(page, `${name} ${look.locale}`);
      await close();
    }
  });

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

  test('is as wide as the phone, and its buttons are large enough for a thumb', async () => {
    const order = {
      id: newOrderId(),
      amount: Number.MAX_SAFE_INTEGER,
      currency: 'CNY',
      subject: 'x'.repeat(128),
    };
    const made = await pay(api, key, { order });
    const { page, close } = await openWith({ ...LOOKS[0], viewport: { width: 320, height: 568 } } as never);
    await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
    await shows(page, 'pay');
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(320);
    // Exactly, though no number is so exact once it is divided.
    await page.getByText('CN¥90,071,992,547,409.91').first().waitFor();
    for (const button of await page.locator('main :is(button, a, summary):visible').all())
      expect((await button.boundingBox())?.height).toBeGreaterThanOrEqual(40);
    await keep(page, 'small phone');
    await close();
  });
});
