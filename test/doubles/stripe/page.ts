import type { Books } from './books.ts';
import { readForm, textAt } from './form.ts';
import { type Answer, json } from './http.ts';

/** What browsers load from the double: the payment page of a session, and a script that replaces Stripe.js. */
export function page(books: Books, method: string, url: URL, body: string): Answer {
  if (url.pathname === '/stripe.js') return { status: 200, type: 'text/javascript', body: SCRIPT };
  const session = books.sessionOf(url.pathname.slice('/pay/'.length));
  if (session === undefined) return { status: 404, type: 'text/plain', body: 'No such page' };
  if (method === 'POST') {
    const outcome = textAt(readForm(body), 'outcome');
    if (outcome !== 'paid' && outcome !== 'processing' && outcome !== 'declined') return json(400, {});
    books.pay(session, outcome);
    if (outcome === 'declined') return show(session.name, 'Your card was declined.');
    return { status: 303, body: '', headers: { location: session.successUrl } };
  }
  return session.status === 'open'
    ? show(session.name, '')
    : { status: 200, type: 'text/html', body: `<h1>This page is ${session.status}</h1>` };
}

const show = (name: string, said: string): Answer => ({
  status: 200,
  type: 'text/html; charset=utf-8',
  body: `<!doctype html><html lang="en"><title>Pay</title><h1>${escaped(name)}</h1><p>${said}</p><form method="post">
<button name="outcome" value="paid">Pay</button>
<button name="outcome" value="processing">Pay by bank debit</button>
<button name="outcome" value="declined">Pay with a card that is declined</button></form></html>`,
});

const escaped = (text: string) => text.replace(/[&<>"']/g, (sign) => `&#${sign.codePointAt(0)};`);

/** The part of Stripe.js that the cashier page calls. When the payer confirms, this script pays at the double. */
const SCRIPT = `
window.Stripe = (publishableKey) => ({
  elements: ({ clientSecret }) => ({
    clientSecret,
    create: () => ({
      mount: (place) => {
        const field = document.createElement('p');
        field.textContent = 'A card form for ' + publishableKey;
        place.append(field);
      },
      on: () => {},
    }),
    submit: async () => ({}),
  }),
  confirmPayment: async ({ elements }) => {
    const id = elements.clientSecret.split('_secret_')[0];
    const base = new URL(document.querySelector('script[src$="/stripe.js"]').src).origin;
    const answer = await fetch(base + '/_control/pay', {
      method: 'POST',
      body: JSON.stringify({ id, outcome: 'paid' }),
    });
    return answer.ok ? {} : { error: { message: 'It did not work' } };
  },
});
`;
