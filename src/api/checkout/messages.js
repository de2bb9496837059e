/** The texts of the cashier page, complete in each language. */

const en = {
  documentTitle: 'Payment',
  otherLanguage: '中文',
  payment: 'Payment number',
  timeLeft: 'Time left to pay',
  minutesLeft: (/** @type {number} */ minutes) =>
    minutes === 1 ? 'One minute left to pay.' : `${minutes} minutes left to pay.`,
  pay: (/** @type {string} */ amount) => `Pay ${amount}`,
  payWith: (/** @type {string} */ channel) => `Pay with ${channel}. The result appears here automatically.`,
  qr: 'QR code: scan it with your phone',
  qrLabel: 'QR code that opens the payment in a wallet',
  scanWith: (/** @type {string} */ channel) => `QR code: scan it with ${channel}`,
  pageQr: 'QR code of this page: scan it with your phone',
  pageQrWechat: 'QR code of this page: scan it with WeChat',
  pageQrLabel: 'QR code of the address of this page',
  copy: 'Copy the link of this page',
  copied: 'Copied. Keep the link to yourself: it opens your payment.',
  link: 'The link of this page',
  /** Labels for channels that offer several methods. */
  byCode: (/** @type {string} */ channel) => `${channel} (QR code)`,
  onDevice: (/** @type {string} */ channel) => `${channel} (on this device)`,
  loadAgain: 'Try again',
  iPaid: 'I have paid',
  askAgain: 'Ask the bank again',
  notPaid: 'I have not paid: show the payment again',
  notPaidWithout: 'If you have not paid, you can pay here:',
  others: 'Pay another way',
  tryAgain: 'Try again with',
  back: 'Back to the shop',
  away: 'No connection to the payment service at the moment. We keep trying. If you have paid, your payment is safe: do not pay again.',
  noscript:
    'This page works without JavaScript and reloads automatically. If you have paid, do not pay again.',
  noWays: 'Without JavaScript, this page cannot offer other ways to pay. Go back to the shop to choose one.',
  lookAgain: 'Reload now',
  switchUnresolved:
    'The bank is still processing a payment for this order. Do not pay again; the result appears here.',
  switchNotPayable: 'This order can no longer be paid.',
  switchRefused: 'This way to pay cannot be used now. Please choose another way.',
  switchFailed: 'The request failed. Please try again.',
  screens: {
    loading: ['One moment', 'Your payment is being loaded … If you have paid, do not pay again.'],
    preparing: ['One moment', 'The payment is being prepared …'],
    slow: ['One moment', 'The payment is still being prepared … You can wait, or choose another way to pay.'],
    switching: ['One moment', 'The first attempt is being closed …'],
    pay: ['Ready to pay', ''],
    asking: [
      'We are still asking the bank',
      'Do not pay again. As soon as the bank has answered, the result appears here. You may also close this page: your payment will not get lost.',
    ],
    outside: ['', ''],
    'no-form': [
      'The payment form did not load',
      'The reason can be a poor connection, or a program that blocks content. Try again, or choose another way to pay. If you have paid, do not pay again.',
    ],
    elsewhere: [
      'Continue where you came from',
      'Complete this payment in the app or on the shop page that sent you here. The result appears here automatically. If you have paid, do not pay again.',
    ],
    lapsed: [
      'This way to pay has expired',
      'If you have paid with it, press “I have paid” and do not pay again. Otherwise choose how to pay.',
    ],
    paid: ['Paid', 'Thank you. We have received your payment.'],
    telling: ['Your money has arrived', 'Thank you. We are notifying the shop. Do not pay again.'],
    settled: ['This order is paid', 'It was already paid. Do not pay again.'],
    partlyReturned: ['Paid', ''],
    review: [
      'Your money has arrived',
      'A person checks the payment before your order continues. Do not pay again.',
    ],
    returning: [
      'Your money is being refunded',
      'This order was already paid, or can no longer be paid. Your payment is refunded in full automatically; you need not do anything. Do not pay again.',
    ],
    returningTwice: [
      'Paid twice',
      'This order was already paid. Your second payment is refunded in full automatically; you need not do anything.',
    ],
    returningLate: [
      'Paid too late',
      'The order could no longer be paid. Your payment is refunded in full automatically; you need not do anything.',
    ],
    returningLater: [
      'Your money will be refunded',
      'The bank has not accepted the refund yet. A person takes care of it; you need not do anything. Do not pay again.',
    ],
    returned: ['Your money was refunded', 'The bank has refunded the payment in full.'],
    unpaid: ['Not paid', 'Nothing was charged.'],
    expired: ['Expired', 'The time to pay has ended. Nothing was charged.'],
    gone: [
      'This link does not open a payment',
      'It may be incomplete or expired. Go back to the shop to see your order. If you have paid, do not pay again.',
    ],
    private: [
      'This link is private',
      'A payment page only opens for the payer whom the shop sent here, not from a copied address. Go back to the shop to see your order, or to pay it. If you have paid, do not pay again.',
    ],
  },
  partlyReturned: (/** @type {string} */ amount) => `${amount} of it was refunded to you.`,
  /**
   * Title and detail for payers who cannot pay in this browser. The keys say where the payer can pay instead (see
   * `whereOf`). `hasPageCode` is true if the page shows a QR code of its own URL.
   * @type {Readonly<Record<'browser' | 'scan' | 'wechat' | 'phone', (channel: string, hasPageCode: boolean) =>
   * readonly string[]>>}
   */
  outside: {
    browser: (channel) => [
      'Open this page in your browser',
      `This app does not open ${channel}. Choose “Open in browser” in its menu, or copy the link into your browser. The result appears here as well.`,
    ],
    scan: (channel) => [
      'Scan the code with another device',
      `${channel} accepts this code only from the camera, not by a long press and not from a picture. Scan it with another phone, open this page on a computer, or pay another way. The result appears here automatically.`,
    ],
    wechat: (_channel, hasPageCode) => [
      'Open this page in WeChat',
      `This payment is made within WeChat. ${hasPageCode ? 'Scan the code with WeChat, or send' : 'Send'} the link to yourself there and open it. The result appears here as well.`,
    ],
    phone: (channel, hasPageCode) => [
      'Open this page on your phone',
      `This way to pay with ${channel} is for phones. ${hasPageCode ? 'Scan the code with the camera of your phone, or open' : 'Open'} the link of this page in the browser of your phone. The result appears here as well.`,
    ],
  },
};

