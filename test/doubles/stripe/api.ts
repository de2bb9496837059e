import type { Books } from './books.ts';
import { groupAt, type Params, textAt } from './form.ts';
import { type Answer, json } from './http.ts';

/** A refusal of Stripe. It has Stripe's message and code, where Stripe documents these. */
class Refused extends Error {
  readonly status: number;
  readonly code: string | undefined;
  readonly param: string | undefined;
  /**
   * True if the endpoint ran and refused because of the content of the books. False if the validation refused the
   * request.
   */
  readonly ran: boolean;

  constructor(
    message: string,
    {
      status = 400,
      code,
      param,
      ran = false,
    }: { status?: number; code?: string; param?: string; ran?: boolean } = {},
  ) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
    this.ran = ran;
  }
}

const SMALLEST: Readonly<Record<string, number>> = { usd: 50, eur: 50, gbp: 30, jpy: 50, hkd: 400 };
/** Stripe accepts eight digits for most currencies. */
const LARGEST: Readonly<Record<string, number>> = { usd: 99_999_999, eur: 99_999_999, gbp: 99_999_999 };
/** Stripe accepts at most twelve digits for any currency. */
const LARGEST_OF_ANY = 999_999_999_999;
const HALF_AN_HOUR_S = 30 * 60;
const DAY_S = 24 * 60 * 60;

const KNOWN: Readonly<Record<string, readonly string[]>> = {
  'POST /v1/checkout/sessions': [
    'mode',
    'client_reference_id',
    'metadata',
    'line_items',
    'payment_intent_data',
    'adaptive_pricing',
    'success_url',
    'cancel_url',
    'expires_at',
  ],
  'POST /v1/payment_intents': ['amount', 'currency', 'description', 'metadata'],
  'POST /v1/refunds': ['payment_intent', 'amount', 'metadata'],
};

/** Stripe's API, which reads and changes the double's books. */
export function handleApi(
  books: Books,
  method: string,
  path: string,
  params: Params,
  authorization: string | undefined,
): Answer {
  try {
    const key = authorization?.replace(/^Bearer /, '') ?? '';
    if (!books.secretKeys.has(key)) throw new Refused(`Invalid API Key provided: ${key}`, { status: 401 });
    const allowed = KNOWN[`${method} ${path}`];
    const unknown = Object.keys(params).find((name) => allowed !== undefined && !allowed.includes(name));
    if (unknown !== undefined) {
      throw new Refused(`Received unknown parameter: ${unknown}`, {
        code: 'parameter_unknown',
        param: unknown,
      });
    }
    return json(200, route(books, method, path, params));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    const { message, status, code, param, ran } = error;
    const answer = json(status, {
      error: {
        type: 'invalid_request_error',
        message,
        ...(code === undefined ? {} : { code }),
        ...(param === undefined ? {} : { param }),
      },
    });
    return ran ? answer : { ...answer, neverRan: true };
  }
}

function route(books: Books, method: string, path: string, params: Params): object {
  const expand = Object.values(groupAt(params, 'expand'));
  const [, , ...parts] = path.split('/');
  const resource = parts[0] === 'checkout' ? `${parts[0]}/${parts[1]}` : (parts[0] ?? '');
  const [id, verb] = parts.slice(resource.split('/').length);
  const does = `${method} ${resource}${id === undefined ? '' : ' one'}${verb === undefined ? '' : ` ${verb}`}`;
  switch (does) {
    case 'POST checkout/sessions':
      return createSession(books, params);
    case 'GET checkout/sessions':
      return list(
        params,
        [...books.sessions.values()].filter(
          ({ intent }) => (textAt(params, 'payment_intent') ?? intent) === intent,
        ),
        (session) => books.showSession(session),
      );
    case 'GET checkout/sessions one':
      return books.showSession(need(books.sessionOf(id ?? ''), 'checkout.session', id), expand);
    case 'POST checkout/sessions one expire': {
      const session = need(books.sessionOf(id ?? ''), 'checkout.session', id);
      if (session.status !== 'open') {
        throw new Refused(
          `Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of ${session.status}.`,
        );
      }
      books.expire(session);
      return books.showSession(session, expand);
    }
    case 'POST payment_intents': {
      const amount = amountOf(textAt(params, 'amount'), textAt(params, 'currency'));
      return books.showIntent(
        books.addIntent({
          ...amount,
          description: textAt(params, 'description') ?? null,
          metadata: groupAt(params, 'metadata'),
          session: null,
        }),
      );
    }
    case 'GET payment_intents':
      return list(params, [...books.intents.values()], (intent) => books.showIntent(intent));
    case 'GET payment_intents one':
      return books.showIntent(need(books.intents.get(id ?? ''), 'payment_intent', id), expand);
    case 'POST payment_intents one cancel': {
      const intent = need(books.intents.get(id ?? ''), 'payment_intent', id);
      if (['succeeded', 'canceled', 'processing'].includes(intent.status)) {
        throw new Refused(
          `You cannot cancel this PaymentIntent because it has a status of ${intent.status}.`,
          { code: 'payment_intent_unexpected_state' },
        );
      }
      intent.status = 'canceled';
      books.tell('payment_intent.canceled', books.showIntent(intent));
      return books.showIntent(intent);
    }
    case 'POST payment_intents one confirm': {
      const intent = need(books.intents.get(id ?? ''), 'payment_intent', id);
      books.pay(intent, textAt(params, 'payment_method') === 'pm_card_visa' ? 'paid' : 'declined');
      return books.showIntent(intent);
    }
    case 'POST refunds': {
      const of = textAt(params, 'payment_intent');
      const intent = need(books.intents.get(of ?? ''), 'payment_intent', of);
      if (intent.status !== 'succeeded') {
        throw new Refused(`This PaymentIntent (${intent.id}) does not have a successful charge to refund.`, {
          ran: true,
        });
      }
      const left = intent.amount - books.refundedOf(intent);
      const amount = Number(textAt(params, 'amount') ?? left);
      if (left === 0) {
        throw new Refused(`Charge ${intent.charge?.id} has already been refunded.`, {
          ran: true,
          code: 'charge_already_refunded',
        });
      }
      if (amount > left) {
        throw new Refused(`Refund amount (${amount}) is greater than unrefunded amount on charge (${left})`, {
          ran: true,
          param: 'amount',
        });
      }
      if (books.isPoor) {
        throw new Refused('Insufficient funds in your Stripe balance to refund this amount.', {
          ran: true,
          code: 'balance_insufficient',
        });
      }
      return books.showRefund(books.addRefund(intent, amount, groupAt(params, 'metadata')));
    }
    case 'GET refunds': {
      const refunds = [...books.refunds.values()].filter(
        ({ intent }) => intent === (textAt(params, 'payment_intent') ?? intent),
      );
      return list(params, refunds, (refund) => books.showRefund(refund));
    }
    case 'GET refunds one':
      return books.showRefund(need(books.refunds.get(id ?? ''), 'refund', id));
    case 'GET disputes': {
      const disputes = [...books.disputes.values()].filter(
        ({ intent }) => intent === (textAt(params, 'payment_intent') ?? intent),
      );
      return list(params, disputes, (dispute) => books.showDispute(dispute));
    }
    default:
      throw new Refused(`Unrecognized request URL (${method}: ${path}).`, { status: 404 });
  }
}

