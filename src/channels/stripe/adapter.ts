import type { Stripe } from 'stripe';
import { z } from 'zod';
import {
  type ChannelAccount,
  type ChannelAdapter,
  type ChannelAnswer,
  ChannelError,
  type CloseAnswer,
  type CreatedTrade,
  type Credentials,
  type FoundTrade,
  type KnownRefund,
  type NewTrade,
  type RefundAnswer,
  type Trade,
} from '../../domain/channel.ts';
import { clockSentence } from '../clock.ts';
import { PAGE_AT_MOST_BYTES } from '../exchange.ts';
import { fromStripe, toStripe } from './amounts.ts';
import { peekOutTradeNo, verifyCallback } from './callback.ts';
import { type Operation, refusalIn } from './classify.ts';
import { createStripeClient } from './client.ts';
import { declarationWith, modeOf, SESSION_OUTLIVES_MS } from './declaration.ts';
import {
  type Dispute,
  disputeSchema,
  type Intent,
  intentAnswer,
  intentSchema,
  listOf,
  numberIn,
  PAYMENT_KEY,
  REFUND_KEY,
  type Refund,
  refundAnswer,
  refundSchema,
  type Session,
  sessionAnswer,
  sessionSchema,
  withMoneyBack,
} from './objects.ts';

export interface StripeAdapterOptions {
  /** The base URL of Stripe's API. @default https://api.stripe.com */
  readonly url?: string;
  /** The URL of Stripe.js. @default https://js.stripe.com/v3/ */
  readonly scriptUrl?: string;
}

/** The largest page that Stripe returns. */
const PAGE = 100;
/**
 * The maximum number of pages that one activity has time to read. A longer listing is not read to its end, so nodrop
 * cannot conclude that an item is missing from it.
 */
const PAGES_AT_MOST = 10;
/**
 * The largest clock difference that nodrop accepts between this machine and Stripe. If the difference is larger, nodrop
 * refuses callbacks as too old, and never concludes that Stripe has no such trade.
 */
const CLOCKS_APART_MS = 5 * 60_000;

interface Page {
  readonly limit: number;
  readonly starting_after?: string;
}

const CHARGE = 'latest_charge';

/**
 * Creates the adapter for Stripe, which uses Stripe's library. The adapter supports Checkout Sessions, and payment
 * forms with payment intents.
 */
