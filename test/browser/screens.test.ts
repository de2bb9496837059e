import { isDeepStrictEqual } from 'node:util';
import type { Browser, Page } from 'playwright-core';
import { encode } from 'uqr';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { setMerchant } from '../../src/ledger/merchants.ts';
import { newKey, newOrderId, pay, SECRET, settle, startTestApi, type TestApi } from '../api/support.ts';
import { eventually, useDatabase } from '../support/stack.ts';
import {
  anotherPage,
  CHROMIUM,
  DESKTOP,
  expectAccessible,
  keep,
  launch,
  openTab,
  PHONE,
  shows,
  type Tab,
} from './support.ts';

// Every screen of the cashier page, in both languages and on both sizes: what it says, and that axe-core finds nothing.
// The page and its API are real; what the payment has come to is written into the API's answers.

const { databaseUrl } = useDatabase();
let api: TestApi;
let browser: Browser;
let key: string;

beforeAll(async () => {
  if (CHROMIUM === undefined) return;
  api = await startTestApi(databaseUrl);
  ({ key } = await newKey(api.db));
  browser = await launch();
});
afterAll(async () => {
  await browser?.close();
  await api?.close();
});

const PAST = new Date(Date.now() - 60_000).toISOString();
const paid = {
  ...{ status: 'succeeded', orderUpdate: 'applied', nextAction: null, payUrl: null },
  receivedAmount: 1050,
};

