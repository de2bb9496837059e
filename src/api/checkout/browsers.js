/**
 * Which browser shows the page, and what that means for the wallets: WeChat's and Alipay's browsers do not open each
 * other's payments, and some ways to pay are made for a phone or for a larger screen only. A browser that says it is another one gets what that one gets.
 *
 * @typedef {'wechat' | 'alipay' | 'phone' | 'desktop'} BrowserKind
 * @typedef {object} Method
 * @property {string} action the type of its next action
 * @property {readonly BrowserKind[]} paidIn see `MethodDeclaration`
 *
 * @typedef {Readonly<Record<string, Readonly<Record<string, Method>>>>} Methods of those channels that say where they are
 *   paid, by the names of the channel and of the method
 *
 * @typedef {'here' | 'browser' | 'scan' | 'wechat' | 'phone'} Where the payer can pay: here; in a browser of the phone;
 *   from the camera of another device; in WeChat; or on a phone
 */

/**
 * @param {string} userAgent
 * @param {number} [touchPoints] what a script knows: an iPad calls itself a Mac, and no Mac has a touch screen
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
 * @returns {Where} `here` for a method that says nothing, and for one that no browser takes
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
 * Of each channel what suits this browser best, and nothing that it cannot pay with; all of a channel that says nothing.
 * @template {{ readonly channel: string, readonly method: string }} W
 * @param {readonly W[]} ways
 * @param {W} current the one that the payer has already
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
 * Where the button to pay leads: a page, or a wallet's app. Nothing else, whatever a channel answered. The code of a wallet
 * is a link where it can be opened.
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
 * What the QR code says. An address is no code for those that say where they are paid: WeChat Pay wants to be told which
 * page led to it, and the page of Alipay has a code of its own.
 * @param {import('./nodrop.js').PaymentForPayer} payment
 * @param {Methods} methods
 */
export function codeOf(payment, methods) {
  const { nextAction, channel, method } = payment;
  return nextAction?.qr ?? (methods[channel]?.[method] === undefined ? payUrlOf(payment) : undefined);
}

/** The address that a next action leads to. @param {import('./nodrop.js').PaymentForPayer} payment */
export function payUrlOf({ nextAction }) {
  const url = nextAction?.url;
  return url !== undefined && /^(?:https?|alipays?|weixin|wxpay):/i.test(url) ? url : undefined;
}
