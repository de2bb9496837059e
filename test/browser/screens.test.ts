import { isDeepStrictEqual } from 'node:util';
import { encode } from 'uqr';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { newOrderId, pay } from '../api/support.ts';
import { eventually } from '../support/stack.ts';
import { api, key, LOOKS, openWith, PAST, paid } from './screens-support.ts';
import { CHROMIUM, expectAccessible, keep, shows, type Tab } from './support.ts';

// Tests every screen of the cashier page, in both languages and in both sizes. Each test checks the texts, and that
// axe-core finds no violations. The page and its API are real, and the tests write the state of the payment into the
// API's answers.

/** The columns are name, screen, changes to the API's answer, and texts that must appear in English and Chinese. */
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
    'preparing for more than 8 s',
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
    'the next action has expired',
    'lapsed',
    { nextAction: null, payUrl: null },
    'This way to pay has expired',
    '请点击“我已付款”，请勿重复付款。如未付款，请选择其他方式继续。',
  ],
  [
    'paid in an app, with its SDK',
    'elsewhere',
    { nextAction: { type: 'sdk', params: { prepayId: 'wx2026' } }, payUrl: null },
    'in the app or on the shop page',
    '请回到来处继续',
  ],
  [
    'an unknown type of next action',
    'elsewhere',
    { nextAction: { type: 'nfc', url: 'nfc:tap', tap: { here: true } }, payUrl: null },
    'Continue where you came from',
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
  ['an unknown status', 'asking', { status: 'frozen' }, 'Do not pay again', '请勿重复付款'],
  ['paid', 'paid', paid, 'Thank you. We have received your payment', '支付成功'],
  [
    'the event is not delivered yet',
    'telling',
    { ...paid, orderUpdate: 'pending', orderState: 'undecided' },
    'Your money has arrived',
    '正在通知商家',
  ],
  [
    'paid and partly refunded',
    'paid',
    { ...paid, refundedAmount: 50 },
    '0.50 of it was refunded',
    '已退回给您',
  ],
  [
    'paid too much, and the requested amount refunded',
    'paid',
    { ...paid, receivedAmount: 1100, refundedAmount: 1050 },
    '10.50 of it was refunded',
    '已退回给您',
  ],
  ['review', 'review', { ...paid, orderUpdate: 'review' }, 'Do not pay again', '请勿重复付款'],
  ['returning', 'returning', { ...paid, orderUpdate: 'conflict' }, 'is being refunded', '款项正在退回'],
  [
    'paid twice',
    'returning',
    { ...paid, orderUpdate: 'conflict', refundReason: 'duplicate_payment', refundStatus: 'processing' },
    'Your second payment is refunded in full',
    '重复支付',
  ],
  [
    'paid too late',
    'returning',
    { ...paid, orderUpdate: 'conflict', refundReason: 'late_payment', refundStatus: 'created' },
    'Your payment is refunded in full',
    '付款已超时',
  ],
  [
    'a refund that waits for a person',
    'returning',
    { ...paid, orderUpdate: 'conflict', refundReason: 'duplicate_payment', refundStatus: 'failed' },
    'A person takes care of it',
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
    'Your money was refunded',
    '款项已退回',
  ],
  ['declined', 'unpaid', { status: 'failed', nextAction: null }, 'Nothing was charged', '没有扣款'],
  ['cancelled', 'unpaid', { status: 'cancelled', nextAction: null }, 'Nothing was charged', '没有扣款'],
  ['expired', 'expired', { status: 'closed', expiresAt: PAST, nextAction: null }, 'Expired', '已过期'],
];

describe.skipIf(CHROMIUM === undefined)('the cashier page', () => {
  // There is one tab for each entry of LOOKS (a phone and a desktop). Each tab shows all screens, one after the other.
  describe('shows', () => {
    let tabs: readonly (Tab & { readonly look: (typeof LOOKS)[number] })[];
    beforeAll(async () => {
      tabs = await Promise.all(LOOKS.map(async (look) => ({ look, ...(await openWith(look)) })));
    });
    afterAll(async () => {
      await Promise.all(tabs.map(({ context }) => context.close()));
    });

    test.each(SCREENS)('the screen %s', async (name, screen, changes, english, chinese) => {
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

  test('the QR code contains the `qr` of the next action, or the link of the pay button if the next action has no `qr`', async () => {
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
      // Until the page has read the payment, it shows the QR code that the server rendered.
      await eventually(async () => isDeepStrictEqual(await drawn(), modulesOf(content)));
      expect(await drawn()).toEqual(modulesOf(content));
      expect(await drawn()).not.toEqual(modulesOf(other));
      await close();
    }
  });

  test("the language in the page's URL replaces the language of the tab, and stays after a reload", async () => {
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

  test('without the token in the URL, the page says that the link is private, and a page whose token has stopped working leads back to the shop', async () => {
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
    // If the tab that opened the payment is reloaded, the page says only that the link opens no payment. It does not
    // say that the link is private.
    for (let reloads = 0; reloads < 3; reloads += 1) {
      await page.getByRole('heading', { name: 'This link does not open a payment' }).waitFor();
      expect(await page.getByRole('link', { name: 'Back to the shop' }).getAttribute('href')).toBe(
        `https://shop.example/thanks?paymentId=${made.id}`,
      );
      await expectAccessible(page);
      await page.reload();
    }
    await close();
  });

  test.each(['100%', '200%'])(
    'shows an amount in one line on a small phone, with a text size of %s',
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
          // biome-ignore lint/suspicious/noExplicitAny: this runs in the page.
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

  test('fits the width of the phone, and has buttons that are large enough for a thumb', async () => {
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
    // The amount is shown exactly, although dividing the number would lose digits.
    await page.getByText('CNY 90,071,992,547,409.91').first().waitFor();
    for (const button of await page.locator('main :is(button, a, summary):visible').all())
      expect((await button.boundingBox())?.height).toBeGreaterThanOrEqual(44);
    await keep(page, 'small phone');
    await close();
  });
});
