import { Html, html } from './html.ts';
import { LANG, type Language, MESSAGES, type Messages } from './messages.ts';
import type { OrderReport } from './nodrop.ts';
import type { Order, Payment } from './orders.ts';
import { money, PRODUCTS, type Product } from './products.ts';

/** The shop's pages as complete HTML. They work without scripts; `order.js` updates them without a reload. */

/**
 * A sentence that the page shows once, after the customer has pressed a button. The address of the order's page names
 * the sentence.
 */
export type Notice = keyof Messages['notices'];

export function isNotice(value: unknown): value is Notice {
  return typeof value === 'string' && Object.hasOwn(MESSAGES.en.notices, value);
}

/** @param newOrderId makes an order id for each "Buy" button */
export function productsPage(language: Language, newOrderId: () => string): string {
  const text = MESSAGES[language];
  return page(
    language,
    NAME,
    html`<h1>${text.headline}</h1>
<p class="lead">${text.lead}</p>
<ul class="products">${PRODUCTS.map((product) => card(text, product, newOrderId()))}</ul>`,
  );
}

function card(text: Messages, { id, amount, currency, art }: Product, orderId: string): Html {
  const { name, about } = text.products[id];
  const price = money(amount, currency);
  return html`
<li class="card product">
${picture(art)}
<h2>${name}</h2>
<p class="about">${about}</p>
<p class="price">${price}</p>
<form method="post" action="/orders">
<input type="hidden" name="order" value="${orderId}">
<button class="main" name="product" value="${id}" aria-label="${text.buyFor(name, price)}">${text.buy}</button>
</form>
</li>`;
}

function picture(art: string): Html {
  return html`<svg class="art" viewBox="0 0 48 48" aria-hidden="true">${new Html(art)}</svg>`;
}

type Tone = 'good' | 'busy' | 'calm' | 'bad';

interface State {
  readonly tone: Tone;
  readonly title: string;
  readonly text: string;
  /** The label of the pay button; absent when the customer should not pay. */
  readonly pay?: string;
  readonly cancellable: boolean;
}

/** The states in which a payment has ended without paying the order. */
const ENDED = new Set(['failed', 'cancelled', 'closed', 'conflict', 'refunded']);

/**
 * True when every attempt that the shop knows has ended without paying. In this case the shop reads nodrop's report of
 * the order, because another attempt may exist: the customer can switch the channel on the cashier page, and the shop
 * detects that attempt only by its events.
 */
export function needsReport({ paidPaymentId, cancelledAt, payments }: Order): boolean {
  if (paidPaymentId !== null || cancelledAt !== null) return false;
  return payments.length > 0 && payments.every(({ state }) => ENDED.has(state));
}

/**
 * The state that the page shows, derived from the order and from nodrop's report.
 * @param report nodrop's report of the order; only read when `needsReport` returns true
 */
export function stateOf(text: Messages, order: Order, report: OrderReport): State {
  const { states, reasons } = text;
  const { amount, currency, refunded, payments } = order;
  const some = (state: string) => payments.find((payment) => payment.state === state);
  const isBack = ({ id, state }: Payment) =>
    state === 'conflict' || (state === 'refunded' && id !== order.paidPaymentId);
  const back = payments.find(isBack);
  if (order.paidPaymentId !== null) {
    if (refunded >= amount) {
      return {
        tone: 'calm',
        title: states.refunded,
        text: text.refunded(money(refunded, currency)),
        cancellable: false,
      };
    }
    const sentences = [
      text.thanks,
      refunded > 0 ? text.partlyRefunded(money(refunded, currency)) : '',
      back === undefined ? '' : wentBack(text, reasons.twice, back.refunded, amount),
    ];
    return { tone: 'good', title: states.paid, text: join(text, sentences), cancellable: false };
  }
  if (order.cancelledAt !== null) {
    return {
      tone: 'calm',
      title: states.cancelled,
      text: back === undefined ? text.cancelled : wentBack(text, reasons.late, back.refunded, amount),
      cancellable: false,
    };
  }
  if (some('review') !== undefined) {
    return {
      tone: 'busy',
      title: states.review,
      text: text.review,
      cancellable: false,
    };
  }
  const gone = back === undefined ? '' : wentBack(text, reasons.refused, back.refunded, amount);
  // A payment is under way, or nodrop's report is unknown. So the page must not say "nothing was charged".
  if (payments.some(({ state }) => !ENDED.has(state)) || (payments.length > 0 && report === 'unknown')) {
    return {
      tone: 'busy',
      title: states.waiting,
      text: join(text, [gone, text.waiting]),
      pay: text.goOn,
      cancellable: true,
    };
  }
  const last = payments[0]?.state;
  if (report === 'over') {
    return {
      tone: 'calm',
      title: states.notPaid,
      text: join(text, [gone || text.notCharged, text.notices.over]),
      cancellable: false,
    };
  }
  if (back !== undefined) {
    return {
      tone: 'calm',
      title: states.notPaid,
      text: join(text, [gone, text.canPayAgain]),
      pay: text.payAgain,
      cancellable: true,
    };
  }
  if (last === undefined) {
    return {
      tone: 'calm',
      title: states.notPaidYet,
      text: text.kept,
      pay: text.pay,
      cancellable: true,
    };
  }
  return {
    tone: 'bad',
    title: last === 'failed' ? states.declined : states.notPaid,
    text: join(text, [text.notCharged, text.canTryAgain]),
    pay: text.tryAgain,
    cancellable: true,
  };
}

