import { request } from './client.ts';

/** A trade in the books of the simulator or of a double. These books record the money. */
export interface Trade {
  readonly outTradeNo: string;
  /** Minor units. */
  readonly amount: number;
  readonly currency: string;
  readonly state: string;
  readonly paidAt: string | null;
  /** Refunded amount, in minor units. */
  readonly refunded: number;
  /** Number of callbacks that were sent. Callbacks that were lost on the way to nodrop are not counted. */
  readonly callbackAttempts: number;
}

/** A refund as the API shows it. The types `Payment` and `Order` also describe what the API shows. */
export interface Refund {
  readonly id: string;
  readonly amount: number;
  readonly currency: string;
  readonly status: string;
  readonly reason: string;
  readonly settledAt: string | null;
}

export interface Payment {
  readonly id: string;
  readonly channel: string;
  readonly status: string;
  readonly orderUpdate: string | null;
  readonly settledBy: string | null;
  readonly settledAt: string | null;
  readonly receivedAmount: number | null;
  readonly receivedCurrency: string | null;
  readonly refundedAmount: number;
  readonly attention: string | null;
  readonly attentionDetail: string | null;
  readonly expiresAt: string;
  readonly cancelRequestedAt: string | null;
  readonly temporalUrl: string | null;
}

export interface Order {
  readonly id: string;
  readonly amount: number;
  readonly currency: string;
  readonly status: string;
  readonly paidPaymentId: string | null;
  readonly payments: readonly Payment[];
}

export interface Books {
  readonly orders: readonly Order[];
  /** Refunds by payment id, for each payment that has refunds or must be refunded. */
  readonly refunds: ReadonlyMap<string, readonly Refund[]>;
  readonly trades: readonly Trade[];
}

export interface BooksOptions {
  readonly apiUrl: string;
  readonly apiKey: string;
  readonly trades: (signal: AbortSignal) => Promise<readonly Trade[]>;
}

/**
 * Reads all rows of nodrop's books first, and all rows of the wallet's books second. In this order, the wallet's books
 * must contain all money that nodrop's books contain.
 * @throws AbortError when `signal` aborts.
 */
export async function readBooks(options: BooksOptions, signal: AbortSignal): Promise<Books> {
  const orders = await list<Order>(options, signal, '/v1/orders');
  const refunded = orders
    .flatMap(({ payments }) => payments)
    .filter(({ orderUpdate, refundedAmount }) => orderUpdate === 'conflict' || refundedAmount > 0);
  const refunds = await Promise.all(
    refunded.map(
      async ({ id }) => [id, await list<Refund>(options, signal, `/v1/payments/${id}/refunds`)] as const,
    ),
  );
  return { orders, refunds: new Map(refunds), trades: await options.trades(signal) };
}

/** Reads all pages of a list of the API. */
async function list<T>({ apiUrl, apiKey }: BooksOptions, signal: AbortSignal, path: string): Promise<T[]> {
  const rows: T[] = [];
  let cursor: string | null = null;
  do {
    const next: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
    const page = await get<{ data: T[]; nextCursor: string | null }>(
      signal,
      `${apiUrl}${path}?limit=100${next}`,
      { authorization: `Bearer ${apiKey}` },
    );
    rows.push(...page.data);
    cursor = page.nextCursor;
  } while (cursor !== null);
  return rows;
}

async function get<T>(signal: AbortSignal, url: string, headers: Record<string, string> = {}): Promise<T> {
  const { status, body } = await request(signal, 'GET', url, undefined, headers);
  if (status !== 200) throw new Error(`GET ${url} was answered ${status}`);
  return body as T;
}
