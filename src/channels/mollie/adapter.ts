import { z } from 'zod';
import {
  CallbackError,
  type ChannelAdapter,
  type ChannelAnswer,
  ChannelError,
  type CloseAnswer,
  type CreatedTrade,
  type FoundTrade,
  type KnownRefund,
  type NewTrade,
  type RefundAnswer,
  type Trade,
} from '../../domain/channel.ts';
import { toDecimal } from '../../domain/money.ts';
import { clockSentence } from '../clock.ts';
import { PAGE_AT_MOST_BYTES } from '../exchange.ts';
import { isUnknown, refusalIn } from './classify.ts';
import { createMollieClient, type MollieRequest, type Session } from './client.ts';
import { CHECKOUT, declaration, modeOf } from './declaration.ts';
import {
  amountOf,
  type Chargeback,
  chargebackSchema,
  type ListedPayment,
  listedPaymentSchema,
  numberIn,
  PAYMENT_ID,
  PAYMENT_KEY,
  type Payment,
  pageOf,
  paymentAnswer,
  paymentSchema,
  REFUND_KEY,
  type Refund,
  refundAnswer,
  refundSchema,
  withMoneyBack,
} from './objects.ts';

export interface MollieAdapterOptions {
  /** The base URL of Mollie's API, without a path. @default https://api.mollie.com */
  readonly url?: string;
  /** @default fetch with the connect timeout */
  readonly fetch?: typeof fetch;
}

/** The largest page that Mollie returns: https://docs.mollie.com/reference/pagination. */
const PAGE = 250;
/**
 * The maximum number of pages that one activity has time to read. A longer listing is not read to its end, so nodrop
 * cannot conclude that an item is missing from it.
 */
const PAGES_AT_MOST = 10;
/**
 * nodrop searches for a trade at Mollie by its creation time. The search allows this difference between nodrop's clock
 * and Mollie's clock.
 */
const CLOCKS_APART_MS = 5 * 60_000;

/**
 * Creates the adapter for Mollie, which calls Mollie's REST API directly. nodrop does not use Mollie's own library,
 * because that library accepts only https URLs and has no advantage over Node's fetch.
 */
