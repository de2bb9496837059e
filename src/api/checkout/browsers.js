/**
 * Detects which kind of browser shows the page, and decides how a payer can pay in that browser. WeChat's browser does
 * not open Alipay payments, and Alipay's browser does not open WeChat payments. Some methods work only on a phone,
 * others only on a larger screen.
 *
 * @typedef {'wechat' | 'alipay' | 'phone' | 'desktop'} BrowserKind
 * @typedef {object} Method
 * @property {string} action the type of the method's next action
 * @property {readonly BrowserKind[]} paidIn see `MethodDeclaration`
 *
 * @typedef {Readonly<Record<string, Readonly<Record<string, Method>>>>} Methods the methods that declare in which
 *   browsers they work, by channel name and method name
 *
 * @typedef {'here' | 'browser' | 'scan' | 'wechat' | 'phone'} Where where the payer can pay: `here`, in this browser;
 * `browser`, in the phone's own browser; `scan`, with the camera of another device; `wechat`, in WeChat; `phone`, on a
 * phone
 */

/**
 * @param {string} userAgent
 * @param {number} [touchPoints] `navigator.maxTouchPoints`, to detect an iPad: its user agent is that of a Mac, but no
 *   Mac has a touch screen
 * @returns {BrowserKind}
 */
export function browserOf(userAgent, touchPoints = 0) {
  if (/MicroMessenger/i.test(userAgent)) return 'wechat';
  if (/AlipayClient/i.test(userAgent)) return 'alipay';
  if (/Macintosh/.test(userAgent) && touchPoints > 1) return 'phone';
  return /Android|iPhone|iPad|iPod|HarmonyOS|Mobile/i.test(userAgent) ? 'phone' : 'desktop';
}

/**
 * @param {{ readonly channel: string, readonly method: string }} way
 * @param {BrowserKind} browser
 * @param {Methods} methods
 * @returns {Where} `here` if `methods` lists no browsers for the method
 */
export function whereOf({ channel, method }, browser, methods) {
  const declared = methods[channel]?.[method];
  if (declared === undefined || declared.paidIn.length === 0 || declared.paidIn.includes(browser))
    return 'here';
  const isInApp = browser === 'wechat' || browser === 'alipay';
  if (isInApp && declared.paidIn.includes('phone')) return 'browser';
  if (declared.action === 'qr') return 'scan';
  return declared.paidIn.includes('wechat') ? 'wechat' : 'phone';
}

/**
 * Returns the ways to pay that suit this browser: for each channel, its best method in this browser, or all its methods
 * if they declare no browsers.
 * @template {{ readonly channel: string, readonly method: string }} W
 * @param {readonly W[]} ways
 * @param {W} current the payment's own way to pay
 * @param {BrowserKind} browser
 * @param {Methods} methods
 * @returns {W[]}
 */
export function suiting(ways, current, browser, methods) {
  const rank = (/** @type {W} */ { channel, method }) =>
    methods[channel]?.[method]?.paidIn.indexOf(browser) ?? 0;
  return ways.filter((way) => {
    const others = [...ways, current].filter(({ channel }) => channel === way.channel).map(rank);
    return rank(way) >= 0 && !others.some((other) => other >= 0 && other < rank(way));
  });
}

/**
 * Returns the URL of the pay button. Only URLs that open a web page or a wallet's app are used. If the next action has
 * only a QR code, and this browser can open the code's content, that content is the URL. Returns undefined if the
 * payment has no such URL.
 * @param {import('./nodrop.js').PaymentForPayer} payment
 * @param {BrowserKind} browser
 * @param {Methods} methods
 */
export function linkOf(payment, browser, methods) {
  const { nextAction, channel, method } = payment;
  if (whereOf(payment, browser, methods) !== 'here') return undefined;
  if (nextAction?.url !== undefined) return payUrlOf(payment);
  const isLink = browser !== 'desktop' && methods[channel]?.[method] !== undefined;
  return isLink && /^https:\/\//i.test(nextAction?.qr ?? '') ? nextAction?.qr : undefined;
}

/**
 * Returns the content of the QR code, or undefined if the payment has no code. The URL of a next action is not shown as
 * a QR code if the method declares browsers: WeChat Pay requires a referrer for such a URL, and Alipay's page shows a
 * QR code itself.
 * @param {import('./nodrop.js').PaymentForPayer} payment
 * @param {Methods} methods
 */
export function codeOf(payment, methods) {
  const { nextAction, channel, method } = payment;
  return nextAction?.qr ?? (methods[channel]?.[method] === undefined ? payUrlOf(payment) : undefined);
}

/**
 * Returns the URL of the payment's next action, if the scheme of that URL is allowed. @param
 * {import('./nodrop.js').PaymentForPayer} payment
 */
export function payUrlOf({ nextAction }) {
  const url = nextAction?.url;
  return url !== undefined && /^(?:https?|alipays?|weixin|wxpay):/i.test(url) ? url : undefined;
}
