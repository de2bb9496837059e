import { createSign, randomUUID } from 'node:crypto';
import { createAlipayAdapter } from '../../../src/channels/alipay/adapter.ts';
import type {
  CallbackRequest,
  ChannelAccount,
  ChannelAdapter,
  ChannelError,
  Credentials,
  NewTrade,
  Trade,
} from '../../../src/domain/channel.ts';
import { APPS } from '../../doubles/alipay/protocol.ts';
import type { AlipayDouble } from '../../doubles/alipay/start.ts';

export const [OURS, THEIRS] = Object.keys(APPS) as [keyof typeof APPS, keyof typeof APPS];

export const accountOf = (...credentials: readonly Credentials[]): ChannelAccount => ({
  id: 'acc_1',
  merchantId: 'default',
  channel: 'alipay',
  credentials,
});

/** The settings of an application in public-key mode. */
export const settingsOf = (
  { keys, url }: Pick<AlipayDouble, 'keys' | 'url'>,
  appId: keyof typeof APPS = OURS,
): Credentials => ({
  app_id: appId,
  seller_id: APPS[appId],
  private_key: keys.apps[appId]?.privateKey ?? '',
  alipay_public_key: keys.alipayPublicKey,
  gateway: `${url}/gateway.do`,
});

/** The settings of the same application in certificate mode. */
export function certifiedSettingsOf(double: AlipayDouble): Credentials {
  const { alipay_public_key: _key, ...rest } = settingsOf(double);
  const certificates = double.keys.apps[OURS]?.certificates;
  return {
    ...rest,
    app_cert: certificates?.app ?? '',
    alipay_cert: certificates?.alipay ?? '',
    alipay_root_cert: certificates?.root ?? '',
  };
}

export function newTrade(changes: Partial<NewTrade> = {}): NewTrade {
  const now = Date.now();
  const outTradeNo = `pay_${randomUUID().replaceAll('-', '').slice(0, 26)}`;
  return {
    outTradeNo,
    method: 'page',
    amount: 1050,
    currency: 'CNY',
    createdAt: new Date(now).toISOString(),
    expiresAt: new Date(now + 15 * 60_000).toISOString(),
    reference: null,
    subject: 'Two tickets',
    notifyUrl: 'http://127.0.0.1:9/callbacks/alipay',
    returnUrl: `https://shop.example/done/${outTradeNo}?token=a-b_c`,
    payer: {},
    ...changes,
  };
}

/**
 * Creates the trade.
 * @returns the link that the payer of the trade opens
 */
export async function linkOf(adapter: ChannelAdapter, account: ChannelAccount, trade: NewTrade) {
  const made = await adapter.createTrade(account, trade);
  if (made === 'not_renewable') throw new Error('not renewable');
  const { url, qr } = made.action;
  return url ?? qr ?? '';
}

/** Opens the payment page, as the payer does. */
export const open = (link: string) => fetch(link);
/**
 * Pays the trade, as the payer does.
 * @returns whether the payment succeeded
 */
export const pay = async (link: string): Promise<boolean> => (await fetch(link, { method: 'POST' })).ok;

/** Creates the trade and pays it. */
export async function paid(adapter: ChannelAdapter, account: ChannelAccount, trade = newTrade()) {
  if (!(await pay(await linkOf(adapter, account, trade)))) throw new Error('the trade could not be paid');
  return trade;
}

export const adapter = createAlipayAdapter();

export const named = ({ outTradeNo }: Trade) => ({ appId: OURS, outTradeNo });

/** Returns the error of a call that must fail. */
export const errorOf = (call: Promise<unknown>): Promise<ChannelError> =>
  call.then(
    (value) => {
      throw new Error(`the call returned ${JSON.stringify(value)}`);
    },
    (error: ChannelError) => error,
  );

export const callback = (body: string): CallbackRequest => ({
  headers: { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' },
  rawBody: Buffer.from(body),
});

/** A notification with these parameters. It is signed in Alipay's name with Node's own cryptography. */
export function signed(
  params: Readonly<Record<string, string>>,
  privateKey: string,
  { algorithm = 'RSA-SHA256', signType = 'RSA2' } = {},
): string {
  const text = Object.keys(params)
    .sort()
    .map((name) => `${name}=${params[name]}`)
    .join('&');
  const sign = createSign(algorithm).update(text, 'utf8').sign(privateKey, 'base64');
  return new URLSearchParams({ ...params, sign_type: signType, sign }).toString();
}

/** The text of an answer with a signature in Alipay's name. */
export function signedAnswer(key: string, content: unknown, privateKey: string): string {
  const inner = JSON.stringify(content);
  const sign = createSign('RSA-SHA256').update(inner, 'utf8').sign(privateKey, 'base64');
  return `{"${key}":${inner},"sign":"${sign}"}`;
}
