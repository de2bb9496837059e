import type { ChannelDeclaration, Credentials, MethodDeclaration } from '../../domain/channel.ts';
import { AMOUNT_LIMITS, CURRENCY } from './amounts.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** The live gateway: https://opendocs.alipay.com/common/02kf5q. */
const LIVE_GATEWAY = 'https://openapi.alipay.com/gateway.do';

/**
 * The expiry of a trade at Alipay can be 1 min to 15 d (`time_expire` and `timeout_express` of
 * https://docs.open.alipay.com/api_1/alipay.trade.page.pay).
 */
const EXPIRY = { atLeastMs: MINUTE_MS, atMostMs: 15 * DAY_MS } as const;

/**
 * A QR code that no payer has scanned expires after 2 h: https://docs.open.alipay.com/api_1/alipay.trade.precreate. So
 * a payment with a QR code must expire within 2 h.
 */
const CODE_LIVES_MS = 2 * HOUR_MS;

/**
 * WeChat's browser does not open Alipay's URLs, so a payer in WeChat must switch to another browser. A QR code contains
 * a URL of qr.alipay.com. On a phone, that URL opens Alipay.
 */
const METHOD = {
  currencies: { [CURRENCY]: AMOUNT_LIMITS },
  expiry: EXPIRY,
  // Alipay declares `subject` as string(256). Alipay is written in Java, which counts the length of a string in UTF-16
  // code units.
  subject: { atMost: 256, countedIn: 'utf16' },
  needs: [],
} as const satisfies Partial<MethodDeclaration>;

const PEM_KEY =
  /^\s*(-----BEGIN (RSA )?PRIVATE KEY-----[A-Za-z0-9+/=\s]+-----END (RSA )?PRIVATE KEY-----|[A-Za-z0-9+/=\s]{300,})\s*$/;
const PEM_PUBLIC_KEY =
  /^\s*(-----BEGIN PUBLIC KEY-----[A-Za-z0-9+/=\s]+-----END PUBLIC KEY-----|[A-Za-z0-9+/=\s]{150,})\s*$/;
const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/;
const CERTIFICATE_RULE = 'must be a certificate in PEM, beginning with -----BEGIN CERTIFICATE-----';

export const gatewayOf = ({ gateway = LIVE_GATEWAY }: Credentials): string => gateway;

/**
 * Returns `live` if the account uses Alipay's live gateway. The sandbox has another host, and tests use a loopback
 * address.
 */
export const modeOf = (credentials: Credentials): 'test' | 'live' =>
  new URL(gatewayOf(credentials)).hostname.endsWith('.alipay.com') ? 'live' : 'test';

export const declaration: ChannelDeclaration = {
  name: 'alipay',
  title: { en: 'Alipay', zh: '支付宝' },
  testOnly: false,
  methods: [
    { name: 'page', action: 'redirect', ...METHOD, paidIn: ['desktop', 'phone', 'alipay'] },
    { name: 'wap', action: 'redirect', ...METHOD, paidIn: ['phone', 'alipay', 'desktop'] },
    {
      ...{ name: 'precreate', action: 'qr', ...METHOD, expiry: { ...EXPIRY, atMostMs: CODE_LIVES_MS } },
      paidIn: ['desktop', 'phone', 'alipay'],
    },
  ],
  rateLimit: {
    perSecond: 20,
    source:
      'nodrop: Alipay publishes no limit, and answers 40005 above its own (https://opendocs.alipay.com/common/02km9f)',
  },
  // Alipay recommends that merchants rely on notifications, and send a query only if a notification does not arrive.
  querySchedule: null,
  // At Alipay, an out_trade_no identifies the same trade forever, and an out_request_no identifies the same refund
  // forever.
  repeatableForMs: { create: null, refund: null },
  // Alipay creates the trade only when the payer opens the link or scans the code. Before that, there is no trade to
  // close.
  unknownTradeCanBePaid: true,
  // out_trade_no of https://docs.open.alipay.com/api_1/alipay.trade.query
  adoption: {
    pattern: /^[0-9A-Za-z_]{1,64}$/,
    rule: 'must be the out_trade_no of a trade: 1 to 64 of 0-9, A-Z, a-z and _',
    example: 'SHOP20260101001',
  },
  // A payment link contains `notify_url`, so the payer can read that URL. Therefore nodrop uses the account's callback
  // URL and not a URL for each payment. Only the signature proves that a notification is genuine.
  takesCallbackAddress: false,
  settings: [
    {
      name: 'app_id',
      description: 'The APPID of the application at the Alipay Open Platform.',
      isSecret: false,
      isRequired: true,
      isIdentity: true,
      pattern: [/^\d{8,32}$/, 'must be the digits of an APPID'],
    },
    {
      name: 'seller_id',
      description:
        "The merchant's own number at Alipay (PID): notifications about another seller are refused.",
      isSecret: false,
      isRequired: true,
      isIdentity: true,
      pattern: [/^2088\d{12}$/, 'must be 16 digits that begin with 2088'],
    },
    {
      name: 'private_key',
      description:
        "The application's private key (RSA2), in PEM or as the one line that Alipay's tool writes.",
      isSecret: true,
      isRequired: true,
      pattern: [PEM_KEY, 'must be an RSA private key, PKCS #1 or PKCS #8, in PEM or in base64'],
    },
    {
      name: 'alipay_public_key',
      description:
        "Alipay's public key as the platform shows it, not the application's own key; in public-key mode.",
      isSecret: false,
      isRequired: false,
      pattern: [PEM_PUBLIC_KEY, 'must be an RSA public key in PEM or in base64'],
    },
    {
      name: 'app_cert',
      description: "The application's certificate (appCertPublicKey_*.crt); in certificate mode.",
      isSecret: false,
      isRequired: false,
      pattern: [PEM_CERTIFICATE, CERTIFICATE_RULE],
    },
    {
      name: 'alipay_cert',
      description: "Alipay's certificate (alipayCertPublicKey_RSA2.crt); in certificate mode.",
      isSecret: false,
      isRequired: false,
      pattern: [PEM_CERTIFICATE, CERTIFICATE_RULE],
    },
    {
      name: 'alipay_root_cert',
      description: "Alipay's root certificates (alipayRootCert.crt); in certificate mode.",
      isSecret: false,
      isRequired: false,
      pattern: [PEM_CERTIFICATE, CERTIFICATE_RULE],
    },
    {
      name: 'gateway',
      description: `The address of the gateway. Default: the live gateway, ${LIVE_GATEWAY}.`,
      isSecret: false,
      isRequired: false,
      pattern: [
        /^(https:\/\/[a-z0-9-]+(\.[a-z0-9-]+)*\.(alipay|alipaydev)\.com|http:\/\/(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?)\/gateway\.do$/,
        'must be https://... of alipay.com or alipaydev.com, or http:// on loopback, and end with /gateway.do',
      ],
    },
  ],
  modeOf,
};
