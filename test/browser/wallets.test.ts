import { createRequire } from 'node:module';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createAlipayAdapter } from '../../src/channels/alipay/adapter.ts';
import { checked } from '../../src/channels/checked.ts';
import { createWechatpayAdapter } from '../../src/channels/wechatpay/adapter.ts';
import type { NextAction } from '../../src/domain/channel.ts';
import { createApiKey, ensureMerchant } from '../../src/ledger/merchants.ts';
import { recordCreated } from '../../src/ledger/payments.ts';
import { newOrderId, pay, settle, startTestApi, type TestApi, testChannels } from '../api/support.ts';
import { useDatabase } from '../support/stack.ts';
import { CHROMIUM, DESKTOP, expectAccessible, keep, launch, openTab, shows } from './support.ts';

// The cashier page with Alipay and WeChat Pay, in the browsers that they tell apart. The page, its API and the channels'
// declarations are real; what the channels answered is written into the ledger.

// Its types do not say that it is a function.
const readCode: typeof import('jsqr').default = createRequire(import.meta.url)('jsqr');

/** As the browsers call themselves. */
const AGENTS = {
  wechat:
    'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 MicroMessenger/8.0.50(0x18003233) NetType/WIFI Language/zh_CN',
  alipay:
    'Mozilla/5.0 (Linux; U; Android 14; zh-CN; V2309A) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/105.0.5195.148 Mobile Safari/537.36 AliApp(AP/10.5.96.8000) AlipayClient/10.5.96.8000 Language/zh-Hans',
  ios: 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1',
  android:
    'Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36',
  desktop: undefined,
} as const;
type Agent = keyof typeof AGENTS;

const CODES = {
  alipay: 'https://qr.alipay.com/bax00000000000000000',
  wechatpay: 'weixin://wxpay/bizpayurl?pr=NwY5Mz9&groupid=00',
};
const H5_URL = 'https://wx.tenpay.com/cgi-bin/mmpayweb-bin/checkmweb?prepay_id=wx2016&package=1037687096';
const JSAPI = {
  appId: 'wx8888888888888888',
  timeStamp: '1795000000',
  nonceStr: 'n0nce',
  package: 'prepay_id=wx2016',
  signType: 'RSA',
  paySign: 'c2ln',
};

const actionOf = (channel: string, method: string): NextAction => {
  switch (`${channel} ${method}`) {
    case 'alipay precreate':
      return { type: 'qr', qr: CODES.alipay };
    case 'wechatpay native':
      return { type: 'qr', qr: CODES.wechatpay };
    case 'wechatpay h5':
      return { type: 'redirect', url: H5_URL };
    case 'wechatpay jsapi':
      return { type: 'sdk', params: JSAPI };
    case 'wechatpay app':
      return { type: 'sdk', params: { prepayid: 'wx2016' } };
    default:
      return { type: 'redirect', url: `https://openapi.alipay.com/gateway.do?method=${method}` };
  }
};

const { databaseUrl } = useDatabase();
let api: TestApi;
let browser: Browser;
let key: string;

beforeAll(async () => {
  if (CHROMIUM === undefined) return;
  const wallets = [checked(createAlipayAdapter()), checked(createWechatpayAdapter())];
  const channels = new Map([
    ...testChannels(),
    ...wallets.map((adapter) => [adapter.declaration.name, adapter] as const),
  ]);
  api = await startTestApi(databaseUrl, { channels });
  const { merchant } = await ensureMerchant(api.db, 'wallets', ['alipay', 'wechatpay']);
  ({ key } = await createApiKey(api.db, merchant.id, 'merchant'));
  api.workflows.onAwaitNextAction = async ({ id, channel, method }) => {
    await recordCreated(api.db, id, actionOf(channel, method), new Date());
    return true;
  };
  browser = await launch();
});
afterAll(async () => {
  await browser?.close();
  await api?.close();
});

const PAYER = { id: 'oUpF8uMuAJO_M2pxb1Q9zNjWeS6o', ip: '203.0.113.7' };
const LOCALES = { en: 'en-GB', zh: 'zh-CN' } as const;

