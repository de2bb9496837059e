import { Html, html } from './html.ts';
import type { Word } from './nodrop.ts';
import type { Order, Payment } from './orders.ts';
import { money, PRODUCTS, type Product } from './products.ts';

/** The shop's pages, whole. They work without scripts; `order.js` only spares the customer reloading. */

/** What the customer is told once, after pressing a button; a word in the order page's address. */
export const NOTICES = {
  away: 'The cashier cannot be reached right now. Please try again in a moment.',
  preparing: 'Your payment is being prepared. Please press the button again in a moment.',
  unresolved: 'The bank is still deciding about your last attempt. Please do not pay again yet.',
  over: 'This order takes no payment any more.',
  paid: 'This order is being paid already, so it cannot be cancelled.',
  unsettled: 'The cancellation could not be confirmed yet. Please try again in a moment.',
} as const;
export type Notice = keyof typeof NOTICES;

export function isNotice(value: unknown): value is Notice {
  return typeof value === 'string' && Object.hasOwn(NOTICES, value);
}

/** @param newOrderId makes an order's id for each button. */
export function productsPage(newOrderId: () => string): string {
  return page(
    'Drip & Paper',
    html`<h1>Good things, paid for once</h1>
<p class="lead">A demonstration shop. It sells through nodrop, and no real money moves.</p>
<ul class="products">${PRODUCTS.map((product) => card(product, newOrderId()))}</ul>`,
  );
}

