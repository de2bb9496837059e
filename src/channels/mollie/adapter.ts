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
  /** Where Mollie's API is, without a path. @default https://api.mollie.com */
  readonly url?: string;
  /** @default fetch with the connect timeout */
  readonly fetch?: typeof fetch;
}

/** As many as Mollie gives at once: https://docs.mollie.com/reference/pagination. */
const PAGE = 250;
/** As many as an activity has the time for. A listing beyond this is not read to its end, and so says nothing of what is missing in it. */
const PAGES_AT_MOST = 10;
/** How far the clocks may be apart where a trade is looked for by its time. */
const CLOCKS_APART_MS = 5 * 60_000;

/** Mollie by its REST API. Its library takes no other address than https, and does no more than Node's fetch. */
export function createMollieAdapter({
  url = 'https://api.mollie.com',
  fetch,
}: MollieAdapterOptions = {}): ChannelAdapter {
  const within = createMollieClient(url, fetch);
  const isHere = isLoopback(url);

  /**
   * The trade at Mollie; undefined when there is none.
   * @throws ChannelError `garbage` for another payment, or one of another mode
   */
  async function read(session: Session, trade: Trade): Promise<Payment | undefined> {
    const id = idOf(trade);
    return id === undefined ? undefined : ours(await getPayment(session, id), session, trade);
  }

  async function query(session: Session, trade: Trade): Promise<ChannelAnswer> {
    const payment = await read(session, trade);
    return payment === undefined ? { state: 'unknown_trade' } : await withAll(session, payment);
  }

  /** What Mollie says of the payment, with the refunds and chargebacks of its money. */
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
          throw new ChannelError('garbage', `mollie gave ${value.id}, which is not of ${key}`);
        return redirect(ours(value, session, trade));
      });
    },

    async findTrade(account, trade, signal) {
      return await within(account, signal, async (session) => {
        const since = Date.parse(trade.createdAt) - CLOCKS_APART_MS;
        const isOurs = (payment: ListedPayment) => numberIn(payment, PAYMENT_KEY) === trade.outTradeNo;
        // The newest come first, and no create is sent before its payment is made.
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
          // A refusal: what is not open any more cannot be cancelled. What it is instead, Mollie tells when it is asked.
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
          // The number was asked for with another amount, or has already given back what is refused now: what came of it is
          // its answer.
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
          `mollie gave ${value.id}, which is not ${channelRefundId} of ${payment}`,
        );
      });
    },

    async verifyCallback(_account, { rawBody }) {
      const id = idIn(rawBody);
      // It is a notice: nobody signs it, and what is new Mollie tells when it is asked.
      if (id !== undefined) return { kind: 'notice', notificationId: id, about: { reference: id } };
      throw new CallbackError('malformed', 'it names no payment of Mollie');
    },

    // Our number is in its address alone.
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
          "No means of payment is on for this key's website profile: switch one on at Mollie.",
        );
      });
    },
  };
}

