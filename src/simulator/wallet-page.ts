import { createHash } from 'node:crypto';
import { toDecimal } from '../domain/money.ts';
import type { Trade } from './store.ts';
import { isExpired } from './trades.ts';

const STYLE = `
:root{color-scheme:light dark;--ink:#17212b;--soft:#5d6b78;--card:#fff;--page:#eef1f4;--line:#dfe5ea;--accent:#0b6e4f;--bad:#b3261e}
@media (prefers-color-scheme:dark){:root{--ink:#eef3f6;--soft:#9fb0bd;--card:#1a232b;--page:#10161b;--line:#2d3a45;--accent:#3fb68b;--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:20px;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{width:100%;max-width:380px;background:var(--card);border-radius:20px;padding:28px 24px;box-shadow:0 8px 30px rgb(0 0 0/8%)}
.brand{margin:0;color:var(--soft);font-size:14px}
h1{margin:20px 0 0;font-size:40px;line-height:1.15;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
h1 small{font-size:18px;font-weight:500;color:var(--soft)}
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

/** The page's one style sheet as a Content-Security-Policy source. */
export const STYLE_HASH = `'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`;

const MESSAGES = {
  NOTPAY: '<p class="state">Ready to pay.</p>',
  PROCESSING: '<p class="state">The payment is being decided.</p>',
  SUCCESS: '<p class="state good">Paid.</p>',
  REFUND: '<p class="state good">Paid, and refunded in full.</p>',
  CLOSED: '<p class="state bad">This payment was closed. Nothing was paid.</p>',
  PAYERROR: '<p class="state bad">Declined. Nothing was paid.</p>',
} as const;

/** The wallet page of a trade, whole: no script and nothing loaded from elsewhere. */
export function walletPage(trade: Trade): string {
  const over = trade.state === 'NOTPAY' && isExpired(trade);
  const open = !over && (trade.state === 'NOTPAY' || trade.state === 'PROCESSING');
  const form = `<form method="post">
<button class="main" name="result" value="success">Pay</button>
<button name="result" value="declined">Decline</button>
</form>`;
  return page(
    `<h1>${escapeHtml(toDecimal(trade.amount, trade.currency))} <small>${escapeHtml(trade.currency)}</small></h1>
<p class="subject">${escapeHtml(trade.subject)}</p>
${over ? '<p class="state bad">The time to pay is over. Nothing was paid.</p>' : MESSAGES[trade.state]}
${open ? form : ''}
<a${open ? '' : ' class="main"'} href="${escapeHtml(trade.returnUrl)}">${open ? 'Back' : 'Back to the shop'}</a>
<footer>${escapeHtml(trade.outTradeNo)}</footer>`,
  );
}

/** A page with one sentence, for a trade that cannot be shown. */
export function messagePage(message: string): string {
  return page(`<p class="state bad">${escapeHtml(message)}</p>`);
}

function page(body: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Wallet</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<p class="brand">Simulated wallet: no real money moves</p>
${body}
</main>
</body>
</html>
`;
}

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
