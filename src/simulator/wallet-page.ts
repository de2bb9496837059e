import { createHash } from 'node:crypto';
import { amountText } from '../domain/money.ts';
import type { SimulatorError } from './errors.ts';
import type { Trade } from './store.ts';
import { isExpired } from './trades.ts';
import { TRIGGERS } from './triggers.ts';

const STYLE = `
:root{color-scheme:light dark;--ink:#17212b;--soft:#5d6b78;--card:#fff;--page:#eef1f4;--line:#dfe5ea;--accent:#0b6e4f;--bad:#b3261e}
@media (prefers-color-scheme:dark){:root{--ink:#eef3f6;--soft:#9fb0bd;--card:#1a232b;--page:#10161b;--line:#2d3a45;--accent:#3fb68b;--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:20px;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{width:100%;max-width:380px;background:var(--card);border-radius:20px;padding:28px 24px;box-shadow:0 8px 30px rgb(0 0 0/8%)}
.bar{display:flex;gap:8px;align-items:center;justify-content:space-between;color:var(--soft);font-size:14px}
.brand{margin:0}
.bar a{width:auto;flex:none;min-width:44px;min-height:44px;margin:-11px -12px -11px 0;border-color:transparent;padding:10px 12px;font-weight:400}
h1{margin:20px 0 0;font-size:min(40px,10vw);line-height:1.15;font-variant-numeric:tabular-nums;white-space:nowrap}
h1.long{font-size:min(26px,6.8vw)}
h1.longer{font-size:min(19px,4.7vw)}
.subject{margin:4px 0 20px;overflow-wrap:anywhere}
.state{margin:0 0 20px;padding:12px 14px;border:1px solid var(--line);border-radius:12px;font-size:15px}
.good{color:var(--accent);font-weight:600}
.bad{color:var(--bad);font-weight:600}
form{display:grid;gap:10px;margin:0 0 10px}
button,a{display:block;width:100%;min-height:50px;padding:12px;border-radius:12px;border:1px solid var(--line);background:none;color:inherit;font:inherit;font-weight:600;text-align:center;text-decoration:none;cursor:pointer}
.main{background:var(--accent);border-color:var(--accent);color:var(--card)}
button:focus-visible,a:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
footer{margin-top:20px;color:var(--soft);font-size:12px;overflow-wrap:anywhere}
`;

/** The hash of the page's only style sheet, as a Content-Security-Policy source. */
export const STYLE_HASH = `'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`;

export const ICON =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><title>Wallet</title><rect width="32" height="32" rx="8" fill="#0b6e4f"/><path d="M7 11h18v13H7zM7 11l13-4v4M19 17h6v3h-6z" fill="none" stroke="#fff" stroke-width="2.5" stroke-linejoin="round"/></svg>';

export type Language = 'en' | 'zh';

interface Messages {
  readonly title: string;
  readonly brand: string;
  readonly otherLanguage: string;
  readonly states: Readonly<Record<Trade['state'] | 'over', string>>;
  readonly pay: string;
  readonly decline: string;
  readonly back: string;
  readonly backToShop: string;
  /** The texts for refusals, by the code of the refusal. A refusal with any other code is shown in English. */
  readonly refusals: Readonly<Record<string, string>>;
}

