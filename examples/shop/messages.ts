/** The texts of the shop. Every language has every text. */

export type Language = 'en' | 'zh';

/** The languages' names in HTML. */
export const LANG: Readonly<Record<Language, string>> = { en: 'en', zh: 'zh-Hans' };

const en = {
  otherLanguage: '中文',
  headline: 'Good things, paid for once',
  lead: 'A demonstration shop. It sells through nodrop, and no real money moves.',
  footer: 'A demonstration shop of nodrop: no real money moves.',
  products: {
    coffee: { name: 'House blend', about: 'Coffee from Yunnan, 250 g, roasted on Mondays.' },
    notebook: { name: 'Dot notebook', about: '120 pages that lie flat and forgive a fountain pen.' },
    towel: { name: 'Tenugui towel', about: 'Dyed by hand in Tokyo, 33 by 90 cm.' },
    teapot: { name: 'Kyusu teapot', about: 'Tokoname clay, 280 ml. It pours to the last drop.' },
  },
  buy: 'Buy',
  buyFor: (name: string, amount: string) => `Buy ${name} for ${amount}`,
  order: (id: string) => `Order ${id}`,
  pickupCode: 'Pickup code',
  pay: 'Pay',
  goOn: 'Go on to pay',
  payAgain: 'Pay again',
  tryAgain: 'Try again',
  cancel: 'Cancel the order',
  back: 'Back to the shop',
  /**
   * Sentences that the page shows once, after the customer has pressed a button. The address of the order's page names
   * the sentence.
   */
  notices: {
    away: 'The cashier cannot be reached right now. Please try again in a moment.',
    unresolved: 'The bank is still deciding about your last attempt. Please do not pay again yet.',
    over: 'This order can no longer be paid.',
    paid: 'This order is being paid already, so it cannot be cancelled.',
    unsettled: 'The cancellation could not be confirmed yet. Please try again in a moment.',
  },
  states: {
    refunded: 'Refunded',
    paid: 'Paid',
    cancelled: 'Cancelled',
    review: 'We are looking at your payment',
    waiting: 'Waiting for your payment',
    notPaid: 'Not paid',
    notPaidYet: 'Not paid yet',
    declined: 'Declined',
  },
  refunded: (amount: string) => `${amount} was refunded to you, and the order has ended.`,
  thanks: 'Thank you! Show the pickup code at the counter.',
  partlyRefunded: (amount: string) => `${amount} of it was refunded to you.`,
  cancelled: 'This order was cancelled, and nothing was charged for it.',
  review:
    'Your money has arrived, and we have to check the payment. Please do not pay again: this page will show the result.',
  waiting:
    'Paid already? Then you are done: this page shows it as soon as the bank confirms the payment. Not paid yet? Continue where you were.',
  kept: 'Your order is kept for you.',
  notCharged: 'The payment was not completed, and nothing was charged.',
  canPayAgain: 'You can pay again.',
  canTryAgain: 'Your order is kept: you can try again.',
  /** Why an order could not keep the money of a payment. */
  reasons: {
    twice: 'You paid twice',
    late: 'Your payment came after the order was cancelled',
    refused: 'Your payment could not be accepted for this order',
  },
  wentBack: (reason: string) => `${reason}: the money was refunded to you.`,
  goesBack: (reason: string) => `${reason}: the money is on its way back to you.`,
  /** The separator between two sentences. */
  space: ' ',
  notFound: { title: 'Not found', sentence: 'There is nothing at this address.' },
  notUnderstood: { title: 'Not understood', sentence: 'Please go back and try again.' },
  inTheWay: { title: 'Something went wrong', sentence: 'Please try again in a moment.' },
};

export type Messages = typeof en;

const zh: Messages = {
  otherLanguage: 'English',
  headline: '好物，只付一次',
  lead: '这是一家演示商店，通过 nodrop 收款，不产生真实扣款。',
  footer: 'nodrop 的演示商店：不产生真实扣款。',
  products: {
    coffee: { name: '招牌拼配咖啡', about: '云南咖啡豆，250 克，每周一烘焙。' },
    notebook: { name: '点阵笔记本', about: '120 页，可平摊，钢笔书写不洇墨。' },
    towel: { name: '日式手拭巾', about: '东京手工染制，33 × 90 厘米。' },
    teapot: { name: '常滑烧急须壶', about: '常滑陶土，280 毫升，出水干净利落。' },
  },
  buy: '购买',
  buyFor: (name, amount) => `购买${name}，${amount}`,
  order: (id) => `订单 ${id}`,
  pickupCode: '取货码',
  pay: '付款',
  goOn: '继续付款',
  payAgain: '再次付款',
  tryAgain: '重新付款',
  cancel: '取消订单',
  back: '返回商店',
  notices: {
    away: '暂时无法连接收银台，请稍后再试。',
    unresolved: '银行仍在处理您上一次的付款，请暂勿再次付款。',
    over: '该订单已不能再付款。',
    paid: '该订单正在付款或已付款，无法取消。',
    unsettled: '暂时无法确认取消结果，请稍后再试。',
  },
  states: {
    refunded: '已退款',
    paid: '已付款',
    cancelled: '已取消',
    review: '正在核对您的付款',
    waiting: '正在等待您的付款',
    notPaid: '未付款',
    notPaidYet: '尚未付款',
    declined: '付款被拒绝',
  },
  refunded: (amount) => `${amount} 已退回给您，订单已终止。`,
  thanks: '谢谢！请在柜台出示取货码。',
  partlyRefunded: (amount) => `其中 ${amount} 已退回给您。`,
  cancelled: '该订单已取消，没有扣款。',
  review: '已收到您的款项，但需要人工核对。请勿再次付款，结果会显示在此页面。',
  waiting: '已经付款？那就完成了：银行通知我们后，此页面会立即显示结果。还没有付款？请继续付款。',
  kept: '订单已为您保留。',
  notCharged: '付款未完成，没有扣款。',
  canPayAgain: '您可以再次付款。',
  canTryAgain: '订单已为您保留，您可以重新付款。',
  reasons: {
    twice: '您重复付款了',
    late: '付款在订单取消之后到达',
    refused: '这笔付款无法用于该订单',
  },
  wentBack: (reason) => `${reason}：款项已退回给您。`,
  goesBack: (reason) => `${reason}：款项正在退回给您。`,
  space: '',
  notFound: { title: '未找到', sentence: '此地址没有内容。' },
  notUnderstood: { title: '无法处理', sentence: '请返回后重试。' },
  inTheWay: { title: '暂时无法处理', sentence: '请稍后再试。' },
};

export const MESSAGES: Readonly<Record<Language, Messages>> = { en, zh };
