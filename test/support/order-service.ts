import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Webhook } from 'standardwebhooks';

/**
 * An order service with its own state, which does what its tests tell it to. Left alone it is a good one: it checks the
 * signature, applies an event once by its id, and marks an order paid on `payment.succeeded`, unless it knows already
 * that the payment does not pay it. Of what it shows besides, an older version changes nothing.
 */

export interface ReceivedEvent {
  /** `webhook-id` */
  readonly id: string;
  /** As it came. */
  readonly body: string;
  readonly type: string;
  readonly version: number;
  readonly paymentId: string;
  readonly orderId: string;
  /** Epoch ms, by the clock given. */
  readonly at: number;
  /** By what it knew then. */
  readonly isSigned: boolean;
  readonly isSignedBy: (secret: string) => boolean;
}

export interface Reaction {
  readonly status?: number;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
  /** Never answers. */
  readonly hang?: boolean;
  /** Before it answers. */
  readonly delayMs?: number;
  /** It answers once this is so. */
  readonly after?: Promise<unknown>;
  /** Does what a good one does, whatever it answers. */
  readonly apply?: boolean;
}

export interface OrderState {
  paidPaymentId: string | null;
  /** The newest event it knows, by payment. */
  readonly known: Map<string, { readonly version: number; readonly type: string }>;
  /** How often it became paid. */
  timesPaid: number;
}

export interface OrderService {
  readonly url: string;
  /** Where it is read back, with `{orderId}`. */
  readonly statusUrl: string;
  /** Everything that came, in order. */
  readonly received: ReceivedEvent[];
  /** How often orders were read. */
  readonly reads: string[];
  /** What signs. */
  secret: string;
  /** What it does instead of the right thing; undefined is the right thing. */
  react: ((event: ReceivedEvent, nth: number) => Reaction | undefined) | undefined;
  /** What it says of an order instead of the truth. */
  reactToRead: ((orderId: string) => Reaction | undefined) | undefined;
  order(orderId: string): OrderState;
  /** Everything about this payment, in order. */
  about(paymentId: string): ReceivedEvent[];
  reset(): void;
  close(): Promise<void>;
}

export async function startOrderService(
  now: () => Promise<number> = async () => Date.now(),
): Promise<OrderService> {
  const orders = new Map<string, OrderState>();
  const seen = new Set<string>();

  const apply = (event: ReceivedEvent): void => {
    if (seen.has(event.id)) return;
    seen.add(event.id);
    const order = service.order(event.orderId);
    const known = order.known.get(event.paymentId);
    if (event.version > (known?.version ?? 0)) order.known.set(event.paymentId, event);
    if (event.type !== 'payment.succeeded' || order.paidPaymentId !== null) return;
    if (known?.type === 'payment.conflict') return;
    order.paidPaymentId = event.paymentId;
    order.timesPaid += 1;
  };

  const answer = (
    response: ServerResponse,
    { status = 200, body, headers, hang, delayMs, after }: Reaction,
  ): void => {
    if (hang === true) return;
    const send = () => {
      response.writeHead(status, { 'content-type': 'application/json', ...headers });
      response.end(body === undefined ? '' : JSON.stringify(body));
    };
    if (after !== undefined) void after.then(send);
    else if (delayMs === undefined) send();
    else setTimeout(send, delayMs);
  };

  const isSigned = ({ headers }: IncomingMessage, body: string, secret = service.secret): boolean => {
    const text = (name: string) => String(headers[name] ?? '');
    // As the library verifies, but for the time: tests have clocks of their own.
    const at = new Date(Number(text('webhook-timestamp')) * 1000);
    const expected = new Webhook(secret).sign(text('webhook-id'), at, body);
    return text('webhook-signature').split(' ').includes(expected);
  };

  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString();
    const signed = isSigned(request, body);
    if (request.method === 'GET') {
      const orderId = decodeURIComponent((request.url ?? '').slice('/orders/'.length));
      service.reads.push(orderId);
      const truth = {
        status: signed ? 200 : 401,
        body: { paidPaymentId: service.order(orderId).paidPaymentId },
      };
      answer(response, service.reactToRead?.(orderId) ?? truth);
      return;
    }
    const { type, data } = JSON.parse(body);
    const event: ReceivedEvent = {
      id: String(request.headers['webhook-id']),
      body,
      type,
      version: data.version,
      paymentId: data.payment.id,
      orderId: data.order.id,
      at: await now(),
      isSigned: signed,
      isSignedBy: (secret) => isSigned(request, body, secret),
    };
    service.received.push(event);
    const reaction = service.react?.(event, service.about(event.paymentId).length);
    if (signed && (reaction === undefined || reaction.apply === true)) apply(event);
    answer(response, reaction ?? { status: signed ? 200 : 401 });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  const service: OrderService = {
    url: `${url}/events`,
    statusUrl: `${url}/orders/{orderId}`,
    received: [],
    reads: [],
    secret: '',
    react: undefined,
    reactToRead: undefined,
    order(orderId) {
      const known = orders.get(orderId);
      if (known !== undefined) return known;
      const fresh: OrderState = { paidPaymentId: null, known: new Map(), timesPaid: 0 };
      orders.set(orderId, fresh);
      return fresh;
    },
    about: (paymentId) => service.received.filter((event) => event.paymentId === paymentId),
    reset() {
      service.received.length = 0;
      service.reads.length = 0;
      service.react = undefined;
      service.reactToRead = undefined;
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return service;
}
