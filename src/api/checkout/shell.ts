import { encode } from 'uqr';
import type { FormDeclaration } from '../../domain/channel.ts';
import { amountText } from '../../domain/money.ts';
import { NEVER_SCHEMES } from '../../domain/return-scheme.ts';
import { type BrowserKind, codeOf, linkOf, type Methods, whereOf } from './browsers.js';
import { MESSAGES, wordingOf } from './messages.js';
import type { PaymentForPayer } from './nodrop.js';
import { QR_OPTIONS, qrPath } from './qr.js';
import { COUNTED, ENDS, leadsBack, type Screen, screenOf, showsWayBack } from './screen.js';

/**
 * Renders the HTML of the cashier page, and of the page for a token that does not open a payment. The HTML shows the
 * state of the payment even without JavaScript. If the script of the page runs, the script updates the page.
 */

export type Language = 'en' | 'zh';

/** The channels' titles for payers, by channel name. */
export type ChannelTitles = Readonly<Record<string, Readonly<Record<Language, string>>>>;
/** The titles and methods of all channels. */
export interface ChannelFacts {
  readonly titles: ChannelTitles;
  readonly methods: Methods;
}
/** The payment form that the payment's channel provides. */
export interface PageForm {
  /** The URL of the form's module, relative to the page's script. */
  readonly module: string;
  readonly declaration: FormDeclaration;
}

/** The payment that a token opens, and what the page needs to show it. */
export interface Opened {
  /** The payer's view of the payment. No field contains the token. */
  readonly payment: PaymentForPayer;
  readonly subject: string;
  readonly now: Date;
  /** True if the payer returned from the wallet. */
  readonly mayHavePaid: boolean;
  readonly browser: BrowserKind;
  readonly form?: PageForm;
}

/**
 * The Content-Security-Policy of the cashier page. The page loads only files of this server, runs no inline script or
 * style, and cannot be framed by other sites. Its forms can only post to this server.
 */
export const CHECKOUT_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/** The modules that `page.js` imports. The page preloads them, so that the browser requests all of them in parallel. */
const MODULES = 'browsers currencies messages methods money nodrop qr schemes screen session titles uqr'
  .split(' ')
  .map((name) => `${name}.js`);

/**
 * A page without JavaScript reloads after this number of seconds: `waiting` while the page waits for an answer,
 * `acting` while the payer should act, and `ended` on all other screens.
 */
const RELOAD_AFTER_S = { waiting: 5, acting: 15, ended: 60 };
const WAITING: ReadonlySet<Screen> = new Set(['loading', 'preparing', 'asking', 'telling']);
const ACTING: ReadonlySet<Screen> = new Set(['pay', 'outside', 'slow', 'elsewhere', 'lapsed']);

/**
 * Renders the cashier page.
 * @param opened the payment that the token opens, or `unknown` while the database is unreachable, or `no token` if the
 * URL has no token. A page without a token is the same for every payment id, and its script may find a token in the
 * tab's storage.
 */
export function checkoutPage(
  language: Language,
  opened: Opened | 'unknown' | 'no token',
  channels: ChannelFacts,
): string {
  const text = MESSAGES[language];
  if (opened === 'no token') {
    const [title = '', detail = ''] = text.screens.private;
    const noscript = `<h2>${title}</h2><p>${detail}</p>${otherLanguage(language)}`;
    return checkout(language, { ...loading(language), noscript, isScripted: true });
  }
  if (opened === 'unknown') {
    return checkout(language, {
      ...loading(language),
      noscript: `<p>${text.noscript}</p>${reloadLink(language)}`,
    });
  }
  return checkout(language, shown(language, opened, channels));
}

/** The variable parts of the page. Texts are already escaped as HTML. */
interface Filling {
  readonly screen: Screen;
  readonly interval: keyof typeof RELOAD_AFTER_S;
  readonly title: string;
  readonly detail: string;
  readonly noscript: string;
  readonly documentTitle?: string;
  /** Attributes of the HTML element `body`. */
  readonly data?: string;
  readonly amount?: string;
  readonly subject?: string;
  readonly pay?: string;
  readonly qr?: string;
  readonly back?: string;
  readonly number?: string;
  /** True if the part of the page that shows the state needs JavaScript. */
  readonly isScripted?: boolean;
}

function loading(language: Language): Omit<Filling, 'noscript'> {
  const [title = '', detail = ''] = MESSAGES[language].screens.loading;
  return { screen: 'loading', interval: 'waiting', title, detail };
}