function createSession(books: Books, params: Params): object {
  const { amount, currency } = amountOf(
    textAt(params, 'line_items', '0', 'price_data', 'unit_amount'),
    textAt(params, 'line_items', '0', 'price_data', 'currency'),
  );
  const name = textAt(params, 'line_items', '0', 'price_data', 'product_data', 'name') ?? '';
  if (name === '')
    throw new Refused('You passed an empty string for the name', { code: 'parameter_invalid_empty' });
  const expiresAt = Number(textAt(params, 'expires_at') ?? books.now() + DAY_S);
  const life = expiresAt - books.now();
  if (life < HALF_AN_HOUR_S || life > DAY_S) {
    throw new Refused(
      'The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.',
      { param: 'expires_at' },
    );
  }
  const intentData = params.payment_intent_data;
  const session = {
    id: books.newId('cs'),
    amount,
    currency,
    created: books.now(),
    expiresAt,
    clientReferenceId: textAt(params, 'client_reference_id') ?? null,
    metadata: groupAt(params, 'metadata'),
    intentMetadata: typeof intentData === 'object' ? groupAt(intentData, 'metadata') : {},
    name,
    successUrl: textAt(params, 'success_url') ?? '',
    status: 'open' as const,
    intent: null,
  };
  books.sessions.set(session.id, session);
  return books.showSession(session);
}

function amountOf(text: string | undefined, code: string | undefined): { amount: number; currency: string } {
  const amount = Number(text);
  const currency = code ?? '';
  if (!/^\d+$/.test(text ?? '')) {
    throw new Refused(`Invalid integer: ${text}`, { code: 'parameter_invalid_integer', param: 'amount' });
  }
  if (amount < (SMALLEST[currency] ?? 1)) {
    throw new Refused('Amount must convert to at least 50 cents.', {
      code: 'amount_too_small',
      param: 'amount',
    });
  }
  if (amount > (LARGEST[currency] ?? LARGEST_OF_ANY)) {
    throw new Refused('Amount must be no more than 999,999.99', {
      code: 'amount_too_large',
      param: 'amount',
    });
  }
  return { amount, currency };
}

function need<T>(found: T | undefined, object: string, id: string | undefined): T {
  if (found !== undefined) return found;
  throw new Refused(`No such ${object}: '${id}'`, { status: 404, code: 'resource_missing', param: 'id' });
}

/** One page of a list, newest first. */
function list<T extends { readonly id: string; readonly created: number }>(
  params: Params,
  items: readonly T[],
  show: (item: T) => object,
): object {
  const gte = Number(textAt(params, 'created', 'gte') ?? 0);
  const lte = Number(textAt(params, 'created', 'lte') ?? Number.MAX_SAFE_INTEGER);
  const limit = Number(textAt(params, 'limit') ?? 10);
  const all = items.filter(({ created }) => created >= gte && created <= lte).reverse();
  const after = textAt(params, 'starting_after');
  const from = after === undefined ? 0 : all.findIndex(({ id }) => id === after) + 1;
  const data = all.slice(from, from + limit);
  return { object: 'list', data: data.map(show), has_more: from + limit < all.length };
}