export function createMollieAdapter({
  url = 'https://api.mollie.com',
  fetch,
}: MollieAdapterOptions = {}): ChannelAdapter {
  const within = createMollieClient(url, fetch);
  const isHere = isLoopback(url);

  /**
   * Returns the trade at Mollie, or undefined if Mollie does not know the trade.
   * @throws ChannelError `garbage` if Mollie answers with another payment, or with a payment of the other mode (test or
   *   live)
   */
  async function read(session: Session, trade: Trade): Promise<Payment | undefined> {
    const id = idOf(trade);
    return id === undefined ? undefined : ours(await getPayment(session, id), session, trade);
  }

  async function query(session: Session, trade: Trade): Promise<ChannelAnswer> {
    const payment = await read(session, trade);
    return payment === undefined ? { state: 'unknown_trade' } : await withAll(session, payment);
  }

  /** Mollie's state of the payment, including its refunds and chargebacks. */
  async function withAll(session: Session, payment: Payment): Promise<ChannelAnswer> {
    const answer = paymentAnswer(payment);
    if (answer.state !== 'paid' && answer.state !== 'refunded') return answer;
    const refunds = await listRefunds(session, payment.id);
    return withMoneyBack(answer, refunds, await listChargebacks(session, payment.id));
  }

  return {
    declaration,

    async createTrade(account, trade, signal) {
      return await within(account, signal, async (session) => {
        if (trade.reference !== null) {
          const found = await read(session, trade);
          return found?.status === 'open' ? redirect(found) : 'not_renewable';
        }
        const { outTradeNo: key } = trade;
        const content = termsOf(trade, isHere);
        const { value } = await session.ask(
          { method: 'POST', path: '/v2/payments', content, key, operation: 'create' },
          paymentSchema,
        );
        if (numberIn(value, PAYMENT_KEY) !== key)
          throw new ChannelError(
            'garbage',
            `mollie answered with ${value.id}, which does not belong to ${key}`,
          );
        return redirect(ours(value, session, trade));
      });
    },

    async findTrade(account, trade, signal) {
      return await within(account, signal, async (session) => {
        const since = Date.parse(trade.createdAt) - CLOCKS_APART_MS;
        const isOurs = (payment: ListedPayment) => numberIn(payment, PAYMENT_KEY) === trade.outTradeNo;
        // Mollie lists the newest payments first, and nodrop creates a trade only after it has stored the payment's
        // row. So the search ends at the first payment that is older than the row.
        const isBefore = ({ createdAt }: ListedPayment) => Date.parse(createdAt) < since;
        const { items, date } = await list(
          session,
          '/v2/payments',
          'payments',
          listedPaymentSchema,
          (payment) => isOurs(payment) || isBefore(payment),
        );
        const found = items.find(isOurs);
        if (found !== undefined) return { id: ours(found, session, trade).id };
        checkClock(date);
        return 'absent';
      });
    },

    async queryTrade(account, trade, signal) {
      return await within(account, signal, (session) => query(session, trade));
    },

    async readTrade(account, reference, signal) {
      return await within(account, signal, async (session): Promise<FoundTrade> => {
        const payment = await lookUp(session, reference);
        if (payment === undefined) return { reference, answer: { state: 'unknown_trade' } };
        return {
          reference,
          terms: amountOf(payment.amount),
          answer: await withAll(session, ofMode(payment, session)),
          ...(numberIn(payment, PAYMENT_KEY) === undefined ? {} : { isOurs: true as const }),
        };
      });
    },

    async closeTrade(account, trade, signal) {
      return await within(account, signal, async (session): Promise<CloseAnswer> => {
        const payment = await read(session, trade);
        if (payment === undefined) return { state: 'unknown_trade' };
        if (payment.status !== 'open' || payment.isCancelable !== true) return closeAnswer(payment);
        try {
          const { value } = await session.ask(
            { method: 'DELETE', path: `/v2/payments/${payment.id}`, operation: 'other' },
            paymentSchema,
          );
          return closeAnswer(ours(value, session, trade));
        } catch (error) {
          // Mollie refused to cancel the payment, because only an open payment can be cancelled. A query shows the
          // payment's current state.
          if (refusalIn(error)?.status !== 422) throw error;
          const found = await getPayment(session, payment.id);
          if (found.status === 'open' && found.isCancelable === true) throw error;
          return closeAnswer(ours(found, session, trade));
        }
      });
    },

    async refundTrade(account, trade, refund, signal) {
      return await within(account, signal, async (session): Promise<RefundAnswer> => {
        const payment = moneyOf(trade);
        const { outRefundNo: key, amount, currency } = refund;
        const content = {
          amount: { currency, value: toDecimal(amount, currency) },
          metadata: { [PAYMENT_KEY]: trade.outTradeNo, [REFUND_KEY]: key },
        };
        const path = `/v2/payments/${payment}/refunds`;
        try {
          const asked = { method: 'POST', path, content, key, operation: 'refund' } as const;
          const { value } = await known(session, payment, asked, refundSchema);
          return refundAnswer(ofNumber(value, refund), trade.currency);
        } catch (error) {
          // Mollie refuses this request if an earlier request used the refund number with another amount, or if the
          // refund with this number has already returned the money. In both cases, nodrop returns the existing refund.
          const status = refusalIn(error)?.status;
          if (status !== 400 && status !== 409 && status !== 422) throw error;
          const found = await findRefund(session, payment, trade, refund);
          if (found.state === 'unknown_refund') throw error;
          return found;
        }
      });
    },

    async queryRefund(account, trade, refund, signal) {
      return await within(account, signal, async (session) => {
        const payment = moneyOf(trade);
        const { channelRefundId } = refund;
        if (channelRefundId === null) return await findRefund(session, payment, trade, refund);
        const path = `/v2/payments/${payment}/refunds/${encodeURIComponent(channelRefundId)}`;
        const asked = { method: 'GET', path, operation: 'other' } as const;
        const { value } = await known(session, channelRefundId, asked, refundSchema);
        if (value.id === channelRefundId && value.paymentId === payment)
          return refundAnswer(value, trade.currency);
        throw new ChannelError(
          'garbage',
          `mollie answered with ${value.id} instead of ${channelRefundId} of ${payment}`,
        );
      });
    },

    async verifyCallback(_account, { rawBody }) {
      const id = idIn(rawBody);
      // Mollie does not sign the callback, so the callback is only a notice. nodrop queries Mollie to learn what has
      // changed.
      if (id !== undefined) return { kind: 'notice', notificationId: id, about: { reference: id } };
      throw new CallbackError('malformed', 'the body names no Mollie payment');
    },

    // Only the callback's URL contains the payment's id. The body does not contain it.
    peekOutTradeNo: () => undefined,

    async checkAccount(account, signal) {
      await within(account, signal, async (session) => {
        const { value, reply } = await session.ask(
          { method: 'GET', path: '/v2/methods', operation: 'other' },
          z.object({ count: z.int() }),
        );
        checkClock(reply.headers.get('date'));
        if (value.count > 0) return;
        throw new ChannelError(
          'misconfigured',
          'No payment method is enabled for the website profile of this API key: enable one at Mollie.',
        );
      });
    },
  };
}