export function createStripeAdapter(options: StripeAdapterOptions = {}): ChannelAdapter {
  const { url = 'https://api.stripe.com' } = options;
  const client = createStripeClient(url);

  const ask = async <T>(
    account: ChannelAccount,
    operation: Operation,
    schema: z.ZodType<T>,
    request: (stripe: Stripe) => Promise<unknown>,
    signal?: AbortSignal,
  ): Promise<T> => (await client({ account, operation, schema, request, signal })).value;

  /**
   * Reads an object by an id that Stripe has returned before. Stripe never deletes these objects. So if Stripe does not
   * know the id, the object belongs to another account, or to the other mode (test or live).
   * @throws ChannelError `misconfigured`
   */
  async function known<T>(
    account: ChannelAccount,
    id: string,
    schema: z.ZodType<T>,
    request: (stripe: Stripe) => Promise<unknown>,
    signal?: AbortSignal,
  ): Promise<T> {
    try {
      return await ask(account, 'other', schema, request, signal);
    } catch (error) {
      if (refusalIn(error)?.code !== 'resource_missing') throw error;
      throw new ChannelError(
        'misconfigured',
        `stripe does not know its own ${id}: the secret key belongs to another account or mode`,
        { cause: error },
      );
    }
  }

  /**
   * Reads the pages of a listing. Stops at the end of the listing, or after a page with an item that `until` accepts.
   * Also returns the `Date` header of the last page.
   * @throws ChannelError if the listing cannot be read to its end
   */
  async function list<T extends { readonly id: string }>(
    account: ChannelAccount,
    item: z.ZodType<T>,
    request: (stripe: Stripe, page: Page) => Promise<unknown>,
    signal?: AbortSignal,
    until: (item: T) => boolean = () => false,
  ): Promise<{ readonly items: readonly T[]; readonly date: string | null }> {
    const items: T[] = [];
    for (let page = 0; page < PAGES_AT_MOST; page += 1) {
      const last = items.at(-1);
      const from = last === undefined ? {} : { starting_after: last.id };
      const { value, reply } = await client({
        ...{ account, operation: 'other', schema: listOf(item), signal, atMostBytes: PAGE_AT_MOST_BYTES },
        request: (stripe) => request(stripe, { limit: PAGE, ...from }),
      });
      const { data, has_more } = value;
      items.push(...data);
      if (!has_more || data.some(until)) return { items, date: reply.headers.get('date') };
      if (data.length === 0)
        throw new ChannelError('garbage', 'stripe answered with an empty page that is not the last');
    }
    throw new ChannelError(
      'unreachable',
      `stripe lists more than ${PAGE * PAGES_AT_MOST} objects: the listing was not read to its end`,
    );
  }

  const getIntent = (account: ChannelAccount, id: string, signal?: AbortSignal) =>
    known(
      account,
      id,
      intentSchema,
      (stripe) => stripe.paymentIntents.retrieve(id, { expand: [CHARGE] }),
      signal,
    );

  const getSession = (account: ChannelAccount, id: string, signal?: AbortSignal) =>
    known(
      account,
      id,
      sessionSchema,
      (stripe) =>
        stripe.checkout.sessions.retrieve(id, { expand: ['payment_intent', `payment_intent.${CHARGE}`] }),
      signal,
    );

  /** Reads the trade at Stripe. Returns undefined if the trade's id does not have the form of Stripe's ids. */
  async function read(account: ChannelAccount, trade: Trade, signal?: AbortSignal) {
    const id = idOf(trade);
    if (id === undefined) return undefined;
    if (trade.method === 'checkout') {
      const session = ours(await getSession(account, id, signal), trade);
      const intent = intentOf(session);
      return { session, intent, answer: sessionAnswer(session, intent) };
    }
    const intent = ours(await getIntent(account, id, signal), trade);
    return { session: null, intent, answer: intentAnswer(intent) };
  }

  /** Adds the refunds and disputes to the answer if the trade is paid. */
  async function withAll(
    account: ChannelAccount,
    { answer, intent }: { readonly answer: ChannelAnswer; readonly intent: Intent | null },
    signal?: AbortSignal,
  ): Promise<ChannelAnswer> {
    if ((answer.state !== 'paid' && answer.state !== 'refunded') || intent === null) return answer;
    const refunds = await listRefunds(account, intent.id, signal);
    const disputes = isDisputed(intent) ? await listDisputes(account, intent.id, signal) : [];
    return withMoneyBack(answer, refunds, disputes);
  }

  /** Reads an object by an id that may be wrong. Returns undefined if Stripe does not know the id. */
  async function named<T>(object: Promise<T>): Promise<T | undefined> {
    return await object.catch((error: unknown) => {
      if (error instanceof ChannelError && refusalIn(error.cause)?.code === 'resource_missing')
        return undefined;
      throw error;
    });
  }

  /**
   * The id of the Checkout Session that created the payment intent. If this session exists, its id identifies the
   * trade.
   */
  async function sessionOf(account: ChannelAccount, payment_intent: string, signal?: AbortSignal) {
    const request = (stripe: Stripe) => stripe.checkout.sessions.list({ payment_intent, limit: 1 });
    const [found] = (await ask(account, 'other', listOf(anyObject), request, signal)).data;
    return found?.id;
  }

  async function readTrade(
    account: ChannelAccount,
    reference: string,
    signal?: AbortSignal,
  ): Promise<FoundTrade> {
    const unknown: FoundTrade = { reference, answer: { state: 'unknown_trade' } };
    if (reference.startsWith('cs_')) {
      const session = await named(getSession(account, reference, signal));
      if (session === undefined) return unknown;
      const intent = intentOf(session);
      const terms = termsOf(session.amount_total, session.currency);
      const isPayment = session.mode === undefined || session.mode === 'payment';
      return {
        ...{ reference, method: 'checkout', ...terms },
        answer: await withAll(account, { answer: sessionAnswer(session, intent), intent }, signal),
        ...isOurs(session),
        ...(isPayment && terms !== undefined
          ? {}
          : {
              unfit: isPayment
                ? 'The Checkout Session has no amount to pay.'
                : `The Checkout Session is in \`${session.mode}\` mode.`,
            }),
      };
    }
    const intent = await named(getIntent(account, reference, signal));
    if (intent === undefined) return unknown;
    const session = await sessionOf(account, reference, signal);
    if (session !== undefined) return await readTrade(account, session, signal);
    return {
      ...{ reference, method: 'payment_intent', ...termsOf(intent.amount, intent.currency) },
      answer: await withAll(account, { answer: intentAnswer(intent), intent }, signal),
      ...isOurs(intent),
    };
  }

  async function find(account: ChannelAccount, trade: Trade, signal?: AbortSignal) {
    // nodrop sends the create request between the creation and the expiry of the payment. `created` is a time of
    // Stripe's clock, so the search covers a longer period to allow for a clock difference.
    const created = {
      gte: Math.floor((Date.parse(trade.createdAt) - CLOCKS_APART_MS) / 1000),
      lte: Math.ceil((Date.parse(trade.expiresAt) + CLOCKS_APART_MS) / 1000),
    };
    const isOurs = (object: { readonly metadata?: Readonly<Record<string, string>> | null | undefined }) =>
      numberIn(object, PAYMENT_KEY) === trade.outTradeNo;
    const { items, date } =
      trade.method === 'checkout'
        ? await list(
            account,
            sessionSchema,
            (stripe, page) => stripe.checkout.sessions.list({ created, ...page }),
            signal,
            isOurs,
          )
        : await list(
            account,
            intentSchema,
            (stripe, page) => stripe.paymentIntents.list({ created, ...page }),
            signal,
            isOurs,
          );
    const found = items.find(isOurs);
    if (found !== undefined) return { id: found.id };
    checkClock(date);
    return 'absent';
  }

  async function listRefunds(account: ChannelAccount, payment_intent: string, signal?: AbortSignal) {
    const request = (stripe: Stripe, page: Page) => stripe.refunds.list({ payment_intent, ...page });
    return (await list<Refund>(account, refundSchema, request, signal)).items;
  }

  async function listDisputes(account: ChannelAccount, payment_intent: string, signal?: AbortSignal) {
    const request = (stripe: Stripe, page: Page) => stripe.disputes.list({ payment_intent, ...page });
    return (await list<Dispute>(account, disputeSchema, request, signal)).items;
  }

  /** The id of the payment intent that received the money. @throws ChannelError if no payment intent received money */
  async function moneyOf(account: ChannelAccount, trade: Trade, signal?: AbortSignal): Promise<string> {
    const known = trade.channelPaymentId ?? (trade.method === 'checkout' ? undefined : trade.reference?.id);
    if (known !== undefined) return known;
    const found = await read(account, trade, signal);
    if (found?.intent !== undefined && found.intent !== null) return found.intent.id;
    throw new ChannelError('unreachable', `stripe: the payer has not begun to pay ${trade.outTradeNo}`);
  }

  async function findRefund(
    account: ChannelAccount,
    payment: string,
    refund: KnownRefund,
    signal?: AbortSignal,
  ): Promise<RefundAnswer> {
    const found = (await listRefunds(account, payment, signal)).find(
      (listed) => numberIn(listed, REFUND_KEY) === refund.outRefundNo,
    );
    return found === undefined ? { state: 'unknown_refund' } : refundAnswer(found);
  }

  return {
    declaration: declarationWith(options.scriptUrl ?? 'https://js.stripe.com/v3/', url),

    async createTrade(account, trade, signal) {
      if (trade.reference !== null) {
        const found = await read(account, trade, signal);
        if (found?.answer.state !== 'unpaid') return 'not_renewable';
        const { session, intent } = found;
        return session === null ? sdk(account, intent) : redirect(session);
      }
      const key = { idempotencyKey: trade.outTradeNo };
      if (trade.method === 'checkout') {
        const params = sessionParams(trade);
        const session = await ask(
          account,
          'create',
          sessionSchema,
          (stripe) => stripe.checkout.sessions.create(params, key),
          signal,
        );
        return redirect(ours(session, trade));
      }
      // Check this before the trade is created, so that nodrop creates no trade for which it cannot show a form.
      publishableKeyOf(account);
      const params = intentParams(trade);
      const intent = await ask(
        account,
        'create',
        intentSchema,
        (stripe) => stripe.paymentIntents.create(params, key),
        signal,
      );
      return sdk(account, ours(intent, trade));
    },

    findTrade: find,

    async queryTrade(account, trade, signal): Promise<ChannelAnswer> {
      const found = await read(account, trade, signal);
      if (found === undefined) return { state: 'unknown_trade' };
      return await withAll(account, found, signal);
    },

    readTrade,

    async closeTrade(account, trade, signal) {
      const id = idOf(trade);
      if (id === undefined) return { state: 'unknown_trade' };
      // nodrop must not cancel this intent. The payer may already have paid with a voucher in a shop, and Stripe would
      // cancel the intent anyway.
      if (trade.method !== 'checkout') {
        const { state } = intentAnswer(ours(await getIntent(account, id, signal), trade));
        if (state === 'processing') return { state };
      }
      try {
        if (trade.method === 'checkout') {
          const session = await known(
            account,
            id,
            sessionSchema,
            (stripe) => stripe.checkout.sessions.expire(id, { expand: ['payment_intent'] }),
            signal,
          );
          return closeAnswer(sessionAnswer(session, intentOf(session)));
        }
        const intent = await known(
          account,
          id,
          intentSchema,
          (stripe) => stripe.paymentIntents.cancel(id),
          signal,
        );
        return closeAnswer(intentAnswer(intent));
      } catch (error) {
        // Stripe refused to close the trade, because only an open trade can be closed. A query shows the trade's
        // current state.
        const isRefused = error instanceof ChannelError && error.kind === 'unreachable';
        if (!isRefused || refusalIn(error)?.type !== 'invalid_request_error') throw error;
        const found = await read(account, trade, signal);
        if (found === undefined || found.answer.state === 'unpaid') throw error;
        return closeAnswer(found.answer);
      }
    },

    async refundTrade(account, trade, refund, signal) {
      const payment = await moneyOf(account, trade, signal);
      const params = {
        payment_intent: payment,
        amount: toStripe(refund.amount, refund.currency),
        metadata: { [PAYMENT_KEY]: trade.outTradeNo, [REFUND_KEY]: refund.outRefundNo },
      };
      try {
        const made = await ask(
          account,
          'refund',
          refundSchema,
          (stripe) => stripe.refunds.create(params, { idempotencyKey: refund.outRefundNo }),
          signal,
        );
        return refundAnswer(ofNumber(made, refund));
      } catch (error) {
        // An earlier request used this refund number with another amount. So nodrop returns the existing refund.
        if (refusalIn(error)?.type !== 'idempotency_error') throw error;
        const found = await findRefund(account, payment, refund, signal);
        if (found.state === 'unknown_refund') throw error;
        return found;
      }
    },

    async queryRefund(account, trade, refund, signal) {
      const { channelRefundId } = refund;
      const payment = await moneyOf(account, trade, signal);
      if (channelRefundId === null) return await findRefund(account, payment, refund, signal);
      const found = await known(
        account,
        channelRefundId,
        refundSchema,
        (stripe) => stripe.refunds.retrieve(channelRefundId),
        signal,
      );
      return refundAnswer(ofPayment(found, payment));
    },

    verifyCallback,
    peekOutTradeNo,

    async payInSandbox(account, { method, reference }, signal) {
      if (method !== 'payment_intent' || reference === null) return false;
      if (!account.credentials.every((credentials) => modeOf(credentials) === 'test')) {
        throw new ChannelError('misconfigured', 'stripe: only test keys can pay with a test card');
      }
      const { id } = reference;
      // `pm_card_visa` is one of the test cards of https://docs.stripe.com/testing. `return_url` is needed for methods
      // that redirect the payer.
      const card = { payment_method: 'pm_card_visa', return_url: 'https://example.com/' };
      await known(account, id, intentSchema, (stripe) => stripe.paymentIntents.confirm(id, card), signal);
      return true;
    },

    async checkAccount(account, signal) {
      for (const credentials of account.credentials) checkKeys(credentials);
      const asked = [
        ['Checkout Sessions', (stripe: Stripe) => stripe.checkout.sessions.list({ limit: 1 })],
        ['payment intents', (stripe: Stripe) => stripe.paymentIntents.list({ limit: 1 })],
        ['refunds', (stripe: Stripe) => stripe.refunds.list({ limit: 1 })],
        ['disputes', (stripe: Stripe) => stripe.disputes.list({ limit: 1 })],
      ] as const;
      for (const [what, request] of asked) {
        const { reply } = await client({
          account,
          operation: 'other',
          schema: listOf(anyObject),
          request,
          signal,
        }).catch((error: unknown) => {
          if (!(error instanceof ChannelError) || error.kind !== 'misconfigured') throw error;
          const says = `Stripe refuses to list ${what}: ${error.message}`;
          throw new ChannelError('misconfigured', says, { cause: error });
        });
        checkClock(reply.headers.get('date'));
      }
    },
  };
}