/** @type {typeof en} */
const zh = {
  documentTitle: '付款',
  otherLanguage: 'English',
  payment: '支付单号',
  timeLeft: '剩余支付时间',
  minutesLeft: (minutes) => `剩余支付时间 ${minutes} 分钟。`,
  pay: (amount) => `支付 ${amount}`,
  payWith: (channel) => `使用${channel}付款，结果会自动显示在这里。`,
  qr: '二维码：用手机扫码支付',
  qrLabel: '用钱包打开此支付的二维码',
  scanWith: (channel) => `二维码：使用${channel}扫码支付`,
  pageQr: '本页二维码：用手机扫码打开',
  pageQrWechat: '本页二维码：用微信扫码打开',
  pageQrLabel: '本页地址的二维码',
  copy: '复制本页链接',
  copied: '已复制。此链接可打开您的支付，请勿转给他人。',
  link: '本页链接',
  byCode: (channel) => `${channel}（扫码支付）`,
  onDevice: (channel) => `${channel}（在本机支付）`,
  loadAgain: '重试',
  iPaid: '我已付款',
  askAgain: '再次向银行查询',
  notPaid: '我还没有付款，返回支付',
  notPaidWithout: '如果您还没有付款，可以在这里支付：',
  others: '其他支付方式',
  tryAgain: '重新支付',
  back: '返回商家',
  away: '暂时无法连接支付服务，正在重试。如果您已付款，款项是安全的，请勿重复付款。',
  noscript: '此页面无需 JavaScript，会自动刷新。如果您已付款，请勿重复付款。',
  noWays: '没有 JavaScript 时，此页面无法提供其他支付方式，请返回商家选择。',
  lookAgain: '立即刷新',
  switchUnresolved: '银行仍在处理该订单的一笔支付。请勿重复付款，结果会显示在这里。',
  switchNotPayable: '该订单已不能再付款。',
  switchRefused: '此支付方式目前无法使用，请选择其他方式。',
  switchFailed: '请求暂未送达，请重试。',
  screens: {
    loading: ['请稍候', '正在加载支付信息……如果您已付款，请勿重复付款。'],
    preparing: ['请稍候', '正在准备支付……'],
    slow: ['请稍候', '仍在准备支付……您可以继续等待，也可以选择其他支付方式。'],
    switching: ['请稍候', '正在关闭上一次支付……'],
    pay: ['待支付', ''],
    asking: [
      '正在向银行确认',
      '请勿重复付款。银行答复后，结果会立即显示在这里。您也可以关闭此页面，您的付款不会丢失。',
    ],
    outside: ['', ''],
    'no-form': [
      '支付表单未能加载',
      '可能是网络不佳，或内容被拦截。请重试，或选择其他支付方式。如果您已付款，请勿重复付款。',
    ],
    elsewhere: [
      '请回到来处继续',
      '请在带您来到这里的应用或商家页面中完成支付。支付结果会自动显示在这里。如果您已付款，请勿重复付款。',
    ],
    lapsed: [
      '此支付方式已失效',
      '如果您已用它付款，请点击“我已付款”，请勿重复付款。如未付款，请选择其他方式继续。',
    ],
    paid: ['支付成功', '谢谢，我们已收到您的付款。'],
    telling: ['已收到您的款项', '谢谢，正在通知商家。请勿重复付款。'],
    settled: ['该订单已支付', '该订单此前已支付，请勿重复付款。'],
    partlyReturned: ['支付成功', ''],
    review: ['已收到您的款项', '订单继续之前需要人工核对。请勿重复付款。'],
    returning: [
      '款项正在退回',
      '该订单已支付或已不能支付。这笔款项会自动全额退回，您无需任何操作。请勿重复付款。',
    ],
    returningTwice: ['重复支付', '该订单此前已支付。第二笔款项会自动全额退回，您无需任何操作。'],
    returningLate: ['付款已超时', '该订单已不能支付。款项会自动全额退回，您无需任何操作。'],
    returningLater: ['款项将退回', '银行尚未受理退款，已转由人工处理，您无需任何操作。请勿重复付款。'],
    returned: ['款项已退回', '银行已将这笔款项全额退回。'],
    unpaid: ['未支付', '没有扣款。'],
    expired: ['已过期', '支付时间已结束，没有扣款。'],
    gone: [
      '此链接无法打开支付',
      '链接可能不完整，或已过有效期。请返回商家查看订单。如果您已付款，请勿重复付款。',
    ],
    private: [
      '此链接为私人链接',
      '支付页面只对由商家引导而来的付款人打开，复制的地址无法打开。请返回商家查看订单或付款。如果您已付款，请勿重复付款。',
    ],
  },
  partlyReturned: (amount) => `其中 ${amount} 已退回给您。`,
  outside: {
    browser: (channel) => [
      '请在浏览器中打开此页面',
      `此应用内无法使用${channel}。请点击右上角菜单，选择“在浏览器打开”，或复制链接到浏览器中打开。支付结果也会显示在这里。`,
    ],
    scan: (channel) => [
      '请用另一台设备扫码',
      `${channel}只能用摄像头扫描此二维码，不支持长按识别，也不支持从相册识别。请用另一部手机扫码，或在电脑上打开此页面，或选择其他支付方式。支付结果会自动显示在这里。`,
    ],
    wechat: (_channel, hasPageCode) => [
      '请在微信中打开此页面',
      `此支付需在微信内完成。请${hasPageCode ? '用微信扫描二维码，或' : ''}将链接发送到微信中打开。支付结果也会显示在这里。`,
    ],
    phone: (channel, hasPageCode) => [
      '请在手机上打开此页面',
      `此${channel}方式仅限手机使用。请${hasPageCode ? '用手机相机扫描二维码，或' : ''}在手机浏览器中打开本页链接。支付结果也会显示在这里。`,
    ],
  },
};

