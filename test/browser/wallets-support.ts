import type { Browser, BrowserContextOptions } from 'playwright-core';
import { afterAll, beforeAll, expect } from 'vitest';
import { createAlipayAdapter } from '../../src/channels/alipay/adapter.ts';
import { validated } from '../../src/channels/validated-adapter.ts';
import { createWechatpayAdapter } from '../../src/channels/wechatpay/adapter.ts';
import type { NextAction } from '../../src/domain/channel.ts';
import { createApiKey, ensureMerchant } from '../../src/ledger/merchants.ts';
import { recordCreated } from '../../src/ledger/payments.ts';
import { newOrderId, pay, startTestApi, type TestApi, testChannels } from '../api/support.ts';
import { useDatabase } from '../support/stack.ts';
import { CHROMIUM, DESKTOP, launch, openTab } from './support.ts';

/**
 * Support for the tests of the cashier page with Alipay and WeChat Pay. It has the browsers that the page
 * distinguishes, and payments of these channels.
 */

/** The user agents of the browsers that the page distinguishes. */
export const AGENTS = {
  wechat:
    'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 MicroMessenger/8.0.50(0x18003233) NetType/WIFI Language/zh_CN',
  alipay:
    'Mozilla/5.0 (Linux; U; Android 14; zh-CN; V2309A) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/105.0.5195.148 Mobile Safari/537.36 AliApp(AP/10.5.96.8000) AlipayClient/10.5.96.8000 Language/zh-Hans',
  ios: 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1',
  android:
    'Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36',
  desktop: undefined,
} as const;
export type Agent = keyof typeof AGENTS;

export const CODES = {
  alipay: 'https://qr.alipay.com/bax00000000000000000',
  wechatpay: 'weixin://wxpay/bizpayurl?pr=NwY5Mz9&groupid=00',
};
export const H5_URL =
  'https://wx.tenpay.com/cgi-bin/mmpayweb-bin/checkmweb?prepay_id=wx2016&package=1037687096';
export const JSAPI = {
  appId: 'wx8888888888888888',
  timeStamp: '1795000000',
  nonceStr: 'n0nce',
  package: 'prepay_id=wx2016',
  signType: 'RSA',
  paySign: 'c2ln',
};

export const actionOf = (channel: string, method: string): NextAction => {
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
export let api: TestApi;
export let browser: Browser;
export let key: string;

beforeAll(async () => {
  if (CHROMIUM === undefined) return;
  const wallets = [validated(createAlipayAdapter()), validated(createWechatpayAdapter())];
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

export const PAYER = { id: 'oUpF8uMuAJO_M2pxb1Q9zNjWeS6o', ip: '203.0.113.7' };
export const LOCALES = { en: 'en-GB', zh: 'zh-CN' } as const;

/** Creates a payment, and prepares a browser tab for the payment's page. */
export async function open(
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
  // Streams are switched off, because these tests are not about streams.
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

export const NATIVE = ['wechatpay', 'native'] as const;
export const H5 = ['wechatpay', 'h5'] as const;
export const IN_WECHAT = ['wechatpay', 'jsapi'] as const;
export const PAGE = ['alipay', 'page'] as const;
export const WAP = ['alipay', 'wap'] as const;
export const PRECREATE = ['alipay', 'precreate'] as const;

export const READY = ['Ready to pay', '待支付'] as const;
export const IN_BROWSER = ['Open this page in your browser', '请在浏览器中打开此页面'] as const;
export const SCAN = ['Scan the code with another device', '请用另一台设备扫码'] as const;
export const TO_WECHAT = ['Open this page in WeChat', '请在微信中打开此页面'] as const;
export const TO_PHONE = ['Open this page on your phone', '请在手机上打开此页面'] as const;