/**
 * Stripe's id of the trade. Undefined if the stored reference does not have the form of Stripe's ids, because such a
 * text must not become part of a URL.
 * @throws ChannelError if nodrop has not looked up the trade's id yet
 */
function idOf({ outTradeNo, method, reference }: Trade): string | undefined {
  if (reference === null)
    throw new ChannelError('unreachable', `stripe: the id of ${outTradeNo} is not known yet`);
  const isStripes = (method === 'checkout' ? /^cs_[0-9A-Za-z_]+$/ : /^pi_[0-9A-Za-z_]+$/).test(reference.id);
  return isStripes ? reference.id : undefined;
}

const anyObject = z.object({ id: z.string() });

const isOurs = (object: Session | Intent) =>
  numberIn(object, PAYMENT_KEY) === undefined ? {} : { isOurs: true as const };

/** The amount of a trade at Stripe. Undefined if Stripe reports no amount or 0. */
function termsOf(amount: number | null | undefined, currency: string | null | undefined) {
  if (!amount || !currency) return undefined;
  return { terms: fromStripe(amount, currency) };
}

/**
 * Returns the object if it belongs to the trade. It belongs to the trade if its metadata has the payment's id, or if
 * the trade is adopted and has the object's id.
 * @throws ChannelError `garbage`
 */
