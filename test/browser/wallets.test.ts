import { createRequire } from 'node:module';
import type { Page } from 'playwright-core';
import { describe, expect, test } from 'vitest';
import { CHROMIUM, expectAccessible, keep, shows } from './support.ts';
import {
  type Agent,
  actionOf,
  CODES,
  H5,
  H5_URL,
  IN_BROWSER,
  IN_WECHAT,
  NATIVE,
  open,
  PAGE,
  PRECREATE,
  READY,
  SCAN,
  TO_PHONE,
  TO_WECHAT,
  WAP,
} from './wallets-support.ts';

// Tests the cashier page with Alipay and WeChat Pay, in the browsers that the page distinguishes. The page, its API
// and the channels' declarations are real. The tests write the channels' answers into the ledger.

// jsqr exports a function, but its types do not declare that.
const readCode: typeof import('jsqr').default = createRequire(import.meta.url)('jsqr');

/** Reads the content of the QR code on the page, as a camera would. */
async function scanned(page: Page): Promise<string | undefined> {
  const image = await page.evaluate(async () => {
    // biome-ignore lint/suspicious/noExplicitAny: this runs in the page.
    const { document, Image, XMLSerializer } = globalThis as any;
    const svg = document.querySelector('#qr-code svg').cloneNode(true);
    svg.setAttribute('width', '240');
    svg.setAttribute('height', '240');
    const drawn = new Image();
    drawn.src = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(svg))}`;
    await drawn.decode();
    const canvas = document.createElement('canvas');
    canvas.width = 240;
    canvas.height = 240;
    const context = canvas.getContext('2d');
    context.fillStyle = '#fff';
    context.fillRect(0, 0, 240, 240);
    context.drawImage(drawn, 0, 0);
    return [...context.getImageData(0, 0, 240, 240).data] as number[];
  });
  return readCode(new Uint8ClampedArray(image), 240, 240)?.data;
}

interface ReadPayment {
  readonly screen: string;
  readonly title: readonly [en: string, zh: string];
  /** The URL that the pay button leads to. */
  readonly pay?: string;
  /** The content of the QR code. The value `page` means the URL of the page. */
  readonly code?: string;
  /** The names of the other channels that the page offers, in English. */
  readonly ways?: readonly string[];
}

/** The columns are browser, channel and method, and what the page shows. */
const PAGES: readonly (readonly [Agent, readonly [string, string], ReadPayment])[] = [
  [
    'desktop',
    NATIVE,
    {
      screen: 'pay',
      title: READY,
      code: CODES.wechatpay,
      ways: ['Alipay (on this device)', 'Alipay (QR code)'],
    },
  ],
  [
    'desktop',
    PRECREATE,
    { screen: 'pay', title: READY, code: CODES.alipay, ways: ['Alipay (on this device)', 'WeChat Pay'] },
  ],
  [
    'desktop',
    PAGE,
    {
      screen: 'pay',
      title: READY,
      pay: actionOf(...PAGE).url ?? '',
      ways: ['Alipay (QR code)', 'WeChat Pay'],
    },
  ],
  [
    'desktop',
    H5,
    {
      screen: 'outside',
      title: TO_PHONE,
      code: 'page',
      ways: ['Alipay (on this device)', 'Alipay (QR code)', 'WeChat Pay (QR code)'],
    },
  ],
  [
    'desktop',
    IN_WECHAT,
    {
      screen: 'outside',
      title: TO_WECHAT,
      code: 'page',
      ways: ['Alipay (on this device)', 'Alipay (QR code)', 'WeChat Pay (QR code)'],
    },
  ],
  ['ios', WAP, { screen: 'pay', title: READY, pay: actionOf(...WAP).url ?? '', ways: ['WeChat Pay'] }],
  ['android', H5, { screen: 'pay', title: READY, pay: H5_URL, ways: ['Alipay'] }],
  [
    'ios',
    PRECREATE,
    {
      screen: 'pay',
      title: READY,
      pay: CODES.alipay,
      code: CODES.alipay,
      ways: ['Alipay (on this device)', 'WeChat Pay'],
    },
  ],
  [
    'android',
    NATIVE,
    {
      screen: 'outside',
      title: SCAN,
      code: CODES.wechatpay,
      ways: ['Alipay', 'WeChat Pay (on this device)'],
    },
  ],
  [
    'android',
    IN_WECHAT,
    { screen: 'outside', title: TO_WECHAT, ways: ['Alipay', 'WeChat Pay (on this device)'] },
  ],
  ['wechat', IN_WECHAT, { screen: 'pay', title: READY, ways: [] }],
  ['wechat', H5, { screen: 'outside', title: IN_BROWSER, ways: ['WeChat Pay (on this device)'] }],
  [
    'wechat',
    NATIVE,
    { screen: 'outside', title: SCAN, code: CODES.wechatpay, ways: ['WeChat Pay (on this device)'] },
  ],
  ['wechat', WAP, { screen: 'outside', title: IN_BROWSER, ways: ['WeChat Pay'] }],
  ['wechat', PRECREATE, { screen: 'outside', title: IN_BROWSER, code: CODES.alipay, ways: ['WeChat Pay'] }],
  ['alipay', WAP, { screen: 'pay', title: READY, pay: actionOf(...WAP).url ?? '', ways: [] }],
  [
    'alipay',
    PRECREATE,
    { screen: 'pay', title: READY, pay: CODES.alipay, code: CODES.alipay, ways: ['Alipay (on this device)'] },
  ],
  ['alipay', H5, { screen: 'outside', title: IN_BROWSER, ways: ['Alipay'] }],
  ['alipay', NATIVE, { screen: 'outside', title: SCAN, code: CODES.wechatpay, ways: ['Alipay'] }],
];

describe.skipIf(CHROMIUM === undefined)('the cashier page with wallets', () => {
  test.each(PAGES)(
    'opened in %s, the page has the right title, buttons and code for a payment with %j',
    async (agent, way, seen) => {
      for (const language of ['en', 'zh'] as const) {
        const colorScheme = language === 'zh' ? 'dark' : 'light';
        const { page, address, go, close } = await open(agent, way, { language, colorScheme });
        await go();
        await page.locator('html[data-runs]').waitFor({ state: 'attached' });
        await shows(page, seen.screen);
        await page.getByRole('heading', { name: seen.title[language === 'zh' ? 1 : 0] }).waitFor();
        // The wallet learns only the origin of the page that opened it.
        const link = page.locator('#pay:visible');
        expect(await link.count()).toBe(seen.pay === undefined ? 0 : 1);
        if (seen.pay !== undefined) {
          expect(await link.getAttribute('href')).toBe(seen.pay);
          expect(await link.getAttribute('referrerpolicy')).toBe('strict-origin');
        }
        const isCodeShown = await page.locator('#qr').isVisible();
        expect(isCodeShown).toBe(seen.code !== undefined);
        const code = seen.code === 'page' ? address : seen.code;
        if (isCodeShown) expect(await scanned(page)).toBe(code);
        expect(await page.locator('#copy').isVisible()).toBe(seen.screen === 'outside');
        // The URL has the token only on pages whose URL a payer has to copy with an app's menu.
        expect(page.url() === address).toBe(seen.title === IN_BROWSER);
        const ways = await page.locator('#channels button').allTextContents();
        if (language === 'en' && seen.ways) expect(ways.toSorted()).toEqual([...seen.ways].sort());
        expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(page.viewportSize()?.width);
        await expectAccessible(page);
        await keep(page, `${agent} ${way.join(' ')} ${language}`);
        await close();
      }
    },
  );

  test.each([
    ['wechat', WAP, IN_BROWSER, undefined, false],
    ['wechat', NATIVE, SCAN, undefined, true],
    ['android', IN_WECHAT, TO_WECHAT, undefined, false],
    ['desktop', H5, TO_PHONE, undefined, false],
    ['desktop', NATIVE, READY, undefined, true],
    ['android', H5, READY, H5_URL, false],
    ['alipay', PRECREATE, READY, CODES.alipay, true],
  ] as const)(
    'without JavaScript, opened in %s, the page has the right title, link and code for a payment with %j',
    async (agent, way, [english, chinese], payUrl, hasCode) => {
      for (const language of ['en', 'zh'] as const) {
        const { page, go, close } = await open(agent, way, { language, javaScriptEnabled: false });
        await go();
        await page.getByRole('heading', { name: language === 'zh' ? chinese : english }).waitFor();
        const link = page.locator('#pay:visible');
        expect(await link.count()).toBe(payUrl === undefined ? 0 : 1);
        if (payUrl !== undefined) expect(await link.getAttribute('href')).toBe(payUrl);
        expect(await page.locator('#qr-code svg:visible').count()).toBe(hasCode ? 1 : 0);
        expect(await page.locator('main :is(button, input):visible').count()).toBe(1);
        expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(page.viewportSize()?.width);
        await keep(page, `no script ${agent} ${way.join(' ')} ${language}`);
        await close();
      }
    },
  );
});
