import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Webhook } from 'standardwebhooks';

/**
 * An order service with its own state. Tests can make it misbehave. By default it behaves correctly. It
 * verifies the signature, applies each event id once, and ignores events with an older version. On
 * `payment.succeeded` it marks the order as paid, unless an earlier event has shown that the payment does not
 * pay the order.
 */

export interface ReceivedEvent {
  /** `webhook-id` */
  readonly id: string;
  /** The body as received. */
  readonly body: string;
  readonly type: string;
  readonly version: number;
  readonly paymentId: string;
  readonly orderId: string;
  /** The arrival time of the event, in epoch ms by the given clock. */
  readonly at: number;
  /** Whether the signature was made with the secret that was valid at that time. */
  readonly isSigned: boolean;
  readonly isSignedBy: (secret: string) => boolean;
}

export interface Reaction {
  readonly status?: number;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
  /** True: never answers. */
  readonly hang?: boolean;
  /** The delay before the answer. */
  readonly delayMs?: number;
  /** The order service answers when this promise resolves. */
  readonly after?: Promise<unknown>;
  /** If true, the order service applies the event correctly, whatever it answers. */
  readonly apply?: boolean;
}

export interface OrderState {
  paidPaymentId: string | null;
  /** The newest event of each payment. */
  readonly known: Map<string, { readonly version: number; readonly type: string }>;
  /** How many times the order became paid. */
  timesPaid: number;
}

export interface OrderService {
  readonly url: string;
  /** The read-back URL, with `{orderId}`. */
  readonly statusUrl: string;
  /** Every event that arrived, in order of arrival. */
  readonly received: ReceivedEvent[];
  /** The order id of each read-back, in order of arrival. */
  readonly reads: string[];
  /** The secret that events are signed with. */
  secret: string;
  /** Replaces the correct answer to an event. If it returns undefined, the correct answer is sent. */
  react: ((event: ReceivedEvent, nth: number) => Reaction | undefined) | undefined;
  /** Replaces the true answer to a read-back. */
  reactToRead: ((orderId: string) => Reaction | undefined) | undefined;
  order(orderId: string): OrderState;
  /** Every event of this payment, in order of arrival. */
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
    // Verifies a signature as the library does, but accepts any timestamp, because tests have their own clocks.
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