function ours<T extends Session | Intent>(object: T, trade: Trade): T {
  const isTrades = trade.isAdopted
    ? object.id === trade.reference?.id
    : numberIn(object, PAYMENT_KEY) === trade.outTradeNo;
  if (isTrades) return object;
  throw new ChannelError(
    'garbage',
    `stripe answered with ${object.id}, which does not belong to ${trade.outTradeNo}`,
  );
}

/**
 * Returns the refund if it has nodrop's refund number.
 * @throws ChannelError `garbage` if the refund has another number
 */
function ofNumber(refund: Refund, { outRefundNo }: KnownRefund): Refund {
  if (numberIn(refund, REFUND_KEY) === outRefundNo) return refund;
  throw new ChannelError(
    'garbage',
    `stripe answered with ${refund.id}, which is not the refund ${outRefundNo}`,
  );
}

/**
 * Returns the refund if it belongs to this payment intent. The function does not check the refund's number, because a
 * refund can get a new idempotency key, and the merchant can edit the metadata in Stripe's dashboard.
 * @throws ChannelError `garbage`
 */
function ofPayment(refund: Refund, payment: string): Refund {
  if (refund.payment_intent === payment) return refund;
  throw new ChannelError('garbage', `stripe answered with ${refund.id}, which is not a refund of ${payment}`);
}