/** The texts of the page. Each language has all of them. */
const MESSAGES: Readonly<Record<Language, Messages>> = {
  en: {
    title: 'Wallet',
    brand: 'Simulated wallet: no real money moves',
    otherLanguage: '中文',
    states: {
      NOTPAY: 'Ready to pay.',
      PROCESSING: 'The payment is being decided.',
      SUCCESS: 'Paid.',
      REFUND: 'Paid, and refunded in full.',
      CLOSED: 'This payment was closed. Nothing was paid.',
      PAYERROR: 'Declined. Nothing was paid.',
      over: 'The time to pay is over. Nothing was paid.',
    },
    pay: 'Pay',
    decline: 'Decline',
    back: 'Back',
    backToShop: 'Back to the shop',
    refusals: {},
  },
  zh: {
    title: '钱包',
    brand: '模拟钱包：不产生真实扣款',
    otherLanguage: 'English',
    states: {
      NOTPAY: '待支付。',
      PROCESSING: '正在处理这笔支付。',
      SUCCESS: '支付成功。',
      REFUND: '已支付，并已全额退款。',
      CLOSED: '这笔支付已关闭，没有扣款。',
      PAYERROR: '支付被拒绝，没有扣款。',
      over: '支付时间已结束，没有扣款。',
    },
    pay: '支付',
    decline: '拒绝',
    back: '返回',
    backToShop: '返回商家',
    refusals: { TRADE_NOT_FOUND: '没有此编号的交易。', SYSTEM_ERROR: '模拟钱包出现故障。' },
  },
};

const TONES: Readonly<Record<Trade['state'] | 'over', string>> = {
  NOTPAY: '',
  PROCESSING: '',
  SUCCESS: ' good',
  REFUND: ' good',
  CLOSED: ' bad',
  PAYERROR: ' bad',
  over: ' bad',
};

/** Returns the complete wallet page of a trade. The page has no scripts and loads nothing from elsewhere. */
export function walletPage(trade: Trade, language: Language): string {
  const text = MESSAGES[language];
  const over = trade.state === 'NOTPAY' && isExpired(trade);
  const open = !over && (trade.state === 'NOTPAY' || trade.state === 'PROCESSING');
  const form = `<form method="post">
<button class="main" name="result" value="success">${text.pay}</button>
<button name="result" value="declined">${text.decline}</button>
</form>`;
  const state = over ? 'over' : trade.state;
  const amount = amountText(trade.amount, trade.currency);
  return page(
    language,
    `<h1${lengthClass(amount)}>${amount}</h1>
<p class="subject">${escapeHtml(trade.subject)}</p>
<p class="state${TONES[state]}">${text.states[state]}</p>
${open ? form : ''}
<a${open ? '' : ' class="main"'} href="${escapeHtml(trade.returnUrl)}">${open ? text.back : text.backToShop}</a>
<footer>${escapeHtml(trade.outTradeNo)}${triggersOf(trade, language)}</footer>`,
  );
}

/** Returns the font size with which the amount fits into one line on a small phone. */
const lengthClass = ({ length }: string) =>
  length <= 12 ? '' : length <= 18 ? ' class="long"' : ' class="longer"';

/** Lists the triggers of the trade, so that a reader of the page sees why the trade is paid automatically. */
function triggersOf({ triggers = [] }: Trade, language: Language): string {
  const mark = language === 'zh' ? '：' : ': ';
  return triggers
    .map((name) => `<br><b>${name}</b>${mark}${escapeHtml(TRIGGERS[name].does[language])}`)
    .join('');
}

/** A page with one sentence, for a trade that cannot be shown. */
export function refusalPage({ code, message }: SimulatorError, language: Language): string {
  const said = MESSAGES[language].refusals[code] ?? message;
  return page(language, `<p class="state bad">${escapeHtml(said)}</p>`);
}

function page(language: Language, body: string): string {
  const text = MESSAGES[language];
  const other = language === 'zh' ? 'en' : 'zh';
  return `<!doctype html>
<html lang="${LANG[language]}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${text.title}</title>
<link rel="icon" type="image/svg+xml" href="icon.svg">
<style>${STYLE}</style>
</head>
<body>
<main>
<div class="bar"><p class="brand">${text.brand}</p><a href="?lang=${other}" lang="${LANG[other]}">${text.otherLanguage}</a></div>
${body}
</main>
</body>
</html>
`;
}

const LANG: Readonly<Record<Language, string>> = { en: 'en', zh: 'zh-Hans' };

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? character);
}
