/** The cashier page before its script has run, and the page for an address that opens nothing. */

export type Language = 'en' | 'zh';

/** What the script needs and the API does not show. */
export interface ShellFacts {
  readonly subject: string;
  /** Where the payer may go on to. */
  readonly returnUrl: string | null;
}

const TEXTS = {
  en: {
    title: 'Payment',
    loading: 'One moment',
    loadingDetail: 'Your payment is being loaded … If you have paid, do not pay again.',
    noscript:
      'This page needs JavaScript to show the payment. If you have already paid, your payment is safe: do not pay again, and look at your order in the shop.',
    gone: 'This page has ended',
    goneDetail:
      'This address does not open a payment, or not any more. Go back to the shop to see your order. If you have paid, do not pay again.',
  },
  zh: {
    title: '付款',
    loading: '请稍候',
    loadingDetail: '正在加载支付信息……如果您已付款，请勿重复付款。',
    noscript:
      '此页面需要 JavaScript 才能显示支付信息。如果您已付款，款项是安全的，请勿重复付款，请在商家处查看订单。',
    gone: '页面已失效',
    goneDetail: '此链接无法打开支付，或已失效。请返回商家查看订单。如果您已付款，请勿重复付款。',
  },
} as const;

/** Loads nothing but our own files and runs no inline script or style; frames of other sites do not show it. */
export const CHECKOUT_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** @param facts undefined while the database cannot be asked, or without a token: the script goes on from there */
export function checkoutPage(language: Language, facts: ShellFacts | undefined): string {
  const { title, loading, loadingDetail, noscript } = TEXTS[language];
  return page(
    language,
    title,
    'assets',
    `<body data-screen="loading"${facts === undefined ? '' : ` data-subject="${escapeHtml(facts.subject)}"`}${
      facts?.returnUrl ? ` data-return-url="${escapeHtml(facts.returnUrl)}"` : ''
    }>
<main>
<header id="header">
<div class="bar"><p id="caption">${title}</p><button type="button" id="language" hidden></button></div>
<p id="amount"></p>
<p id="subject"></p>
<p id="countdown" hidden><span id="countdown-label"></span> <span id="time-left" role="timer" aria-live="off"></span></p>
</header>
<div class="content">
<p id="connection" role="status"></p>
<div id="state" role="status"><span id="mark" aria-hidden="true"></span><h1 id="title" tabindex="-1">${loading}</h1><p id="detail">${loadingDetail}</p></div>
<noscript><p>${noscript}</p></noscript>
<p id="alert" role="alert"></p>
<a id="pay" class="main" hidden></a>
<details id="qr" hidden><summary></summary><div id="qr-code"></div></details>
<button type="button" id="i-paid" hidden></button>
<button type="button" id="not-paid" class="quiet" hidden></button>
<section id="others" aria-labelledby="others-title" hidden><h2 id="others-title"></h2><div id="channels"></div></section>
<a id="back" hidden></a>
</div>
<footer id="number"></footer>
</main>
<p id="announcement" class="unseen" role="status"></p>
</body>`,
    '<script type="module" src="assets/page.js"></script>\n',
  );
}

/**
 * For a token that opens nothing; the same whether there is such a payment or not.
 * @param assets where the files of the cashier page are, seen from this one's address
 */
export function nothingPage(language: Language, assets: string): string {
  const { gone, goneDetail } = TEXTS[language];
  return page(
    language,
    gone,
    assets,
    `<body data-screen="gone">
<main>
<div class="content"><div id="state"><span id="mark" aria-hidden="true"></span><h1 id="title">${gone}</h1><p id="detail">${goneDetail}</p></div></div>
</main>
</body>`,
  );
}

const page = (
  language: Language,
  title: string,
  assets: string,
  body: string,
  script = '',
) => `<!doctype html>
<html lang="${language === 'zh' ? 'zh-Hans' : 'en'}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<link rel="icon" type="image/svg+xml" href="${assets}/icon.svg">
<link rel="stylesheet" href="${assets}/page.css">
${script}</head>
${body}
</html>
`;

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => ENTITIES[character] ?? character);
}