function shown(
  language: Language,
  { payment, subject, now, mayHavePaid, browser, form }: Opened,
  { titles, methods }: ChannelFacts,
): Filling {
  const text = MESSAGES[language];
  const amountOf = (amount: number) => amountText(amount, payment.currency);
  const where = whereOf(payment, browser, methods);
  const screen = screenOf(payment, { now: now.getTime(), mayHavePaid, where });
  const channelTitle = titles[payment.channel]?.[language] ?? payment.channel;
  // The last argument is `false`: the HTML has no QR code of the page's URL, because that code would contain the token.
  const [title = '', detail = ''] = wordingOf(text, screen, payment, amountOf, channelTitle, where, false);
  const amount = amountOf(payment.amount);
  const linkTo = (url: string, words: string, attributes = '') =>
    `<a${attributes} href="${escapeHtml(url)}">${words}</a>`;
  const [payUrl, code] = [linkOf(payment, browser, methods), codeOf(payment, methods)];
  const isDeclared = methods[payment.channel]?.[payment.method] !== undefined;
  const backUrl = payment.backUrl ?? undefined;
  const isBackShown = showsWayBack(screen, backUrl, NEVER_SCHEMES);

  const without: string[] = ENDS.has(screen) ? [] : [`<p>${text.noscript}</p>`];
  if (COUNTED.has(screen)) {
    const minutes = Math.ceil((Date.parse(payment.expiresAt) - now.getTime()) / 60_000);
    without.push(`<p>${text.minutesLeft(minutes)}</p>`);
  }
  // With JavaScript, the payer presses a button to see the link or code again. Without JavaScript, the page always
  // shows the link or code.
  const canPayAgain = screen === 'asking' && (payUrl !== undefined || code !== undefined);
  if (canPayAgain) {
    without.push(
      `<div class="again"><p>${text.notPaidWithout}</p>${payUrl === undefined ? qrImage(code ?? '', text.qrLabel) : linkTo(payUrl, text.pay(amount), ` class="main" ${SEND_ORIGIN}`)}</div>`,
    );
  }
  // The texts of these screens mention other ways to pay, but the buttons for those ways need JavaScript.
  if (screen === 'slow' || screen === 'lapsed' || screen === 'outside') without.push(`<p>${text.noWays}</p>`);
  // Without JavaScript, the link back to the shop is the only action on these screens.
  if (!isBackShown && leadsBack(backUrl, NEVER_SCHEMES)) without.push(linkTo(backUrl, text.back));
  if (!ENDS.has(screen)) without.push(reloadLink(language));

  const isPay = screen === 'pay';
  return {
    screen,
    interval: canPayAgain || ACTING.has(screen) ? 'acting' : WAITING.has(screen) ? 'waiting' : 'ended',
    title: escapeHtml(title),
    detail: escapeHtml(detail),
    noscript: without.join('\n'),
    documentTitle: `${title} · ${amount}`,
    data: [
      ` data-known="${escapeHtml(JSON.stringify({ now: now.getTime(), payment }))}"`,
      ` data-subject="${escapeHtml(subject)}"`,
      backUrl === undefined ? '' : ` data-return-url="${escapeHtml(backUrl)}"`,
      form === undefined
        ? ''
        : ` data-form-module="${escapeHtml(form.module)}" data-form-script="${escapeHtml(form.declaration.script?.url ?? '')}"`,
    ].join(''),
    amount,
    subject: escapeHtml(subject),
    ...(isPay && payUrl !== undefined
      ? { pay: linkTo(payUrl, text.pay(amount), ` id="pay" class="main" ${SEND_ORIGIN}`) }
      : {}),
    ...((isPay || screen === 'outside') && code !== undefined
      ? {
          // The HTML shows the QR code unfolded, because each reload would fold the code again. On phones, the script
          // folds the code.
          qr: `<details id="qr" open><summary>${isDeclared ? text.scanWith(escapeHtml(channelTitle)) : text.qr}</summary><div id="qr-code">${qrImage(code, text.qrLabel)}</div></details>`,
        }
      : {}),
    ...(isBackShown
      ? { back: linkTo(backUrl, text.back, screen === 'asking' ? ' id="back"' : ' id="back" class="main"') }
      : {}),
    number: `${text.payment} ${payment.id}`,
  };
}