const join = (text: Messages, sentences: readonly string[]) => sentences.filter(Boolean).join(text.space);

const wentBack = (text: Messages, reason: string, refunded: number, amount: number) =>
  refunded >= amount ? text.wentBack(reason) : text.goesBack(reason);

/** @param report nodrop's report of the order; only read when `needsReport` returns true */
export function orderPage(
  language: Language,
  order: Order,
  report: OrderReport,
  notice: Notice | undefined,
): string {
  const text = MESSAGES[language];
  const { id, amount, currency, pickupCode, revision } = order;
  const state = stateOf(text, order, report);
  const product = PRODUCTS.find((one) => one.id === order.product);
  const art = product?.art ?? '';
  const subject = product === undefined ? order.subject : text.products[product.id].name;
  const code = state.tone === 'good' ? pickupCode : null;
  return page(
    language,
    `${state.title}: ${subject}`,
    html`<article class="card order" data-order="${id}">
<div class="what">${picture(art)}<div><p class="name">${subject}</p><p class="price">${money(amount, currency)}</p></div></div>
<div id="state" role="status" data-revision="${revision}">
${notice === undefined ? null : html`<p class="notice">${text.notices[notice]}</p>`}
<h1 class="${state.tone}">${mark(state.tone)}<span>${state.title}</span></h1>
<p>${state.text}</p>
${code === null ? null : html`<p class="code"><span>${text.pickupCode}</span><strong>${code}</strong></p>`}
</div>
<div id="actions">
${state.pay === undefined ? null : button(`/orders/${id}/pay`, state.pay, 'main')}
${state.cancellable ? button(`/orders/${id}/cancel`, text.cancel, 'quiet') : null}
</div>
<p class="number">${text.order(id)}</p>
</article>
<p class="more"><a href="/">${text.back}</a></p>`,
    html`<script src="/order.js" type="module"></script>
<noscript><meta http-equiv="refresh" content="5"></noscript>`,
    notice === undefined ? '' : `&notice=${notice}`,
  );
}

/** A sign that is shown beside the colour, for people who cannot tell colours apart. */
function mark(tone: Tone): Html {
  const signs: Readonly<Record<Tone, string>> = {
    good: '<path d="M4 10.5l4 4 8-9"/>',
    busy: '<circle cx="10" cy="10" r="7"/><path d="M10 6v4l3 2"/>',
    calm: '<circle cx="10" cy="10" r="7"/>',
    bad: '<path d="M5 5l10 10M15 5L5 15"/>',
  };
  return html`<svg class="mark" viewBox="0 0 20 20" aria-hidden="true">${new Html(signs[tone])}</svg>`;
}

function button(action: string, label: string, kind: string): Html {
  return html`<form method="post" action="${action}"><button class="${kind}">${label}</button></form>`;
}

/** A page with one sentence, for example for an unknown address. */
export function sentencePage(
  language: Language,
  of: (text: Messages) => { readonly title: string; readonly sentence: string },
): string {
  const text = MESSAGES[language];
  const { title, sentence } = of(text);
  return page(
    language,
    title,
    html`<article class="card order"><h1>${title}</h1><p>${sentence}</p></article>
<p class="more"><a href="/">${text.back}</a></p>`,
  );
}

const NAME = 'Drip & Paper';

/** @param kept query parameters that the link to the other language keeps, each with its leading `&` */
function page(language: Language, title: string, main: Html, head: Html | null = null, kept = ''): string {
  const text = MESSAGES[language];
  const other = language === 'zh' ? 'en' : 'zh';
  return `<!doctype html>
${html`<html lang="${LANG[language]}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title === NAME ? NAME : `${title} - ${NAME}`}</title>
<link rel="stylesheet" href="/style.css">
<link rel="icon" type="image/svg+xml" href="/icon.svg">
${head}
</head>
<body>
<header><a class="brand" href="/">${NAME}</a><a class="language" href="?lang=${other}${kept}" lang="${LANG[other]}">${text.otherLanguage}</a></header>
<main>
${main}
</main>
<footer>${text.footer}</footer>
</body>
</html>
`}`;
}