/** A payment, and the page of it in a browser. */
async function open(
  agent: Agent,
  [channel, method]: readonly [string, string],
  {
    language = 'en',
    payer = PAYER,
    ...more
  }: BrowserContextOptions & { language?: 'en' | 'zh'; payer?: object } = {},
) {
  const order = {
    id: newOrderId(),
    amount: 1990,
    currency: 'CNY',
    subject: language === 'zh' ? '咖啡' : 'Coffee',
  };
  const made = await pay(api, key, {
    order,
    channel,
    method,
    payer,
    returnUrl: 'https://shop.example/thanks',
  });
  const userAgent = AGENTS[agent];
  const look =
    userAgent === undefined
      ? DESKTOP
      : { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, userAgent };
  const tab = await openTab(browser, [api.url], {
    ...look,
    locale: LOCALES[language],
    bypassCSP: true,
    ...more,
  });
  // Lost callbacks are another file's.
  await tab.context.route('**/v1/payments/*/events', (route) => route.abort());
  const address = `${api.url}/checkout/${made.id}?token=${made.clientToken}`;
  const go = () => tab.page.goto(address);
  const close = async () => {
    expect(tab.complaints).toEqual([]);
    await tab.page.unrouteAll({ behavior: 'ignoreErrors' });
    await tab.context.close();
  };
  return { ...tab, made, address, go, close };
}

/** What a camera reads from the code on the page. */
async function scanned(page: Page): Promise<string | undefined> {
  const image = await page.evaluate(async () => {
    // biome-ignore lint/suspicious/noExplicitAny: there is a document where this runs.
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

const NATIVE = ['wechatpay', 'native'] as const;
const H5 = ['wechatpay', 'h5'] as const;
const IN_WECHAT = ['wechatpay', 'jsapi'] as const;
const PAGE = ['alipay', 'page'] as const;
const WAP = ['alipay', 'wap'] as const;
const PRECREATE = ['alipay', 'precreate'] as const;

interface Seen {
  readonly screen: string;
  readonly title: readonly [en: string, zh: string];
  /** Where the button to pay leads. */
  readonly pay?: string;
  /** What the code says; `page`: the address of the page. */
  readonly code?: string;
  /** Other ways, in English. */
  readonly ways?: readonly string[];
}

const READY = ['Ready to pay', '待支付'] as const;
const IN_BROWSER = ['Open this page in your browser', '请在浏览器中打开此页面'] as const;
const SCAN = ['Scan the code with another device', '请用另一台设备扫码'] as const;
const TO_WECHAT = ['Open this page in WeChat', '请在微信中打开此页面'] as const;
const TO_PHONE = ['Open this page on your phone', '请在手机上打开此页面'] as const;

/** browser, way to pay, and what the payer has there */
const PAGES: readonly (readonly [Agent, readonly [string, string], Seen])[] = [
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
  test.each(PAGES)('%s: %j', async (agent, way, seen) => {
    for (const language of ['en', 'zh'] as const) {
      const colorScheme = language === 'zh' ? 'dark' : 'light';
      const { page, address, go, close } = await open(agent, way, { language, colorScheme });
      await go();
      await page.locator('html[data-runs]').waitFor({ state: 'attached' });
      await shows(page, seen.screen);
      await page.getByRole('heading', { name: seen.title[language === 'zh' ? 1 : 0] }).waitFor();
      // From where the wallet is opened it learns the origin alone.
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
      // The menu of an app takes the address along, which is worth nothing without the token.
      expect(page.url() === address).toBe(seen.screen === 'outside');
      const ways = await page.locator('#channels button').allTextContents();
      if (language === 'en' && seen.ways) expect(ways.toSorted()).toEqual([...seen.ways].sort());
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(page.viewportSize()?.width);
      await expectAccessible(page);
      await keep(page, `${agent} ${way.join(' ')} ${language}`);
      await close();
    }
  });

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

  test.each([
    ['wechat', WAP, IN_BROWSER, undefined, false],
    ['wechat', NATIVE, SCAN, undefined, true],
    ['android', IN_WECHAT, TO_WECHAT, undefined, false],
    ['desktop', H5, TO_PHONE, undefined, false],
    ['desktop', NATIVE, READY, undefined, true],
    ['android', H5, READY, H5_URL, false],
    ['alipay', PRECREATE, READY, CODES.alipay, true],
  ] as const)('without JavaScript: %s %j', async (agent, way, [english, chinese], payUrl, hasCode) => {
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
  });
});
