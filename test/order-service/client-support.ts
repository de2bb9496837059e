import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http';
import type { Server as RawServer } from 'node:net';
import { afterEach, expect } from 'vitest';
import { OrderServiceClient, type OrderServiceTarget } from '../../src/order-service/client.ts';
import { newSecret } from '../../src/order-service/secrets.ts';

/**
 * Support for tests of the client that calls order services. The servers are real, and the tests define their answers.
 */

export const US = 'pay_01JD7Z7C8Q6W4Y9V5T3R1P0N2M';
export const SECRET = newSecret();
export const BODY = JSON.stringify({
  type: 'payment.succeeded',
  data: { order: { subject: 'Kaffee für 2 ☕' } },
});

interface Heard {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

const open: (Server | RawServer)[] = [];
afterEach(async () => {
  for (const server of open.splice(0)) {
    if ('closeAllConnections' in server) server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

export async function listening(server: Server | RawServer, host = '127.0.0.1'): Promise<number> {
  open.push(server);
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  return (server.address() as { port: number }).port;
}

/** A server that reads complete requests and gives a defined answer. */
export async function serve(answer: (response: ServerResponse, heard: Heard) => void) {
  const heard: Heard[] = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    const one = { method: request.method ?? '', url: request.url ?? '', headers: request.headers, body };
    heard.push(one);
    answer(response, one);
  });
  const port = await listening(server);
  return { heard, port, url: `http://127.0.0.1:${port}/hooks` };
}

export const targetOf = (url: string, change: Partial<OrderServiceTarget> = {}): OrderServiceTarget => ({
  url,
  statusUrl: null,
  secrets: [SECRET],
  ...change,
});

export const near = new OrderServiceClient({ allowPrivate: true });
export const hasty = new OrderServiceClient({ allowPrivate: true, timeoutMs: 300 });

export const tell = (url: string, client = near, at = new Date()) =>
  client.deliver(targetOf(url), { id: 'evt_1', paymentId: US, body: BODY, at });

/** The result of the call without its duration. */
export async function told(url: string, client = near): Promise<object> {
  const { durationMs, ...answer } = await tell(url, client);
  expect(durationMs).toBeGreaterThanOrEqual(0);
  return answer;
}

export const answering = (status: number, body: string | undefined, headers: Record<string, string> = {}) =>
  serve((response) => response.writeHead(status, headers).end(body));