/** screen, what the API says, and the texts that must be there in English and Chinese */
const SCREENS: readonly (readonly [string, string, object, string, string])[] = [
  ['pay', 'pay', {}, 'Ready to pay', '使用模拟钱包付款，结果会自动显示在这里。'],
  [
    'preparing',
    'preparing',
    { status: 'created', nextAction: null, createdAt: '2100-01-01T00:00:00.000Z' },
    'is being prepared',
    '正在准备支付',
  ],
  [
    'preparing for long',
    'slow',
    { status: 'created', nextAction: null, createdAt: PAST },
    'choose another way to pay',
    '也可以选择其他支付方式',
  ],
  [
    'asking after the expiry',
    'asking',
    { expiresAt: PAST, nextAction: null },
    'Do not pay again',
    '请勿重复付款',
  ],
  [
    'asking after the payer acted',
    'asking',
    { orderState: 'undecided', nextAction: null },
    'We are still asking the bank',
    '正在向银行确认',
  ],
  [
    'declined, while another attempt is undecided',
    'asking',
    { status: 'failed', orderState: 'undecided', nextAction: null },
    'Do not pay again',
    '请勿重复付款',
  ],
  [
    'the action has run out',
    'lapsed',
    { nextAction: null, payUrl: null },
    'This way to pay has run out',
    '请点击“我已付款”，请勿重复付款。如未付款，请选择其他方式继续。',
  ],
  [
    'paid in an app, by its own kit',
    'elsewhere',
    { nextAction: { type: 'sdk', params: { prepayId: 'wx2026' } }, payUrl: null },
    'in the app or on the page of the shop',
    '请回到来处继续',
  ],
  [
    'a next action that is new',
    'elsewhere',
    { nextAction: { type: 'nfc', url: 'nfc:tap', tap: { here: true } }, payUrl: null },
    'Go on where you came from',
    '请在带您来到这里的应用或商家页面中完成支付',
  ],
  [
    'paid by another attempt',
    'settled',
    { status: 'cancelled', orderState: 'paid', nextAction: null },
    'This order is paid',
    '该订单已支付',
  ],
  [
    'paid by another attempt, and still live',
    'settled',
    { orderState: 'paid', nextAction: null },
    'Do not pay again',
    '请勿重复付款',
  ],
  ['a status that is new', 'asking', { status: 'frozen' }, 'Do not pay again', '请勿重复付款'],
  ['paid', 'paid', paid, 'Thank you. We have received your payment', '支付成功'],
  [
    'the shop is being told',
    'telling',
    { ...paid, orderUpdate: 'pending', orderState: 'undecided' },
    'Your money has arrived',
    '正在通知商家',
  ],
  [
    'paid and returned in part',
    'paid',
    { ...paid, refundedAmount: 50 },
    '0.50 of it has gone back',
    '已退回给您',
  ],
  [
    'paid too much, and as much as was asked for returned',
    'paid',
    { ...paid, receivedAmount: 1100, refundedAmount: 1050 },
    '10.50 of it has gone back',
    '已退回给您',
  ],
  ['review', 'review', { ...paid, orderUpdate: 'review' }, 'Do not pay again', '请勿重复付款'],
  ['returning', 'returning', { ...paid, orderUpdate: 'conflict' }, 'on its way back', '款项正在退回'],
  [
    'paid twice',
    'returning',
    { ...paid, orderUpdate: 'conflict', refundReason: 'duplicate_payment', refundStatus: 'processing' },
    'Your second payment is on its way back',
    '重复支付',
  ],
  [
    'paid too late',
    'returning',
    { ...paid, orderUpdate: 'conflict', refundReason: 'late_payment', refundStatus: 'created' },
    'Your money is on its way back',
    '付款已超时',
  ],
  [
    'a refund that a person sees to',
    'returning',
    { ...paid, orderUpdate: 'conflict', refundReason: 'duplicate_payment', refundStatus: 'failed' },
    'A person sees to it',
    '已转由人工处理',
  ],
  [
    'returned',
    'returned',
    {
      ...paid,
      orderUpdate: 'conflict',
      refundReason: 'duplicate_payment',
      refundStatus: 'succeeded',
      refundedAmount: 1050,
    },
    'Your money is back',
    '款项已退回',
  ],
  ['declined', 'unpaid', { status: 'failed', nextAction: null }, 'Nothing was charged', '没有扣款'],
  ['cancelled', 'unpaid', { status: 'cancelled', nextAction: null }, 'Nothing was charged', '没有扣款'],
  ['expired', 'expired', { status: 'closed', expiresAt: PAST, nextAction: null }, 'Expired', '已过期'],
];

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
  // A tab for each look, in which one screen follows the other.
  describe('shows', () => {
    let tabs: readonly (Tab & { readonly look: (typeof LOOKS)[number] })[];
    beforeAll(async () => {
      tabs = await Promise.all(LOOKS.map(async (look) => ({ look, ...(await openWith(look)) })));
    });
    afterAll(async () => {
      await Promise.all(tabs.map(({ context }) => context.close()));
    });

    test.each(SCREENS)('%s', async (name, screen, changes, english, chinese) => {
      const made = await pay(api, key, { returnUrl: 'https://shop.example/thanks' });
      for (const { look, page, complaints } of tabs) {
        await page.unrouteAll({ behavior: 'ignoreErrors' });
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
        expect(complaints).toEqual([]);
      }
    });
  });

  describe('the way back', () => {
    const opened = async (returnUrl: string) => {
      const { key: own, merchantId } = await newKey(api.db);
      const { name } = await api.db.merchant.findUniqueOrThrow({ where: { id: merchantId } });
      await setMerchant(api.db, name, { returnSchemes: ['myapp'] }, SECRET, new Date());
      const made = await pay(api, own, { returnUrl: 'myapp://thanks' });
      // What no request can bring in.
      await api.db.payment.update({ where: { id: made.id }, data: { returnUrl } });
      // With the policy in force, which other tabs here go without.
      const tab = await openTab(browser, [api.url], LOOKS[0]);
      await tab.page.route('**/v1/payments/*/events', (route) => route.abort());
      await tab.page.route(/\/v1\/payments\/[^/]+$/, async (route) => {
        const response = await route.fetch();
        await route.fulfill({ response, json: { ...(await response.json()), ...paid } });
      });
      await tab.page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
      await shows(tab.page, 'paid');
      return { ...tab, made };
    };
    test('leads to an app that the merchant has allowed, from the page and from the wallet', async () => {
      const { context, page, complaints, made } = await opened('myapp://thanks');
      const there = `myapp://thanks?paymentId=${made.id}`;
      const back = page.getByRole('link', { name: 'Back to the shop' });
      expect(await back.getAttribute('href')).toBe(there);
      // Nothing here opens it, and nothing of ours stands in its way.
      const followed = page.waitForRequest(there);
      await back.click();
      await followed;
      await shows(page, 'paid');
      await page.reload();
      await shows(page, 'paid');
      expect(await back.getAttribute('href')).toBe(there);
      expect(complaints).toEqual([`asks ${there}`]);
      // From the wallet: where the browser is sent, nothing else takes it up here.
      const wallet = await anotherPage(context, [api.url]);
      const asked = wallet.page.waitForRequest(there);
      await wallet.page.goto(`${api.url}/return/${made.id}?token=${made.clientToken}`).catch(() => undefined);
      await asked;
      expect(wallet.complaints).toEqual([`asks ${there}`]);
      await context.close();
    });

    test.each([
      'javascript:document.title="run"',
      'data:text/html,x',
      'vbscript:x',
      'blob:x',
      'JavaScript:1',
      ' x:y',
    ])('is not shown for %s, however it came there', async (returnUrl) => {
      const { context, page, complaints } = await opened(returnUrl);
      const back = page.locator('#back');
      for (const _ of ['opened', 'loaded anew']) {
        expect([await back.isVisible(), await back.getAttribute('href')]).toEqual([false, null]);
        await page.reload();
        await shows(page, 'paid');
      }
      expect(complaints).toEqual([]);
      await context.close();
    });
  });

  test('stays at its end, whatever an answer says that was overtaken', async () => {
    const made = await pay(api, key);
    const { page, close } = await openWith(LOOKS[0]);
    let changes: object = paid;
    let reads = 0;
    await page.route('**/v1/payments/*/events', (route) => route.abort());
    await page.route(/\/v1\/payments\/[^/]+$/, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), ...changes } });
      reads += 1;
    });
    await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
    for (const [ends, screen] of [
      [paid, 'paid'],
      [{ status: 'cancelled', orderState: 'paid', nextAction: null }, 'settled'],
    ] as const) {
      changes = ends;
      await page.reload();
      await shows(page, screen);
      changes = {};
      const before = reads;
      await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`);
      // One is asked after the other: what the first one said has been taken in.
      await eventually(() => reads >= before + 2);
      expect(await page.evaluate('document.body.dataset.screen')).toBe(screen);
    }
    await close();
  });

  test('goes on looking after an attempt that has ended, and at once when the payer looks', async () => {
    const made = await pay(api, key, { returnUrl: 'https://shop.example/thanks' });
    const { page, close } = await openWith(LOOKS[0]);
    let changes: object = { status: 'failed', orderState: 'undecided', nextAction: null };
    await page.route('**/v1/payments/*/events', (route) => route.abort());
    await page.route(/\/v1\/payments\/[^/]+$/, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), ...changes } });
    });
    await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
    await shows(page, 'asking');
    changes = { status: 'failed', orderState: 'open', nextAction: null };
    await shows(page, 'unpaid');
    changes = { ...paid, orderUpdate: 'review', orderState: 'undecided' };
    await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`);
    await shows(page, 'review');
    changes = { ...paid, orderUpdate: 'conflict', refundReason: 'late_payment', refundStatus: 'created' };
    await shows(page, 'returning');
    changes = { ...changes, refundStatus: 'succeeded' };
    await shows(page, 'returned');
    await close();
  });

  test('leads back to where the shop said last, also while it is open and after a reload', async () => {
    const order = { id: newOrderId(), amount: 1050, currency: 'CNY' };
    const live = await pay(api, key, { order, returnUrl: 'https://shop.example/a' });
    const { page, close } = await openWith(LOOKS[0]);
    await page.goto(`${api.url}/checkout/${live.id}?token=${live.clientToken}`);
    await shows(page, 'pay');
    // Not shown beside the button to pay, and there.
    const back = page.locator('#back');
    expect(await back.getAttribute('href')).toBe(`https://shop.example/a?paymentId=${live.id}`);
    const body = { order, channel: 'simulator', returnUrl: 'https://shop.example/c' };
    expect((await api.call('/v1/payments', { key, body })).status).toBe(200);
    const expected = `https://shop.example/c?paymentId=${live.id}`;
    for (const _ of ['open', 'reloaded']) {
      await eventually(async () => (await back.getAttribute('href')) === expected);
      await page.reload();
      await shows(page, 'pay');
    }
    await close();
  });

  test('goes on looking after the order was paid by another attempt: late money of this one is told', async () => {
    const made = await pay(api, key);
    const { page, close } = await openWith(LOOKS[0]);
    let changes: object = { status: 'cancelled', orderState: 'paid', nextAction: null };
    await page.route('**/v1/payments/*/events', (route) => route.abort());
    await page.route(/\/v1\/payments\/[^/]+$/, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), ...changes } });
    });
    await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
    await shows(page, 'settled');
    const refund = { refundReason: 'duplicate_payment', refundStatus: 'created' };
    changes = { ...paid, orderUpdate: 'conflict', orderState: 'paid', ...refund };
    await shows(page, 'returning');
    await page.getByRole('heading', { name: 'Paid twice' }).waitFor();
    await close();
  });

  test('where the channel does not answer it offers the other ways after a moment', async () => {
    const made = await pay(api, key);
    const { page, close } = await openWith(LOOKS[0]);
    await page.clock.install();
    const at = await page.evaluate<number>('Date.now()');
    const silent = {
      status: 'created',
      nextAction: null,
      payUrl: null,
      createdAt: new Date(at).toISOString(),
    };
    await page.route('**/v1/payments/*/events', (route) => route.abort());
    await page.route(new RegExp(`/v1/payments/${made.id}$`), async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), ...silent } });
    });
    await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
    await page.clock.runFor(9_000);
    await shows(page, 'slow');
    await page.getByRole('heading', { name: 'Pay another way' }).waitFor();
    await page.getByRole('button', { name: 'Second simulated wallet' }).click();
    await shows(page, 'pay');
    expect(page.url()).not.toContain(made.id);
    await close();
  });

  test.each([
    ['channel_rejected', 422, 'Please choose another way.', '请选择其他方式'],
    ['unknown_channel', 422, 'Please choose another way.', '请选择其他方式'],
    ['currency_not_supported', 422, 'Please choose another way.', '请选择其他方式'],
    ['channel_unreachable', 502, 'Please try again.', '请重试'],
  ])('says what helps where a change of channel is refused: %s', async (code, status, english, chinese) => {
    const made = await pay(api, key);
    for (const look of LOOKS) {
      const { page, close } = await openWith(look);
      await page.route('**/switch', (route) =>
        route.fulfill({
          status,
          contentType: 'application/problem+json',
          body: JSON.stringify({ code, status, detail: '', requestId: '' }),
        }),
      );
      await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
      await shows(page, 'pay');
      await page.locator('#channels button').click();
      await page.locator('#alert:not(:empty)').waitFor();
      expect(await page.locator('#alert').textContent()).toContain(
        look.locale === 'zh-CN' ? chinese : english,
      );
      await close();
    }
  });

  test('where the payment is made elsewhere it leads back there, and shows the result by itself', async () => {
    const made = await pay(api, key, { returnUrl: 'https://shop.example/thanks' });
    const { page, close } = await openWith(LOOKS[0]);
    let changes: object = { nextAction: { type: 'sdk', params: {} }, payUrl: null };
    await page.route('**/v1/payments/*/events', (route) => route.abort());
    await page.route(/\/v1\/payments\/[^/]+$/, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), ...changes } });
    });
    await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
    await shows(page, 'elsewhere');
    await page.getByRole('timer').waitFor();
    expect(await page.getByRole('link', { name: /^Pay / }).count()).toBe(0);
    expect(await page.getByRole('link', { name: 'Back to the shop' }).getAttribute('href')).toBe(
      `https://shop.example/thanks?paymentId=${made.id}`,
    );
    expect(await page.getByRole('button', { name: 'Second simulated wallet' }).isVisible()).toBe(true);
    // Who says so and has not can go back to it.
    await page.getByRole('button', { name: 'I have paid' }).click();
    await shows(page, 'asking');
    await page.getByRole('button', { name: 'I have not paid' }).click();
    await shows(page, 'elsewhere');
    changes = paid;
    await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`);
    await shows(page, 'paid');
    await close();
  });

  test('with the menu or the middle button of the mouse the payer leaves for the wallet as well', async () => {
    const made = await pay(api, key);
    for (const button of ['middle', 'right'] as const) {
      const { page, close } = await openWith(LOOKS[1]);
      await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
      await shows(page, 'pay');
      await page.evaluate(`addEventListener('auxclick', (event) => event.preventDefault())`);
      await page.locator('#pay').click({ button });
      await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`);
      await shows(page, 'asking');
      await close();
    }
  });

  /**
   * Opens a payment that has 605 s to live, at times that the test sets: the service's, and that of a page whose clock is
   * `behind` by so many seconds.
   */
  async function openAtSetTimes(behind = 0) {
    const made = await pay(api, key);
    const { page, close } = await openWith(LOOKS[0]);
    const start = Date.parse('2026-03-01T12:00:00.000Z');
    let passed = 0;
    await page.route('**/v1/payments/*/events', (route) => route.abort());
    await page.route(/\/v1\/payments\/[^/]+$/, async (route) => {
      const response = await route.fetch();
      const times = {
        createdAt: new Date(start).toISOString(),
        expiresAt: new Date(start + 605_000).toISOString(),
      };
      const date = new Date(start + passed).toUTCString();
      await route.fulfill({
        response,
        headers: { ...response.headers(), date },
        json: { ...(await response.json()), ...times },
      });
    });
    const at = (ms: number) => {
      passed = ms;
      return page.clock.setFixedTime(start + ms - behind * 1000);
    };
    await at(0);
    await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
    await shows(page, 'pay');
    return { page, at, close };
  }

  test('says how much time is left as it passes, and not on opening', async () => {
    const { page, at, close } = await openAtSetTimes();
    await page.getByText('10:05', { exact: true }).waitFor();
    expect(await page.locator('#announcement').textContent()).toBe('');
    await at(546_000);
    await page.getByText('One minute left to pay.').waitFor({ state: 'attached' });
    await close();
  });

  // The service's clock counts: that of the page may be wrong.
  test.each([0, 60])(
    'counts the time down to the second, with a clock that is %i s behind',
    async (behind) => {
      const { page, at, close } = await openAtSetTimes(behind);
      const timeLeft = (text: string) => page.getByText(text, { exact: true }).waitFor();
      await timeLeft('10:05');
      await at(546_000);
      await timeLeft('0:59');
      await at(604_000);
      await timeLeft('0:01');
      await at(605_000);
      await shows(page, 'asking');
      expect(await page.getByRole('timer').isVisible()).toBe(false);
      await close();
    },
  );

  test('its QR code says what the next action says, and else where the pay button leads', async () => {
    const modulesOf = (content: string) => encode(content, { ecc: 'M', border: 4 }).data;
    const other = 'https://wallet.example/another';
    for (const [nextAction, content] of [
      [
        { type: 'qr', qr: 'weixin://wxpay/bizpayurl?pr=NwY5Mz9', url: other },
        'weixin://wxpay/bizpayurl?pr=NwY5Mz9',
      ],
      [{ type: 'redirect', url: 'https://wallet.example/pay?no=1' }, 'https://wallet.example/pay?no=1'],
    ] as const) {
      const made = await pay(api, key);
      const { page, close } = await openWith(LOOKS[1]);
      await page.route('**/v1/payments/*/events', (route) => route.abort());
      await page.route(/\/v1\/payments\/[^/]+$/, async (route) => {
        const response = await route.fetch();
        await route.fulfill({ response, json: { ...(await response.json()), nextAction } });
      });
      await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
      const drawn = async () => {
        const { size, path } = await page.locator('#qr-code svg').evaluate((svg) => ({
          size: Number(svg.getAttribute('viewBox')?.split(' ')[2]),
          path: svg.firstElementChild?.getAttribute('d') ?? '',
        }));
        const modules = [...Array(size)].map(() => Array<boolean>(size).fill(false));
        for (const [, x, y, length] of path.matchAll(/M(\d+) (\d+)h(\d+)v1h-\3z/g))
          modules[Number(y)]?.fill(true, Number(x), Number(x) + Number(length));
        return modules;
      };
      // Until the page has read it: it begins with what the service made it with.
      await eventually(async () => isDeepStrictEqual(await drawn(), modulesOf(content)));
      expect(await drawn()).toEqual(modulesOf(content));
      expect(await drawn()).not.toEqual(modulesOf(other));
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
      await page.getByRole('link', { name: 'Look again now' }).waitFor();
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

  test('the language of its address wins over the one of the tab, and stays after a reload', async () => {
    const made = await pay(api, key);
    const { page, close } = await openWith(LOOKS[0]);
    const address = `${api.url}/checkout/${made.id}?token=${made.clientToken}`;
    for (const [lang, heading] of [
      ['&lang=zh', '待支付'],
      ['&lang=xx', '待支付'],
      ['&lang=en', 'Ready to pay'],
      ['', 'Ready to pay'],
    ] as const) {
      await page.goto(`${address}${lang}`);
      await page.locator('html[data-runs]').waitFor();
      await page.getByRole('heading', { name: heading }).waitFor();
      expect(new URL(page.url()).search).toBe('');
      await page.reload();
      await page.locator('html[data-runs]').waitFor();
      await page.getByRole('heading', { name: heading }).waitFor();
    }
    await close();
  });

  test('a copy of its address says that the link is private, and one that ends leads back to the shop', async () => {
    const made = await pay(api, key, { returnUrl: 'https://shop.example/thanks' });
    const { page, close } = await openWith(LOOKS[0]);
    await page.goto(`${api.url}/checkout/${made.id}`);
    await page.getByRole('heading', { name: 'This link is private' }).waitFor();
    await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
    await shows(page, 'pay');
    await page.route('**/v1/payments/**', (route) =>
      route.fulfill({
        status: 404,
        contentType: 'application/problem+json',
        body: '{"code":"payment_not_found","status":404}',
      }),
    );
    await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`);
    // A reload in the same tab says no more than that: it has opened the payment, and is no copy.
    for (let reloads = 0; reloads < 3; reloads += 1) {
      await page.getByRole('heading', { name: 'This link opens no payment' }).waitFor();
      expect(await page.getByRole('link', { name: 'Back to the shop' }).getAttribute('href')).toBe(
        `https://shop.example/thanks?paymentId=${made.id}`,
      );
      await expectAccessible(page);
      await page.reload();
    }
    await close();
  });

  test.each(['100%', '200%'])(
    'writes an amount in one line on a small phone, with text at %s',
    async (size) => {
      for (const [amount, currency, english] of [
        [1990, 'CNY', 'CNY 19.90'],
        [88_888_888, 'CNY', 'CNY 888,888.88'],
        [1_234_567, 'KWD', 'KWD 1,234.567'],
        [12_345_678, 'JPY', 'JPY 12,345,678'],
      ] as const) {
        const made = await pay(api, key, { order: { id: newOrderId(), amount, currency } });
        const { page, close } = await openWith({
          ...LOOKS[0],
          viewport: { width: 320, height: 568 },
        } as never);
        await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
        await shows(page, 'pay');
        await page.evaluate((fontSize) => {
          // biome-ignore lint/suspicious/noExplicitAny: there is a document where this runs.
          (globalThis as any).document.documentElement.style.fontSize = fontSize;
        }, size);
        const lines = await page.evaluate<number>(`
        const text = document.createRange();
        text.selectNodeContents(document.getElementById('amount'));
        new Set([...text.getClientRects()].map(({ top }) => top)).size;
      `);
        expect([(await page.locator('#amount').textContent())?.replace(/\s/g, ' '), lines]).toEqual([
          english,
          1,
        ]);
        expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(320);
        await keep(page, `amount ${currency} ${amount} at ${size}`);
        await close();
      }
    },
  );

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
    await page.getByText('CNY 90,071,992,547,409.91').first().waitFor();
    for (const button of await page.locator('main :is(button, a, summary):visible').all())
      expect((await button.boundingBox())?.height).toBeGreaterThanOrEqual(44);
    await keep(page, 'small phone');
    await close();
  });
});
