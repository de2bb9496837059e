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
 * The cashier page as the service sends it, and the page for an address that opens nothing. It says by itself all that
 * is known of the payment, for browsers without JavaScript; the script goes on from there.
 */

export type Language = 'en' | 'zh';

/** The channels as payers know them, by name. */
export type ChannelTitles = Readonly<Record<string, Readonly<Record<Language, string>>>>;
/** What the page knows of all channels. */
export interface ChannelFacts {
  readonly titles: ChannelTitles;
  readonly methods: Methods;
}
/** The form of a payment's channel. */
export interface PageForm {
  /** Its module, seen from the page's script. */
  readonly module: string;
  readonly declaration: FormDeclaration;
}

/** What a token opens. */
export interface Opened {
  /** As its payer sees it; nothing in it carries the token. */
  readonly payment: PaymentForPayer;
  readonly subject: string;
  readonly now: Date;
  /** True when the payer comes back from the wallet. */
  readonly mayHavePaid: boolean;
  readonly browser: BrowserKind;
  readonly form?: PageForm;
}

/**
 * Loads nothing but our own files and runs no inline script or style; frames of other sites do not show it. Its one form
 * leads back to itself.
 */
export const CHECKOUT_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/** The modules that `page.js` loads, by their names beside it: asked for at once, and not one after the other. */
const MODULES = 'browsers currencies messages methods money nodrop qr schemes screen session titles uqr'
  .split(' ')
  .map((name) => `${name}.js`);

/** After how many seconds a page without a script looks again: where an answer is awaited, and where the payer acts. */
const LOOK_AGAIN_S = { waiting: 5, acting: 15, ended: 60 };
const WAITING: ReadonlySet<Screen> = new Set(['loading', 'preparing', 'asking', 'telling']);
const ACTING: ReadonlySet<Screen> = new Set(['pay', 'outside', 'slow', 'elsewhere', 'lapsed']);

/**
 * @param opened what the token opens; `unknown` while the database cannot be asked. Without a token only the script
 *   may know one: the page is then the same for every id.
 * @param channels by name
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
      noscript: `<p>${text.noscript}</p>${lookAgain(language)}`,
    });
  }
  return checkout(language, shown(language, opened, channels));
}

/** What the page is filled with. Texts are HTML already. */
interface Filling {
  readonly screen: Screen;
  readonly interval: keyof typeof LOOK_AGAIN_S;
  readonly title: string;
  readonly detail: string;
  readonly noscript: string;
  readonly documentTitle?: string;
  /** Attributes of the body. */
  readonly data?: string;
  readonly amount?: string;
  readonly subject?: string;
  readonly pay?: string;
  readonly qr?: string;
  readonly back?: string;
  readonly number?: string;
  /** True when the state says something only to those with a script. */
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
  // The code of this page would have the token in it, which is in no text of the page.
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
  // The script has a button for this. Not folded: the next refresh would fold it again.
  const isShownAgain = screen === 'asking' && (payUrl !== undefined || code !== undefined);
  if (isShownAgain) {
    without.push(
      `<div class="again"><p>${text.notPaidWithout}</p>${payUrl === undefined ? qrImage(code ?? '', text.qrLabel) : linkTo(payUrl, text.pay(amount), ` class="main" ${TELLS_ORIGIN}`)}</div>`,
    );
  }
  // These screens speak of other ways to pay, and the buttons for them are the script's.
  if (screen === 'slow' || screen === 'lapsed' || screen === 'outside') without.push(`<p>${text.noWays}</p>`);
  // Other ways to pay, and a channel that is silent, leave nothing to do here but to go back.
  if (!isBackShown && leadsBack(backUrl, NEVER_SCHEMES)) without.push(linkTo(backUrl, text.back));
  if (!ENDS.has(screen)) without.push(lookAgain(language));

  const isPay = screen === 'pay';
  return {
    screen,
    interval: isShownAgain || ACTING.has(screen) ? 'acting' : WAITING.has(screen) ? 'waiting' : 'ended',
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
      ? { pay: linkTo(payUrl, text.pay(amount), ` id="pay" class="main" ${TELLS_ORIGIN}`) }
      : {}),
    ...((isPay || screen === 'outside') && code !== undefined
      ? {
          // Open, as each refresh would fold it again; the script folds it on phones.
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
  const seconds = LOOK_AGAIN_S[filling.interval];
  const looksAgain = !ENDS.has(screen) && filling.isScripted !== true;
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
${pay ?? `<a id="pay" class="main" ${TELLS_ORIGIN} hidden></a>`}
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
      ...(looksAgain ? [`<noscript><meta http-equiv="refresh" content="${seconds}"></noscript>`] : []),
      ...MODULES.map((name) => `<link rel="modulepreload" href="assets/${name}">`),
      '<script type="module" src="assets/page.js"></script>',
      '<script defer src="assets/without.js"></script>',
    ].join('\n'),
  );
}

/**
 * WeChat Pay refuses an `h5_url` whose opener does not say where it stands (https://pay.weixin.qq.com/doc/v3/merchant/4012791845).
 * The wallet learns the origin of this page, and never its path or the token.
 */
const TELLS_ORIGIN = 'referrerpolicy="strict-origin"';

/** The address of the page itself, whatever it is: it is in no text of the page, as the token is in it. */
const lookAgain = (language: Language) => `<a href="">${MESSAGES[language].lookAgain}</a>`;

/**
 * Leads to the same address in the other language, see `serveLanguageChoice`. A form and no link: without an action it
 * goes to the page's own address, whatever it is, so that the token in it is in no text of the page.
 */
function otherLanguage(language: Language): string {
  const other = language === 'zh' ? 'en' : 'zh';
  return `<form method="post"><button class="language" lang="${LANG[other]}">${MESSAGES[language].otherLanguage}</button></form>`;
}

const LANG: Readonly<Record<Language, string>> = { en: 'en', zh: 'zh-Hans' };

/** How large an amount can be written in one line; a script counts its signs itself. */
const lengthClass = ({ length }: string) => (length <= 12 ? 'short' : length <= 18 ? 'long' : 'longer');

function qrImage(content: string, label: string): string {
  const { data, size } = encode(content, QR_OPTIONS);
  return `<svg viewBox="0 0 ${size} ${size}" role="img" shape-rendering="crispEdges" aria-label="${label}"><path d="${qrPath(data)}"/></svg>`;
}

/**
 * For a token that opens nothing; the same whether there is such a payment or not.
 * @param assets where the files of the cashier page are, seen from this one's address
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