/**
 * Returns the payment intent of a Checkout Session. Null until the payer begins to pay.
 * @throws ChannelError `garbage` if Stripe did not expand the intent in its answer
 */
function intentOf({ id, payment_intent }: Session): Intent | null {
  if (payment_intent === null || payment_intent === undefined) return null;
  if (typeof payment_intent === 'object') return payment_intent;
  throw new ChannelError('garbage', `stripe answered with ${id} without its payment intent`);
}

const isDisputed = ({ latest_charge }: Intent): boolean =>
  typeof latest_charge === 'object' && latest_charge?.disputed === true;

/**
 * These parameters are built only from the payment's row, because Stripe refuses a repeated idempotency key with other
 * parameters.
 */
const sessionParams = (trade: NewTrade): Stripe.Checkout.SessionCreateParams => ({
  mode: 'payment',
  client_reference_id: trade.outTradeNo,
  metadata: { [PAYMENT_KEY]: trade.outTradeNo },
  line_items: [
    {
      quantity: 1,
      price_data: {
        currency: trade.currency.toLowerCase(),
        unit_amount: toStripe(trade.amount, trade.currency),
        product_data: { name: trade.subject },
      },
    },
  ],
  payment_intent_data: { description: trade.subject, metadata: { [PAYMENT_KEY]: trade.outTradeNo } },
  // Without this setting, Stripe could convert the amount to another currency. Payments and refunds must be in the
  // order's currency.
  adaptive_pricing: { enabled: false },
  success_url: trade.returnUrl,
  cancel_url: trade.returnUrl,
  expires_at: Math.floor((Date.parse(trade.expiresAt) + SESSION_OUTLIVES_MS) / 1000),
});

