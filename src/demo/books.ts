import { request } from './client.ts';

/** A trade in the simulator's ledger: where the money really is. */
export interface Trade {
  readonly outTradeNo: string;
  /** Minor units. */
  readonly amount: number;
  readonly currency: string;
  readonly state: string;
  readonly paidAt: string | null;
  readonly callbackAttempts: number;
}

/** A payment and its order as the API shows them. */
export interface Payment {
  readonly id: string;
  readonly status: string;
  readonly orderUpdate: string | null;
  readonly settledBy: string | null;
  readonly settledAt: string | null;
  readonly receivedAmount: number | null;
  readonly receivedCurrency: string | null;
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
  readonly trades: readonly Trade[];
}

export interface BooksOptions {
  readonly apiUrl: string;
  readonly apiKey: string;
  readonly simulatorUrl: string;
}

/**
 * Reads both books whole. The ledger last: money that an order has must be in it.
 * @throws AbortError when `signal` ends it.
 */
export async function readBooks(options: BooksOptions, signal: AbortSignal): Promise<Books> {
  const orders: Order[] = [];
  let cursor: string | null = null;
  do {
    const next: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
    const url = `${options.apiUrl}/v1/orders?limit=100${next}`;
    const page = await get<{ data: Order[]; nextCursor: string | null }>(signal, url, {
      authorization: `Bearer ${options.apiKey}`,
    });
    orders.push(...page.data);
    cursor = page.nextCursor;
  } while (cursor !== null);
  return { orders, trades: await get<Trade[]>(signal, `${options.simulatorUrl}/_control/ledger`) };
}

async function get<T>(signal: AbortSignal, url: string, headers: Record<string, string> = {}): Promise<T> {
  const { status, body } = await request(signal, 'GET', url, undefined, headers);
  if (status !== 200) throw new Error(`GET ${url} was answered ${status}`);
  return body as T;
}