/**
 * The terms of a trade, built only from the payment's row and the deployment's URLs. The terms must not change, because
 * Mollie refuses a repeated idempotency key with other terms.
 */
function termsOf(trade: NewTrade, isMollieHere: boolean): object {
  const { outTradeNo, method, amount, currency, subject, returnUrl, notifyUrl } = trade;
  return {
    amount: { currency, value: toDecimal(amount, currency) },
    description: subject,
    redirectUrl: returnUrl,
    // Mollie refuses a webhook URL with a loopback address, so nodrop sends no webhook URL in that case. Without a
    // webhook, nodrop queries Mollie on schedule.
    ...(isMollieHere || !isLoopback(notifyUrl) ? { webhookUrl: notifyUrl } : {}),
    metadata: { [PAYMENT_KEY]: outTradeNo },
    ...(method === CHECKOUT ? {} : { method }),
  };
}

function isLoopback(url: string): boolean {
  const { hostname } = new URL(url);
  return /^(localhost|.*\.localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(hostname);
}

/**
 * Mollie's id of the trade. Undefined if the stored reference does not have the form of Mollie's ids, because such a
 * text must not become part of a URL.
 * @throws ChannelError if nodrop has not looked up the trade's id yet
 */
function idOf({ outTradeNo, reference }: Trade): string | undefined {
  if (reference === null)
    throw new ChannelError('unreachable', `mollie: the id of ${outTradeNo} is not known yet`);
  return PAYMENT_ID.test(reference.id) ? reference.id : undefined;
}

/**
 * The id of the payment at Mollie that received the money.
 * @throws ChannelError if the trade has no payment at Mollie
 */
function moneyOf(trade: Trade): string {
  const id = idOf(trade);
  if (id !== undefined) return id;
  throw new ChannelError('unreachable', `mollie: ${trade.outTradeNo} has no payment at Mollie`);
}

/** The pattern of the payment id that Mollie's webhook sends: https://docs.mollie.com/reference/webhooks. */
function idIn(rawBody: Buffer): string | undefined {
  const [id, ...more] = new URLSearchParams(rawBody.toString('utf8')).getAll('id');
  return id !== undefined && more.length === 0 && PAYMENT_ID.test(id) ? id : undefined;
}

/**
 * Requests an object by an id that Mollie has returned before. Mollie never deletes objects. So if Mollie does not know
 * the id, the object belongs to another website profile, or to the other mode (test or live).
 * @throws ChannelError `misconfigured`
 */
async function known<T>(session: Session, id: string, request: MollieRequest, schema: z.ZodType<T>) {
  try {
    return await session.ask(request, schema);
  } catch (error) {
    if (!isUnknown(error, id)) throw error;
    throw new ChannelError(
      'misconfigured',
      `mollie does not know its own ${id}: the API key belongs to another website profile or mode`,
      { cause: error },
    );
  }
}

async function getPayment(session: Session, id: string): Promise<Payment> {
  return withId((await known(session, id, paymentRequest(id), paymentSchema)).value, id);
}

/** Requests a payment by an id that Mollie may not know. Returns undefined if Mollie does not know the id. */
async function lookUp(session: Session, id: string): Promise<Payment | undefined> {
  try {
    return withId((await session.ask(paymentRequest(id), paymentSchema)).value, id);
  } catch (error) {
    if (isUnknown(error, id)) return undefined;
    throw error;
  }
}

const paymentRequest = (id: string) =>
  ({ method: 'GET', path: `/v2/payments/${id}`, operation: 'other' }) as const;

/** @throws ChannelError `garbage` if the answer is about another payment */
function withId(payment: Payment, id: string): Payment {
  if (payment.id === id) return payment;
  throw new ChannelError('garbage', `mollie answered with ${payment.id} instead of ${id}`);
}

/**
 * Returns the payment if it belongs to the trade and has the mode (test or live) of the API key. A payment with the
 * number of another trade is rejected. A payment without a nodrop number was created by other code, and only its id
 * identifies it.
 * @throws ChannelError `garbage`
 */
function ours<T extends ListedPayment>(payment: T, session: Session, { outTradeNo }: Trade): T {
  const no = numberIn(payment, PAYMENT_KEY);
  if (no !== undefined && no !== outTradeNo)
    throw new ChannelError(
      'garbage',
      `mollie answered with ${payment.id}, which does not belong to ${outTradeNo}`,
    );
  return ofMode(payment, session);
}

/** @throws ChannelError `garbage` if the payment's mode (test or live) differs from the API key's mode */
function ofMode<T extends ListedPayment>(payment: T, { credentials }: Session): T {
  if (payment.mode === modeOf(credentials)) return payment;
  throw new ChannelError('garbage', `mollie answered with ${payment.id}, which is in ${payment.mode} mode`);
}

/**
 * Returns the refund if it has nodrop's refund number.
 * @throws ChannelError `garbage` if the refund has another number
 */
function ofNumber(refund: Refund, { outRefundNo }: KnownRefund): Refund {
  if (numberIn(refund, REFUND_KEY) === outRefundNo) return refund;
  throw new ChannelError(
    'garbage',
    `mollie answered with ${refund.id}, which is not the refund ${outRefundNo}`,
  );
}

function redirect({ id, _links: { checkout } }: Payment): CreatedTrade {
  if (checkout === null || checkout === undefined)
    throw new ChannelError('garbage', `mollie answered with ${id} without its checkout page`);
  return { action: { type: 'redirect', url: checkout.href }, reference: { id } };
}

/**
 * Returns the answer to a close request, based on the payment's state. Mollie cannot cancel most open payments. They
 * expire, and Mollie reports when.
 * @throws ChannelError if a payment is open and Mollie reports no expiry
 */
function closeAnswer(payment: Payment): CloseAnswer {
  const { state } = paymentAnswer(payment);
  switch (state) {
    case 'paid':
    case 'refunded':
      return { state: 'already_paid' };
    case 'closed':
    case 'failed':
      return { state: 'closed' };
    case 'processing':
    case 'unknown_trade':
      return { state };
    case 'unpaid':
      if (payment.isCancelable !== true && typeof payment.expiresAt === 'string')
        return { state: 'not_yet', until: new Date(payment.expiresAt).toISOString() };
      throw new ChannelError('garbage', `mollie does not say when ${payment.id} expires`);
  }
}

/**
 * Reads the pages of a listing. Stops at the end of the listing, or after a page with an item that `until` accepts.
 * Also returns the `Date` header of the last page.
 * @throws ChannelError if the listing cannot be read to its end
 */
async function list<T>(
  session: Session,
  path: string,
  name: string,
  item: z.ZodType<T>,
  until: (item: T) => boolean = () => false,
): Promise<{ readonly items: readonly T[]; readonly date: string | null }> {
  const items: T[] = [];
  let from: string | null = null;
  for (let page = 0; page < PAGES_AT_MOST; page += 1) {
    const start: string = from === null ? '' : `&from=${encodeURIComponent(from)}`;
    const { value, reply } = await session.ask(
      {
        ...{ method: 'GET', path: `${path}?limit=${PAGE}${start}`, operation: 'other' },
        atMostBytes: PAGE_AT_MOST_BYTES,
      },
      pageOf(name, item),
    );
    items.push(...value.items);
    from = value.from;
    if (from === null || value.items.some(until)) return { items, date: reply.headers.get('date') };
  }
  throw new ChannelError(
    'unreachable',
    `mollie lists more than ${PAGE * PAGES_AT_MOST} ${name}: the listing was not read to its end`,
  );
}

async function listRefunds(session: Session, payment: string): Promise<readonly Refund[]> {
  const { items } = await list(session, `/v2/payments/${payment}/refunds`, 'refunds', refundSchema);
  return ofPayment(items, payment);
}

async function listChargebacks(session: Session, payment: string): Promise<readonly Chargeback[]> {
  const path = `/v2/payments/${payment}/chargebacks`;
  const { items } = await list(session, path, 'chargebacks', chargebackSchema);
  return ofPayment(items, payment);
}

/** @throws ChannelError `garbage` if an item of the listing belongs to another payment */
function ofPayment<T extends { readonly id: string; readonly paymentId: string }>(
  items: readonly T[],
  payment: string,
): readonly T[] {
  const other = items.find(({ paymentId }) => paymentId !== payment);
  if (other === undefined) return items;
  throw new ChannelError('garbage', `mollie answered with ${other.id}, which does not belong to ${payment}`);
}

async function findRefund(
  session: Session,
  payment: string,
  { currency }: Pick<Trade, 'currency'>,
  refund: KnownRefund,
): Promise<RefundAnswer> {
  const found = (await listRefunds(session, payment)).find(
    (listed) => numberIn(listed, REFUND_KEY) === refund.outRefundNo,
  );
  return found === undefined ? { state: 'unknown_refund' } : refundAnswer(found, currency);
}

/**
 * nodrop searches for a trade at Mollie by its creation time. With a wrong clock on this machine, the search may end
 * before it reaches the trade.
 */
function checkClock(date: string | null): void {
  const said = clockSentence(date, Date.now());
  if (said !== '') throw new ChannelError('misconfigured', said);
}