function checkout(language: Language, filling: Filling): string {
  const { screen, title, detail, noscript, data = '', amount = '', subject = '', pay, qr, back } = filling;
  const text = MESSAGES[language];
  const seconds = RELOAD_AFTER_S[filling.interval];
  const reloads = !ENDS.has(screen) && filling.isScripted !== true;
  return page(
    language,
    filling.documentTitle ?? text.documentTitle,
    'assets',
    `<body data-screen="${screen}"${data}>
<main${filling.isScripted === true ? ' class="scripted"' : ''}>
<header id="header">
<div class="bar"><p id="caption">${text.documentTitle}</p><button type="button" id="language" hidden></button>${filling.isScripted === true ? '' : `<noscript>${otherLanguage(language)}</noscript>`}</div>
<p id="amount" class="${lengthClass(amount)}">${amount}</p>
<p id="subject">${subject}</p>
<p id="countdown" hidden><span id="countdown-label"></span> <span id="time-left" role="timer" aria-live="off"></span></p>
</header>
<div class="content">
<p id="connection" role="status"></p>
<div id="state" role="status"><span id="mark" aria-hidden="true"></span><h1 id="title" tabindex="-1">${title}</h1><p id="detail">${detail}</p></div>
<p id="alert" role="alert"></p>
<div id="form" hidden></div>
${pay ?? `<a id="pay" class="main" ${SEND_ORIGIN} hidden></a>`}
<button type="button" id="load-again" class="main" hidden></button>
${qr ?? '<details id="qr" hidden><summary></summary><div id="qr-code"></div></details>'}
<div id="hand-over" hidden><button type="button" id="copy"></button><input id="link" type="text" readonly hidden><p id="copied" role="status"></p></div>
<button type="button" id="i-paid" hidden></button>
<button type="button" id="not-paid" class="quiet" hidden></button>
<section id="others" aria-labelledby="others-title" hidden><h2 id="others-title"></h2><div id="channels"></div></section>
${back ?? '<a id="back" hidden></a>'}
<noscript>${noscript}</noscript>
</div>
<footer id="number">${filling.number ?? ''}</footer>
</main>
<p id="announcement" class="unseen" role="status"></p>
</body>`,
    [
      ...(reloads ? [`<noscript><meta http-equiv="refresh" content="${seconds}"></noscript>`] : []),
      ...MODULES.map((name) => `<link rel="modulepreload" href="assets/${name}">`),
      '<script type="module" src="assets/page.js"></script>',
      '<script defer src="assets/without.js"></script>',
    ].join('\n'),
  );
}

/**
 * WeChat Pay refuses an `h5_url` that is opened without a referrer
 * (https://pay.weixin.qq.com/doc/v3/merchant/4012791845). With this referrer policy, the wallet gets only the origin
 * of the cashier page, and neither the path nor the token.
 */
const SEND_ORIGIN = 'referrerpolicy="strict-origin"';

/**
 * A link that reloads the page. Its `href` is empty, because the page's URL contains the token and must not be in the
 * HTML.
 */
const reloadLink = (language: Language) => `<a href="">${MESSAGES[language].lookAgain}</a>`;

/**
 * A button that shows the page in the other language, see `serveLanguageChoice`. The button is a form without `action`,
 * so it posts to the page's own URL. A link would need that URL in the HTML, and the URL contains the token.
 */
function otherLanguage(language: Language): string {
  const other = language === 'zh' ? 'en' : 'zh';
  return `<form method="post"><button class="language" lang="${LANG[other]}">${MESSAGES[language].otherLanguage}</button></form>`;
}

const LANG: Readonly<Record<Language, string>> = { en: 'en', zh: 'zh-Hans' };

/**
 * Returns a CSS class with a font size at which the amount fits on one line. With JavaScript, the page does not need
 * the class, because the script sets the size.
 */
const lengthClass = ({ length }: string) => (length <= 12 ? 'short' : length <= 18 ? 'long' : 'longer');

function qrImage(content: string, label: string): string {
  const { data, size } = encode(content, QR_OPTIONS);
  return `<svg viewBox="0 0 ${size} ${size}" role="img" shape-rendering="crispEdges" aria-label="${label}"><path d="${qrPath(data)}"/></svg>`;
}

/**
 * Renders the page for a token that does not open a payment. The page does not reveal whether the payment exists.
 * @param assets the URL of the cashier page's files, relative to this page
 */
export function nothingPage(language: Language, assets: string): string {
  const [title = '', detail = ''] = MESSAGES[language].screens.gone;
  return page(
    language,
    title,
    assets,
    `<body data-screen="gone">
<main>
<div class="content"><div class="bar"><p>${MESSAGES[language].documentTitle}</p>${otherLanguage(language)}</div><div id="state"><span id="mark" aria-hidden="true"></span><h1 id="title">${title}</h1><p id="detail">${detail}</p></div></div>
</main>
</body>`,
  );
}

const page = (language: Language, title: string, assets: string, body: string, head = '') => `<!doctype html>
<html lang="${LANG[language]}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<link rel="icon" type="image/svg+xml" href="${assets}/icon.svg">
<link rel="stylesheet" href="${assets}/page.css">
${head === '' ? '' : `${head}\n`}</head>
${body}
</html>
`;

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => ENTITIES[character] ?? character);
}