/** From the payment's row and the deployment's addresses alone: under one key, other terms than the first time are refused. */
function termsOf(trade: NewTrade, isMollieHere: boolean): object {
  const { outTradeNo, method, amount, currency, subject, returnUrl, notifyUrl } = trade;
  return {
    amount: { currency, value: toDecimal(amount, currency) },
    description: subject,
    redirectUrl: returnUrl,
    // Mollie refuses an address of this machine, and is asked on schedule without one.
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
 * Mollie's id of the trade; undefined for what Mollie never gave, which is put into no address.
 * @throws ChannelError for a trade that was not looked for yet
 */
function idOf({ outTradeNo, reference }: Trade): string | undefined {
  if (reference === null)
    throw new ChannelError('unreachable', `mollie: the id of ${outTradeNo} is not known yet`);
  return PAYMENT_ID.test(reference.id) ? reference.id : undefined;
}

/** The payment that took the money. @throws ChannelError for a trade that is none of Mollie's */
function moneyOf(trade: Trade): string {
  const id = idOf(trade);
  if (id !== undefined) return id;
  throw new ChannelError('unreachable', `mollie: ${trade.outTradeNo} has no payment there`);
}

/** The id in a webhook's form: https://docs.mollie.com/reference/webhooks. */
function idIn(rawBody: Buffer): string | undefined {
  const [id, ...more] = new URLSearchParams(rawBody.toString('utf8')).getAll('id');
  return id !== undefined && more.length === 0 && PAYMENT_ID.test(id) ? id : undefined;
}

/**
 * Asks for something by an id that Mollie has given us. Mollie deletes none of them: one that it does not know is of another
 * website profile, or of the other mode.
 * @throws ChannelError `misconfigured`
 */
async function known<T>(session: Session, id: string, request: MollieRequest, schema: z.ZodType<T>) {
  try {
    return await session.ask(request, schema);
  } catch (error) {
    if (!isUnknown(error, id)) throw error;
    throw new ChannelError(
      'misconfigured',
      `mollie does not know its own ${id}: the API key is of another website profile or mode`,
      { cause: error },
    );
  }
}

async function getPayment(session: Session, id: string): Promise<Payment> {
  return withId((await known(session, id, paymentRequest(id), paymentSchema)).value, id);
}

/** The same of an id that somebody else has named: undefined when Mollie does not know it. */
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

/** @throws ChannelError `garbage` for another one */
function withId(payment: Payment, id: string): Payment {
  if (payment.id === id) return payment;
  throw new ChannelError('garbage', `mollie gave ${payment.id} in place of ${id}`);
}

/**
 * The payment, unless it is of another trade of ours, or of the other mode than the key: then it moves no money, or should
 * move none. One without our number was made by somebody else, and is known by its id.
 * @throws ChannelError `garbage`
 */
function ours<T extends ListedPayment>(payment: T, session: Session, { outTradeNo }: Trade): T {
  const no = numberIn(payment, PAYMENT_KEY);
  if (no !== undefined && no !== outTradeNo)
    throw new ChannelError('garbage', `mollie gave ${payment.id}, which is not of ${outTradeNo}`);
  return ofMode(payment, session);
}

/** @throws ChannelError `garbage` for a payment of the other mode than the key */
function ofMode<T extends ListedPayment>(payment: T, { credentials }: Session): T {
  if (payment.mode === modeOf(credentials)) return payment;
  throw new ChannelError('garbage', `mollie gave ${payment.id}, which is of ${payment.mode} mode`);
}

/** The refund as it was made, if it has our number. @throws ChannelError `garbage` */
function ofNumber(refund: Refund, { outRefundNo }: KnownRefund): Refund {
  if (numberIn(refund, REFUND_KEY) === outRefundNo) return refund;
  throw new ChannelError('garbage', `mollie gave ${refund.id}, which is not the refund ${outRefundNo}`);
}

function redirect({ id, _links: { checkout } }: Payment): CreatedTrade {
  if (checkout === null || checkout === undefined)
    throw new ChannelError('garbage', `mollie gave ${id} without its page`);
  return { action: { type: 'redirect', url: checkout.href }, reference: { id } };
}

/**
 * What closing comes to. Most open payments cannot be cancelled: Mollie expires them, and says when.
 * @throws ChannelError when it says neither
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
      throw new ChannelError('garbage', `mollie does not say when ${payment.id} can be paid no more`);
  }
}

/**
 * All pages, or as many as `until` wants, and Mollie's time of the last one.
 * @throws ChannelError when the listing cannot be read to its end
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

/** @throws ChannelError `garbage` when one is of another payment */
function ofPayment<T extends { readonly id: string; readonly paymentId: string }>(
  items: readonly T[],
  payment: string,
): readonly T[] {
  const other = items.find(({ paymentId }) => paymentId !== payment);
  if (other === undefined) return items;
  throw new ChannelError('garbage', `mollie gave ${other.id}, which is not of ${payment}`);
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

/** A trade is looked for by its time: with a clock that is off it may not have been in what was listed. */
function checkClock(date: string | null): void {
  const said = clockSentence(date, Date.now());
  if (said !== '') throw new ChannelError('misconfigured', said);
}
