import type { Answer, Sent } from '../../channels/contract/http.ts';
import { type Books, type Chargeback, inWhole, type Payment, placesOf, type Refund } from './books.ts';
import { hal, problem } from './http.ts';

/**
 * Mollie's API, which reads and changes the books. Refusals have Mollie's messages and fields, where Mollie documents
 * these.
 */

const HOUR_MS = 3_600_000;
const CURRENCIES =
  'AED AUD BRL CAD CHF CZK DKK EUR GBP HKD HUF ILS ISK JPY MXN MYR NOK NZD PHP PLN RON SEK SGD THB TWD USD ZAR'.split(
    ' ',
  );
/** The double refuses this amount and higher amounts, as in the example on Mollie's page about errors. */
const TOO_MUCH_FROM = 1_000_000_000;
const METADATA_AT_MOST_BYTES = 1_024;
const PAGE_AT_MOST = 250;

class Refused extends Error {
  readonly answer: Answer;
  constructor(status: number, detail: string, field?: string) {
    super(detail);
    this.answer = problem(status, detail, field);
  }
}

type Given = Readonly<Record<string, unknown>>;

export function handleApi(books: Books, sent: Sent, url: URL): Answer {
  try {
    const apiKey = sent.headers.authorization?.replace(/^Bearer /, '') ?? '';
    const profile = Object.hasOwn(books.keys, apiKey) ? books.keys[apiKey] : undefined;
    if (profile === undefined) throw new Refused(401, 'Missing authentication, or failed to authenticate');
    const mode = apiKey.startsWith('live_') ? 'live' : 'test';
    const perform = () => route(books, { profile, mode }, sent, url);
    // Mollie ignores the idempotency key of a request that is not a POST.
    const key = sent.method === 'POST' ? sent.headers['idempotency-key'] : undefined;
    return key === undefined ? perform() : once(books, `${profile} ${key}`, sent, perform);
  } catch (error) {
    if (error instanceof Refused) return error.answer;
    throw error;
  }
}

/** https://docs.mollie.com/reference/api-idempotency */
function once(books: Books, key: string, { path, body }: Sent, perform: () => Answer): Answer {
  const request = `${path}\n${body}`;
  const at = books.now();
  const kept = books.stored.get(key);
  const stored = kept !== undefined && at - kept.at < HOUR_MS ? kept : undefined;
  if (stored !== undefined && stored.request !== request)
    throw new Refused(400, 'The idempotency key was used for another request.');
  if (stored !== undefined)
    return { ...stored.answer, headers: { ...stored.answer.headers, 'idempotent-replayed': 'true' } };
  let answer: Answer;
  try {
    answer = perform();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    answer = error.answer;
  }
  books.stored.set(key, { request, answer, at });
  return answer;
}

interface Caller {
  readonly profile: string;
  readonly mode: 'test' | 'live';
}

function route(books: Books, caller: Caller, { method, body }: Sent, url: URL): Answer {
  const [, version, resource, id, part, partId] = url.pathname.split('/');
  if (version !== 'v2') throw new Refused(404, 'No such endpoint');
  if (`${method} ${resource}` === 'GET methods' && id === undefined) {
    const methods = books.methods.map((name) => ({ resource: 'method', id: name, status: 'activated' }));
    return hal(200, { count: methods.length, _embedded: { methods }, _links: {} });
  }
  if (resource !== 'payments') throw new Refused(404, 'No such endpoint');
  if (id === undefined) {
    if (method === 'POST') return hal(201, show(books, create(books, caller, parse(body))));
    if (method !== 'GET') throw new Refused(405, 'Method Not Allowed');
    const all = [...books.payments.values()].filter(({ profile }) => profile === caller.profile);
    const current = all.map((payment) => books.paymentOf(payment.id) ?? payment);
    return page(books, url, 'payments', current, (payment) => show(books, payment));
  }
  const payment = books.paymentOf(id);
  if (payment === undefined || payment.profile !== caller.profile)
    throw new Refused(404, `No payment exists with token ${id}.`);
  const does = `${method} ${part ?? ''}${partId === undefined ? '' : ' one'}`;
  switch (does.trim()) {
    case 'GET':
      return hal(200, show(books, payment));
    case 'DELETE':
      if (payment.status !== 'open' || !payment.isCancelable)
        throw new Refused(422, 'The payment cannot be cancelled');
      books.change(payment, 'canceled');
      return hal(200, show(books, payment));
    case 'POST refunds':
      return hal(201, showRefund(books, refund(books, payment, parse(body))));
    case 'GET refunds':
      return page(books, url, 'refunds', books.refundsOf(payment), (one) => showRefund(books, one));
    case 'GET refunds one': {
      const found = books.refundsOf(payment).find((one) => one.id === partId);
      if (found === undefined) throw new Refused(404, `No refund exists with token ${partId}.`);
      return hal(200, showRefund(books, found));
    }
    case 'GET chargebacks':
      return page(books, url, 'chargebacks', books.chargebacksOf(payment), (one) =>
        showChargeback(books, one),
      );
    default:
      throw new Refused(404, 'No such endpoint');
  }
}

