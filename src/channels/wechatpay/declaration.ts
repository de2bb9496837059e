import type { ChannelDeclaration, Credentials, CurrencyLimits } from '../../domain/channel.ts';

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const DAY_MS = 24 * 60 * MINUTE_MS;

/** At WeChat Pay, `total` is in fen and must be at least 1: https://pay.weixin.qq.com/doc/v3/merchant/4012525171. */
const CURRENCIES: Readonly<Record<string, CurrencyLimits>> = { CNY: { atLeast: 1 } };

/**
 * An order at WeChat Pay expires after one minute at the earliest, even if `time_expire` is earlier
 * (https://pay.weixin.qq.com/doc/v3/merchant/4012525171). WeChat Pay closes every order after seven days
 * (https://pay.weixin.qq.com/docs/merchant/products/native-payment/development.html).
 */
const EXPIRY = { atLeastMs: MINUTE_MS, atMostMs: 7 * DAY_MS };

/**
 * WeChat Pay accepts at most 127 characters in `description`
 * (https://pay.weixin.qq.com/docs/merchant/products/native-payment/apilist.html).
 */
const SUBJECT = { atMost: 127, countedIn: 'characters' } as const;

/**
 * WeChat Pay refuses to close an order that is younger than this:
 * https://developers.weixin.qq.com/minigame/dev/wxcloudrun/src/development/pay/order/close.html
 */
export const NO_CLOSE_WITHIN_MS = 5 * MINUTE_MS;

/**
 * How long the next action of each payment method is valid, according to the documentation of that method. If nodrop
 * repeats the create request with the same parameters, WeChat Pay returns a new next action
 * (https://pay.weixin.qq.com/docs/merchant/products/native-payment/apilist.html).
 */
export const ACTION_LIVES_MS = {
  code_url: 120 * MINUTE_MS,
  prepay_id: 120 * MINUTE_MS,
  h5_url: 5 * MINUTE_MS,
};

const METHOD = { currencies: CURRENCIES, expiry: EXPIRY, subject: SUBJECT } as const;

/**
 * Each payment method works only in certain places:
 * - `native`: the payer must scan the code with WeChat's camera. A long press or a picture of the code does not work
 *   (https://pay.weixin.qq.com/doc/v3/merchant/4012791890).
 * - `h5`: only outside WeChat (https://pay.weixin.qq.com/doc/v3/merchant/4012791845).
 * - `jsapi`: only inside WeChat (https://pay.weixin.qq.com/doc/v3/merchant/4012791857).
 * - `app`: only in an app, through WeChat's SDK.
 */
const METHODS: ChannelDeclaration['methods'] = [
  { name: 'native', action: 'qr', needs: [], ...METHOD, paidIn: ['desktop'] },
  { name: 'h5', action: 'redirect', needs: ['ip'], ...METHOD, paidIn: ['phone'] },
  { name: 'jsapi', action: 'sdk', needs: ['id'], ...METHOD, paidIn: ['wechat'], form: {} },
  { name: 'app', action: 'sdk', needs: [], ...METHOD, paidIn: [] },
];

/** The base URL of WeChat Pay's API: https://pay.weixin.qq.com/doc/v3/merchant/4012525171. */
export const API_URL = 'https://api.mch.weixin.qq.com';

