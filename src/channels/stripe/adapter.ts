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
  type KnownRefund,
  type NewTrade,
  type RefundAnswer,
  type Trade,
} from '../../domain/channel.ts';
import { toStripe } from './amounts.ts';
import { peekOutTradeNo, verifyCallback } from './callback.ts';
import { type Operation, refusalIn } from './classify.ts';
import { createStripeClient } from './client.ts';
import { declaration, modeOf, SESSION_OUTLIVES_MS } from './declaration.ts';
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
  /** Where Stripe's API is. @default https://api.stripe.com */
  readonly url?: string;
}

/** As many as Stripe gives at once. */
const PAGE = 100;
/** A listing beyond this is not read to its end, and so says nothing of what is missing in it. */
const PAGES_AT_MOST = 100;
/** How far Stripe's clock and ours may be apart, and a create be under way after the payment's end. */
const CLOCKS_APART_MS = 5 * 60_000;

const CHARGE = 'latest_charge';

/** Stripe by its library: Checkout Sessions, and payment intents for pages of one's own. */
export function createStripeAdapter(options: StripeAdapterOptions = {}): ChannelAdapter {
  const client = createStripeClient(options.url ?? 'https://api.stripe.com');

  const ask = async <T>(
    account: ChannelAccount,
    operation: Operation,
    schema: z.ZodType<T>,
    request: (stripe: Stripe) => Promise<unknown>,
    signal?: AbortSignal,
  ): Promise<T> => (await client({ account, operation, schema, request, signal })).value;

  /**
   * An object that Stripe has given us the id of. Stripe deletes none of them: one that it does not know is another
   * account's, or of the other mode.
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
        `stripe does not know its own ${id}: the secret key is of another account or mode`,
        { cause: error },
      );
    }
  }

  /** All pages, or as many as `until` wants. @throws ChannelError when the listing cannot be read to its end */
  async function list<T extends { readonly id: string }>(
    account: ChannelAccount,
    item: z.ZodType<T>,
    request: (stripe: Stripe, page: { limit: number; starting_after?: string }) => Promise<unknown>,
    signal?: AbortSignal,
    until: (item: T) => boolean = () => false,
  ): Promise<readonly T[]> {
    const items: T[] = [];
    for (let page = 0; page < PAGES_AT_MOST; page += 1) {
      const last = items.at(-1);
      const from = last === undefined ? {} : { starting_after: last.id };
      const { data, has_more } = await ask(
        account,
        'other',
        listOf(item),
        (stripe) => request(stripe, { limit: PAGE, ...from }),
        signal,
      );
      items.push(...data);
      if (!has_more || data.some(until)) return items;
      if (data.length === 0) throw new ChannelError('garbage', 'stripe gave an empty page with more to come');
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

  /** The trade at Stripe; undefined when there is none. */
  async function read(account: ChannelAccount, trade: Trade, signal?: AbortSignal) {
    const reference = trade.reference ?? (await find(account, trade, signal));
    if (reference === 'absent' || !isId(reference.id, trade)) return undefined;
    if (trade.method === 'checkout') {
      const session = ours(await getSession(account, reference.id, signal), trade);
      const intent = intentOf(session);
      return { session, intent, answer: sessionAnswer(session, intent) };
    }
    const intent = ours(await getIntent(account, reference.id, signal), trade);
    return { session: null, intent, answer: intentAnswer(intent) };
  }

  async function find(account: ChannelAccount, trade: Trade, signal?: AbortSignal) {
    // No trade is created after its payment's end; an object cannot be older than the payment.
    const created = {
      gte: Math.floor((Date.parse(trade.createdAt) - CLOCKS_APART_MS) / 1000),
      lte: Math.ceil((Date.parse(trade.expiresAt) + CLOCKS_APART_MS) / 1000),
    };
    const isOurs = (object: { readonly metadata?: Readonly<Record<string, string>> | null | undefined }) =>
      numberIn(object, PAYMENT_KEY) === trade.outTradeNo;
    const listed =
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
    const found = listed.find(isOurs);
    return found === undefined ? 'absent' : { id: found.id };
  }

  const listRefunds = (account: ChannelAccount, payment_intent: string, signal?: AbortSignal) =>
    list<Refund>(
      account,
      refundSchema,
      (stripe, page) => stripe.refunds.list({ payment_intent, ...page }),
      signal,
    );

  const listDisputes = (account: ChannelAccount, payment_intent: string, signal?: AbortSignal) =>
    list<Dispute>(
      account,
      disputeSchema,
      (stripe, page) => stripe.disputes.list({ payment_intent, ...page }),
      signal,
    );

  /** The payment intent that took the money. @throws ChannelError when none has */
  async function moneyOf(account: ChannelAccount, trade: Trade, signal?: AbortSignal): Promise<string> {
    if (trade.method !== 'checkout' && trade.reference !== null) return trade.reference.id;
    const found = await read(account, trade, signal);
    if (found?.intent !== undefined && found.intent !== null) return found.intent.id;
    throw new ChannelError('unreachable', `stripe: nobody has begun to pay ${trade.outTradeNo}`);
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
    declaration,

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
      // Before there is a trade that no page could be made for.
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
      const { answer, intent } = found;
      if ((answer.state !== 'paid' && answer.state !== 'refunded') || intent === null) return answer;
      const refunds = await listRefunds(account, intent.id, signal);
      const disputes = isDisputed(intent) ? await listDisputes(account, intent.id, signal) : [];
      return withMoneyBack(answer, refunds, disputes);
    },

    async closeTrade(account, trade, signal) {
      const reference = trade.reference ?? (await find(account, trade, signal));
      if (reference === 'absent' || !isId(reference.id, trade)) return { state: 'unknown_trade' };
      const { id } = reference;
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
        // A refusal: what is not open any more cannot be closed. What it is instead, Stripe tells when it is asked.
        const isRefused = error instanceof ChannelError && error.kind === 'unreachable';
        if (!isRefused || refusalIn(error)?.type !== 'invalid_request_error') throw error;
        const found = await read(account, { ...trade, reference }, signal);
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
        return refundAnswer(oursOf(made, refund));
      } catch (error) {
        // A refusal can be about the refund that has our number: of another amount, or from before its key was pruned.
        const isConflict = refusalIn(error)?.type === 'idempotency_error';
        if (!(error instanceof ChannelError) || (error.kind !== 'rejected' && !isConflict)) throw error;
        const found = await findRefund(account, payment, refund, signal);
        if (found.state === 'unknown_refund') throw error;
        return found;
      }
    },

    async queryRefund(account, trade, refund, signal) {
      const { channelRefundId } = refund;
      if (channelRefundId === null) {
        return await findRefund(account, await moneyOf(account, trade, signal), refund, signal);
      }
      const found = await known(
        account,
        channelRefundId,
        refundSchema,
        (stripe) => stripe.refunds.retrieve(channelRefundId),
        signal,
      );
      return refundAnswer(oursOf(found, refund));
    },

    verifyCallback,
    peekOutTradeNo,

    async payInSandbox(account, { method, reference }, signal) {
      if (method !== 'payment_intent' || reference === null) return false;
      if (!account.credentials.every((credentials) => modeOf(credentials) === 'test')) {
        throw new ChannelError('misconfigured', 'stripe: only keys for tests pay with a test card');
      }
      const { id } = reference;
      // Of https://docs.stripe.com/testing; the address is for methods that lead the payer elsewhere.
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
          const says = `Stripe does not list ${what}: ${error.message}`;
          throw new ChannelError('misconfigured', says, { cause: error });
        });
        checkClock(reply.headers.get('date'));
      }
    },
  };
}