const intentParams = (trade: NewTrade): Stripe.PaymentIntentCreateParams => ({
  amount: toStripe(trade.amount, trade.currency),
  currency: trade.currency.toLowerCase(),
  description: trade.subject,
  metadata: { [PAYMENT_KEY]: trade.outTradeNo },
});

/** nodrop returns no expiry for the payment page, because the Checkout Session expires later than the payment. */
function redirect({ id, url }: Session): CreatedTrade {
  if (url === null || url === undefined)
    throw new ChannelError('garbage', `stripe answered with ${id} without its payment page`);
  return { action: { type: 'redirect', url }, reference: { id } };
}

function sdk(account: ChannelAccount, { id, client_secret }: Intent): CreatedTrade {
  if (client_secret === null || client_secret === undefined) {
    throw new ChannelError('garbage', `stripe answered with ${id} without its client secret`);
  }
  const params = { client_secret, publishable_key: publishableKeyOf(account) };
  return { action: { type: 'sdk', params }, reference: { id } };
}

function publishableKeyOf({ id, credentials: [credentials] }: ChannelAccount): string {
  if (credentials?.publishable_key !== undefined) return credentials.publishable_key;
  throw new ChannelError(
    'misconfigured',
    `stripe: account ${id} has no publishable_key, which the method payment_intent needs`,
  );
}

/** @throws ChannelError if the trade is still unpaid although Stripe has confirmed the close */
function closeAnswer(answer: ChannelAnswer): CloseAnswer {
  switch (answer.state) {
    case 'paid':
    case 'refunded':
      return { state: 'already_paid' };
    case 'closed':
    case 'failed':
      return { state: 'closed' };
    case 'processing':
    case 'unknown_trade':
      return { state: answer.state };
    case 'unpaid':
      throw new ChannelError('garbage', 'stripe confirmed the close, but the trade can still be paid');
  }
}

function checkKeys(credentials: Credentials): void {
  const { publishable_key } = credentials;
  if (publishable_key === undefined) return;
  const mode = modeOf(credentials);
  if (publishable_key.startsWith(`pk_${mode}_`)) return;
  throw new ChannelError(
    'misconfigured',
    `The secret key is for ${mode} mode and the publishable key is not: use two keys of the same mode.`,
  );
}

/**
 * If the clock of this machine is wrong, nodrop refuses all callbacks as too old, and the listing of a period can miss
 * the trade.
 */
function checkClock(date: string | null): void {
  const sentence = clockSentence(date, Date.now(), CLOCKS_APART_MS);
  if (sentence !== '')
    throw new ChannelError('misconfigured', `${sentence} Callbacks are refused until then.`);
}