/** @type {Readonly<Record<'en' | 'zh', typeof en>>} */
export const MESSAGES = { en, zh };

/**
 * Returns the texts of a screen.
 * @param {typeof en} text
 * @param {import('./screen.js').Screen} screen
 * @param {import('./nodrop.js').PaymentForPayer} payment
 * @param {(amount: number) => string} amountOf formats an amount in minor units of the payment's currency
 * @param {string} channelTitle the title of the payment's channel
 * @param {import('./browsers.js').Where} where says where the payer can pay
 * @param {boolean} hasPageCode true if the page shows a QR code of its own URL
 * @returns {readonly string[]} title and detail
 */
export function wordingOf(text, screen, payment, amountOf, channelTitle, where, hasPageCode) {
  const { screens } = text;
  const { refundedAmount, refundStatus, refundReason } = payment;
  if (screen === 'outside' && where !== 'here') return text.outside[where](channelTitle, hasPageCode);
  if (screen === 'pay') return [screens.pay[0] ?? '', text.payWith(channelTitle)];
  if (screen === 'paid' && refundedAmount > 0)
    return [screens.partlyReturned[0] ?? '', text.partlyReturned(amountOf(refundedAmount))];
  if (screen === 'returning' && refundStatus === 'failed') return screens.returningLater;
  if (screen === 'returning' && refundReason === 'duplicate_payment') return screens.returningTwice;
  if (screen === 'returning' && refundReason === 'late_payment') return screens.returningLate;
  return screens[screen];
}
