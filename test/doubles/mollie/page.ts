import type { Answer } from '../../channels/contract/http.ts';
import type { Books } from './books.ts';
import { problem } from './http.ts';

const OUTCOMES = ['paid', 'pending', 'failed', 'canceled'] as const;

/** The payment page for payers. In test mode the page asks for the result of the payment. */
export function page(books: Books, method: string, path: string, body: string): Answer {
  const payment = books.paymentOf(path.slice('/checkout/'.length));
  if (payment === undefined) return problem(404, 'No such page');
  const outcome = OUTCOMES.find((known) => known === new URLSearchParams(body).get('outcome'));
  if (method === 'POST' && outcome !== undefined && payment.status === 'open') {
    payment.method ??= 'ideal';
    books.change(payment, outcome);
    return { status: 303, headers: { location: payment.redirectUrl }, body: '' };
  }
  const buttons = OUTCOMES.map((name) => `<button name="outcome" value="${name}">${name}</button>`).join('');
  const shown = payment.status === 'open' ? `<form method="post">${buttons}</form>` : payment.status;
  return {
    status: 200,
    headers: { 'content-type': 'text/html; charset=utf-8' },
    body: `<!doctype html><html lang="en"><title>Pay</title>${shown}</html>`,
  };
}