function parse(body: string): Given {
  try {
    const given: unknown = JSON.parse(body);
    if (typeof given === 'object' && given !== null) return given as Given;
  } catch {
    // Not JSON.
  }
  throw new Refused(400, 'The request body is not a JSON object');
}

function create(books: Books, { profile, mode }: Caller, given: Given): Payment {
  const { amount, currency } = amountIn(given);
  if (amount <= 0) throw new Refused(422, 'The amount is lower than the minimum', 'amount');
  if (amount >= TOO_MUCH_FROM * 10 ** placesOf(currency))
    throw new Refused(422, 'The amount is higher than the maximum', 'amount');
  const { description, redirectUrl, webhookUrl = null, metadata = null, method = null } = given;
  if (typeof description !== 'string' || description === '')
    throw new Refused(422, "The 'description' field is missing", 'description');
  if (!isUrl(redirectUrl)) throw new Refused(422, 'The redirect URL is invalid', 'redirectUrl');
  if (webhookUrl !== null && (!isUrl(webhookUrl) || new URL(webhookUrl).hostname === 'unreachable.example')) {
    const why = "The webhook URL is invalid because it is unreachable from Mollie's point of view";
    throw new Refused(422, why, 'webhookUrl');
  }
  if (Buffer.byteLength(JSON.stringify(metadata)) > METADATA_AT_MOST_BYTES)
    throw new Refused(422, 'The metadata is too large', 'metadata');
  if (method !== null && !(typeof method === 'string' && books.methods.includes(method)))
    throw new Refused(422, 'The payment method is not enabled in your website profile', 'method');
  return books.addPayment({
    ...{ profile, mode, amount, currency, redirectUrl, webhookUrl, metadata, method },
    description: [...description].slice(0, 255).join(''),
  });
}

function refund(books: Books, payment: Payment, given: Given): Refund {
  const { amount, currency } = amountIn(given);
  if (payment.status !== 'paid') throw new Refused(422, 'The payment is not paid, and cannot be refunded');
  if (currency !== payment.currency)
    throw new Refused(422, 'The amount contains an invalid currency', 'amount.currency');
  const isTwin = books
    .refundsOf(payment)
    .some(
      (one) =>
        one.amount === amount &&
        books.now() - one.createdAt < HOUR_MS &&
        !['failed', 'canceled'].includes(one.status),
    );
  if (amount <= 0 || amount > books.remainingOf(payment))
    throw new Refused(422, 'The specified amount cannot be refunded', 'amount.value');
  if (isTwin) throw new Refused(409, 'A duplicate refund has been detected');
  return books.addRefund(payment, amount, given.metadata ?? null);
}