function card({ id, name, about, amount, currency, art }: Product, orderId: string): Html {
  return html`
<li class="card product">
${picture(art)}
<h2>${name}</h2>
<p class="about">${about}</p>
<p class="price">${money(amount, currency)}</p>
<form method="post" action="/orders">
<input type="hidden" name="order" value="${orderId}">
<button class="main" name="product" value="${id}" aria-label="Buy ${name} for ${money(amount, currency)}">Buy</button>
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
  /** The label of the button that pays, where paying is right. */
  readonly pay?: string;
  readonly cancellable: boolean;
}

/** The states that a payment can be over in without paying the order. */
const ENDED = new Set(['failed', 'cancelled', 'closed', 'conflict', 'refunded']);

/**
 * True when every attempt that the shop knows of is over without paying. There may be others: at the cashier the customer
 * can go on in another way, and that attempt is news to the shop only when it is over as well. So nodrop is asked.
 */
export function needsWord({ paidPaymentId, cancelledAt, payments }: Order): boolean {
  if (paidPaymentId !== null || cancelledAt !== null) return false;
  return payments.length > 0 && payments.every(({ state }) => ENDED.has(state));
}

/**
 * What the order's customer reads, by what the shop knows from events.
 * @param word nodrop's; only asked for when `needsWord`
 */
export function stateOf(order: Order, word: Word): State {
  const { amount, currency, refunded, payments } = order;
  const some = (state: string) => payments.find((payment) => payment.state === state);
  const isBack = ({ id, state }: Payment) =>
    state === 'conflict' || (state === 'refunded' && id !== order.paidPaymentId);
  const back = payments.find(isBack);
  if (order.paidPaymentId !== null) {
    if (refunded >= amount) {
      return {
        tone: 'calm',
        title: 'Refunded',
        text: `${money(refunded, currency)} went back to you, and the order is off.`,
        cancellable: false,
      };
    }
    const text = [
      'Thank you! Show the pickup code at the counter.',
      refunded > 0 ? `${money(refunded, currency)} of it went back to you.` : '',
      back === undefined ? '' : wentBack('You paid twice', back.refunded, amount),
    ];
    return { tone: 'good', title: 'Paid', text: text.filter(Boolean).join(' '), cancellable: false };
  }
  if (order.cancelledAt !== null) {
    return {
      tone: 'calm',
      title: 'Cancelled',
      text:
        back === undefined
          ? 'This order was cancelled, and nothing was charged for it.'
          : wentBack('Your payment came after the order was cancelled', back.refunded, amount),
      cancellable: false,
    };
  }
  if (some('review') !== undefined) {
    return {
      tone: 'busy',
      title: 'We are looking at your payment',
      text: 'Your money has arrived, and something about it needs a person. Please do not pay again: this page tells you what comes of it.',
      cancellable: false,
    };
  }
  const gone =
    back === undefined
      ? ''
      : wentBack('Your payment could not be taken for this order', back.refunded, amount);
  // Not over by a word of its own is under way: not knowing is never "nothing was charged".
  if (payments.some(({ state }) => !ENDED.has(state)) || (payments.length > 0 && word === 'unknown')) {
    return {
      tone: 'busy',
      title: 'Waiting for your payment',
      text: `${gone} Paid already? Then you are done: this page says so as soon as the bank has told us. Not paid yet? Go on where you were.`.trim(),
      pay: 'Go on to pay',
      cancellable: true,
    };
  }
  const last = payments[0]?.state;
  if (word === 'over') {
    return {
      tone: 'calm',
      title: 'Not paid',
      text: `${gone || 'The payment was not completed, and nothing was charged.'} ${NOTICES.over}`,
      cancellable: false,
    };
  }
  if (back !== undefined) {
    return {
      tone: 'calm',
      title: 'Not paid',
      text: `${gone} You can pay again.`,
      pay: 'Pay again',
      cancellable: true,
    };
  }
  if (last === undefined) {
    return {
      tone: 'calm',
      title: 'Not paid yet',
      text: 'Your order is kept for you.',
      pay: 'Pay',
      cancellable: true,
    };
  }
  return {
    tone: 'bad',
    title: last === 'failed' ? 'Declined' : 'Not paid',
    text: 'The payment was not completed, and nothing was charged. Your order is kept: you can try again.',
    pay: 'Try again',
    cancellable: true,
  };
}

function wentBack(why: string, refunded: number, amount: number): string {
  return `${why}: the money ${refunded >= amount ? 'went back to you' : 'is on its way back to you'}.`;
}

/** @param word as for `stateOf` */
export function orderPage(order: Order, word: Word, notice: Notice | undefined): string {
  const { id, product, subject, amount, currency, pickupCode, revision } = order;
  const state = stateOf(order, word);
  const art = PRODUCTS.find((one) => one.id === product)?.art ?? '';
  const code = state.tone === 'good' ? pickupCode : null;
  return page(
    `${state.title}: ${subject}`,
    html`<article class="card order" data-order="${id}">
<div class="what">${picture(art)}<div><p class="name">${subject}</p><p class="price">${money(amount, currency)}</p></div></div>
<div id="state" role="status" data-revision="${revision}">
${notice === undefined ? null : html`<p class="notice">${NOTICES[notice]}</p>`}
<h1 class="${state.tone}">${mark(state.tone)}<span>${state.title}</span></h1>
<p>${state.text}</p>
${code === null ? null : html`<p class="code"><span>Pickup code</span><strong>${code}</strong></p>`}
</div>
<div id="actions">
${state.pay === undefined ? null : button(`/orders/${id}/pay`, state.pay, 'main')}
${state.cancellable ? button(`/orders/${id}/cancel`, 'Cancel the order', 'quiet') : null}
</div>
<p class="number">Order ${id}</p>
</article>
<p class="more"><a href="/">Back to the shop</a></p>`,
    html`<script src="/order.js" type="module"></script>
<noscript><meta http-equiv="refresh" content="5"></noscript>`,
  );
}

/** For colour is not enough. */
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

/** A page with one sentence, where there is nothing else to show. */
export function sentencePage(title: string, sentence: string): string {
  return page(
    title,
    html`<article class="card order"><h1>${title}</h1><p>${sentence}</p></article>
<p class="more"><a href="/">Back to the shop</a></p>`,
  );
}

function page(title: string, main: Html, head: Html | null = null): string {
  const name = 'Drip & Paper';
  return `<!doctype html>
${html`<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title === name ? name : `${title} - ${name}`}</title>
<link rel="stylesheet" href="/style.css">
<link rel="icon" href="data:,">
${head}
</head>
<body>
<header><a class="brand" href="/">${name}</a></header>
<main>
${main}
</main>
<footer>A demonstration shop of nodrop: no real money moves.</footer>
</body>
</html>
`}`;
}