/** False for what Stripe never gave: it is put into no address. */
const isId = (id: string, { method }: Trade): boolean =>
  (method === 'checkout' ? /^cs_[0-9A-Za-z_]+$/ : /^pi_[0-9A-Za-z_]+$/).test(id);

const anyObject = z.object({ id: z.string() });

/** The object, if it is the trade's: its metadata has our number. @throws ChannelError `garbage` */
function ours<T extends Session | Intent>(object: T, trade: Trade): T {
  if (numberIn(object, PAYMENT_KEY) === trade.outTradeNo) return object;
  throw new ChannelError('garbage', `stripe gave ${object.id}, which is not of ${trade.outTradeNo}`);
}

/** The refund, if it has our number. @throws ChannelError `garbage` */
function oursOf(refund: Refund, { outRefundNo }: KnownRefund): Refund {
  if (numberIn(refund, REFUND_KEY) === outRefundNo) return refund;
  throw new ChannelError('garbage', `stripe gave ${refund.id}, which is not the refund ${outRefundNo}`);
}

/** The session's payment intent; null before the payer has begun. @throws ChannelError `garbage` where it is not expanded */
function intentOf({ id, payment_intent }: Session): Intent | null {
  if (payment_intent === null || payment_intent === undefined) return null;
  if (typeof payment_intent === 'object') return payment_intent;
  throw new ChannelError('garbage', `stripe gave ${id} without its payment intent`);
}

const isDisputed = ({ latest_charge }: Intent): boolean =>
  typeof latest_charge === 'object' && latest_charge?.disputed === true;

/** The parameters, from the payment's row alone: under one key, others than the first time are refused. */
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
  // What is paid is in the order's currency, and so is what goes back.
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

/** The session outlives the payment, so the page lives as long as the payment. */
function redirect({ id, url }: Session): CreatedTrade {
  if (url === null || url === undefined)
    throw new ChannelError('garbage', `stripe gave ${id} without its page`);
  return { action: { type: 'redirect', url }, reference: { id } };
}

function sdk(account: ChannelAccount, { id, client_secret }: Intent): CreatedTrade {
  if (client_secret === null || client_secret === undefined) {
    throw new ChannelError('garbage', `stripe gave ${id} without its client secret`);
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

/** @throws ChannelError when it is still to be paid: then it was not closed, and nothing else either */
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
      throw new ChannelError('garbage', 'stripe closed what can still be paid');
  }
}

function checkKeys(credentials: Credentials): void {
  const { publishable_key } = credentials;
  if (publishable_key === undefined) return;
  const mode = modeOf(credentials);
  if (publishable_key.startsWith(`pk_${mode}_`)) return;
  throw new ChannelError(
    'misconfigured',
    `The secret key is of ${mode} mode, and the publishable key is not: use two of the same mode.`,
  );
}

/** A callback is refused by its age: a clock that is off refuses all. */
function checkClock(date: string | null): void {
  const apart = Date.now() - Date.parse(date ?? '');
  if (Number.isNaN(apart) || Math.abs(apart) <= CLOCKS_APART_MS) return;
  const seconds = Math.round(Math.abs(apart) / 1000);
  throw new ChannelError(
    'misconfigured',
    `The clock of this machine is ${seconds} s ${apart > 0 ? 'ahead of' : 'behind'} that of Stripe: set it, or callbacks are refused.`,
  );
}