function amountIn({ amount: given }: Given): { amount: number; currency: string } {
  if (typeof given !== 'object' || given === null)
    throw new Refused(422, "The 'amount' field is missing", 'amount');
  const { value, currency } = given as Given;
  if (typeof currency !== 'string' || !CURRENCIES.includes(currency))
    throw new Refused(422, 'The amount contains an invalid currency', 'amount.currency');
  const places = placesOf(currency);
  // The value must be a string with exactly as many decimals as the currency has.
  const form = places === 0 ? /^\d+$/ : new RegExp(`^\\d+\\.\\d{${places}}$`);
  if (typeof value !== 'string' || !form.test(value))
    throw new Refused(422, 'The amount contains an invalid value', 'amount.value');
  return { amount: Number(value.replace('.', '')), currency };
}

function isUrl(value: unknown): value is string {
  try {
    return typeof value === 'string' && /^https?:$/.test(new URL(value).protocol);
  } catch {
    return false;
  }
}

/** One page of a list, newest first, starting with the given object: https://docs.mollie.com/reference/pagination. */
function page<T extends { readonly id: string }>(
  books: Books,
  url: URL,
  name: string,
  oldestFirst: readonly T[],
  showOne: (item: T) => object,
): Answer {
  const limit = Number(url.searchParams.get('limit') ?? 50);
  if (!(limit >= 1 && limit <= PAGE_AT_MOST)) throw new Refused(400, 'Invalid limit', 'limit');
  const all = [...oldestFirst].reverse();
  const from = url.searchParams.get('from');
  const start = from === null ? 0 : all.findIndex(({ id }) => id === from);
  if (start < 0) throw new Refused(400, 'Invalid cursor value', 'from');
  const items = all.slice(start, start + limit);
  const next = all[start + limit];
  const href = `${books.url}${url.pathname}?limit=${limit}&from=${next?.id}`;
  return hal(200, {
    count: items.length,
    _embedded: { [name]: items.map(showOne) },
    _links: {
      self: { href: `${books.url}${url.pathname}`, type: 'application/hal+json' },
      previous: null,
      next: next === undefined ? null : { href, type: 'application/hal+json' },
    },
  });
}

const amountOf = (amount: number, currency: string) => ({ value: inWhole(amount, currency), currency });
/** A time in Mollie's format. */
const timeOf = (at: number): string => `${new Date(at).toISOString().slice(0, 19)}+00:00`;

function show(books: Books, payment: Payment): object {
  const { id, mode, amount, currency, status, method, description, redirectUrl } = payment;
  const isOpen = status === 'open';
  return {
    ...{ resource: 'payment', id, mode, createdAt: timeOf(payment.createdAt) },
    ...{ amount: amountOf(amount, currency), description, method, metadata: payment.metadata, status },
    ...(['open', 'pending', 'authorized'].includes(status) ? { isCancelable: payment.isCancelable } : {}),
    ...(isOpen ? { expiresAt: timeOf(payment.expiresAt) } : {}),
    ...(payment.paidAt === null ? {} : { paidAt: timeOf(payment.paidAt) }),
    ...(payment.failureReason === null ? {} : { details: { failureReason: payment.failureReason } }),
    ...{ profileId: payment.profile, sequenceType: 'oneoff', redirectUrl },
    ...(payment.webhookUrl === null ? {} : { webhookUrl: payment.webhookUrl }),
    _links: {
      self: { href: `${books.url}/v2/payments/${id}`, type: 'application/hal+json' },
      ...(isOpen ? { checkout: { href: `${books.url}/checkout/${id}`, type: 'text/html' } } : {}),
    },
  };
}

function showRefund(books: Books, { id, amount, status, payment, metadata, createdAt }: Refund): object {
  const { currency = '', description = '' } = books.payments.get(payment) ?? {};
  return {
    ...{ resource: 'refund', id, amount: amountOf(amount, currency), status, metadata, description },
    ...{ paymentId: payment, createdAt: timeOf(createdAt), _links: {} },
  };
}

function showChargeback(books: Books, { id, amount, payment, createdAt, reversedAt }: Chargeback): object {
  const { currency = '' } = books.payments.get(payment) ?? {};
  return {
    ...{ resource: 'chargeback', id, amount: amountOf(amount, currency), paymentId: payment },
    ...{ reason: null, createdAt: timeOf(createdAt), _links: {} },
    reversedAt: reversedAt === null ? null : timeOf(reversedAt),
  };
}