const LOOPBACK = /^http:\/\/(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/;

/**
 * WeChat Pay has no test mode. So nodrop treats an account as a test account only if the base URL is on this machine.
 */
export const modeOf = ({ base_url }: Credentials): 'test' | undefined =>
  base_url !== undefined && LOOPBACK.test(base_url) ? 'test' : undefined;

export const declaration: ChannelDeclaration = {
  name: 'wechatpay',
  title: { en: 'WeChat Pay', zh: '微信支付' },
  testOnly: false,
  methods: METHODS,
  rateLimit: {
    perSecond: 150,
    source:
      'https://pay.weixin.qq.com/doc/v3/partner/4012709253 and its predecessors: 150 refunds a second; no higher limit is published for another call',
  },
  querySchedule: {
    waitsMs: [5, 30, 60, 180, 300, 600, 1_800].map((seconds) => seconds * SECOND_MS),
    source: 'https://pay.weixin.qq.com/docs/merchant/products/query-order/callback-and-query-order.html',
  },
  // At WeChat Pay, an out_trade_no identifies the same order forever, and an out_refund_no identifies the same refund
  // forever.
  repeatableForMs: { create: null, refund: null },
  unknownTradeCanBePaid: false,
  // https://pay.weixin.qq.com/doc/v3/merchant/4012791877
  adoption: {
    pattern: /^[0-9A-Za-z_|*-]{6,32}$/,
    rule: 'must be the out_trade_no of an order: 6 to 32 of 0-9, A-Z, a-z, _, -, | and *',
    example: 'SHOP20260101001',
  },
  takesCallbackAddress: true,
  settings: [
    {
      name: 'mchid',
      description:
        'The merchant number that signs requests. In service-provider mode, the number of the provider (sp_mchid).',
      isSecret: false,
      isRequired: true,
      isIdentity: true,
      pattern: [/^\d{6,32}$/, 'must be 6 to 32 digits'],
    },
    {
      name: 'appid',
      description:
        'The id of the official account, mini programme or app that is bound to mchid. In service-provider mode, the id of the provider (sp_appid).',
      isSecret: false,
      isRequired: true,
      pattern: [/^[0-9A-Za-z_-]{6,32}$/, 'must be 6 to 32 letters and digits, such as wx8888888888888888'],
    },
    {
      name: 'serial_no',
      description: 'The serial number of the API certificate of mchid, in hexadecimal digits.',
      isSecret: false,
      isRequired: true,
      pattern: [/^[0-9A-Fa-f]{8,40}$/, 'must be 8 to 40 hexadecimal digits'],
    },
    {
      name: 'private_key',
      description: 'The private key of the API certificate (apiclient_key.pem); line breaks may be missing.',
      isSecret: true,
      isRequired: true,
      pattern: [
        /^-----BEGIN (RSA )?PRIVATE KEY-----[0-9A-Za-z+/=\s\\]+-----END (RSA )?PRIVATE KEY-----[\\rn\s]*$/,
        'must be a private key in PEM, from -----BEGIN PRIVATE KEY----- to its end',
      ],
    },
    {
      name: 'api_v3_key',
      description: 'The APIv3 key, which decrypts callbacks and platform certificates.',
      isSecret: true,
      isRequired: true,
      pattern: [/^[\x21-\x7e]{32}$/, 'must be 32 letters and digits'],
    },
    {
      name: 'public_key_id',
      description: "The id of WeChat Pay's public key, for a merchant in public-key mode. Needs public_key.",
      isSecret: false,
      isRequired: false,
      pattern: [/^PUB_KEY_ID_[0-9A-Za-z]{1,64}$/, 'must start with PUB_KEY_ID_'],
      needs: ['public_key'],
    },
    {
      name: 'public_key',
      description:
        "WeChat Pay's public key (pub_key.pem), for a merchant in public-key mode. Needs public_key_id.",
      isSecret: false,
      isRequired: false,
      pattern: [
        /^-----BEGIN PUBLIC KEY-----[0-9A-Za-z+/=\s\\]+-----END PUBLIC KEY-----[\\rn\s]*$/,
        'must be a public key in PEM, from -----BEGIN PUBLIC KEY----- to its end',
      ],
      needs: ['public_key_id'],
    },
    {
      name: 'sub_mchid',
      description: 'The merchant number that is paid, in service-provider mode.',
      isSecret: false,
      isRequired: false,
      isIdentity: true,
      pattern: [/^\d{6,32}$/, 'must be 6 to 32 digits'],
    },
    {
      name: 'sub_appid',
      description:
        'In service-provider mode, the id of an account or app that belongs to sub_mchid. The payer ids of jsapi then belong to it.',
      isSecret: false,
      isRequired: false,
      pattern: [/^[0-9A-Za-z_-]{6,32}$/, 'must be 6 to 32 letters and digits, such as wx8888888888888888'],
      needs: ['sub_mchid'],
    },
    {
      name: 'base_url',
      description: `The base address of the API, for another access point of WeChat Pay or a test double. Default: ${API_URL}.`,
      isSecret: false,
      isRequired: false,
      pattern: [
        /^(https:\/\/[0-9A-Za-z.-]+(:\d+)?|http:\/\/(127\.0\.0\.1|localhost|\[::1\])(:\d+)?)$/,
        'must be an https URL (http on this machine alone) without a slash at the end',
      ],
    },
  ],
  modeOf,
};
