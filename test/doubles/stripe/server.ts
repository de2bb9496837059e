import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { handleApi } from './api.ts';
import { Books } from './books.ts';
import { control } from './control.ts';
import { Faults } from './faults.ts';
import { readForm } from './form.ts';
import type { Answer, ReadPayment } from './http.ts';
import { Keys } from './keys.ts';
import { page } from './page.ts';

export interface RunningDouble {
  readonly url: string;
  readonly books: Books;
  close(): Promise<void>;
}

/** Starts a new Stripe double with empty books on loopback. It uses a free port unless a port is given. */
export async function serveStripe(wanted = 0): Promise<RunningDouble> {
  const books = new Books();
  const faults = new Faults();
  const keys = new Keys(books.now);
  const seen: ReadPayment[] = [];

  async function answer(request: IncomingMessage): Promise<Answer | 'hang'> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString('utf8');
    const method = request.method ?? 'GET';
    const url = new URL(request.url ?? '/', 'http://double');
    if (url.pathname.startsWith('/_control/')) {
      return control({ books, faults, keys, seen }, method, url.pathname, body);
    }
    if (url.pathname.startsWith('/pay/') || url.pathname === '/stripe.js')
      return page(books, method, url, body);
    const header = (name: string) => {
      const value = request.headers[name];
      return typeof value === 'string' ? value : undefined;
    };
    seen.push({
      method,
      path: `${url.pathname}${url.search}`,
      key: header('idempotency-key'),
      version: header('stripe-version'),
      body,
    });
    const fault = faults.take(method, `${url.pathname}${url.search}`);
    if (fault?.when === 'before') return fault.answer;
    const key = method === 'POST' ? header('idempotency-key') : undefined;
    const perform = (): Answer => {
      if (fault?.when === 'stored') return fault.answer as Answer;
      const params = readForm(method === 'GET' ? url.search.slice(1) : body);
      return handleApi(books, method, url.pathname, params, header('authorization'));
    };
    const given = key === undefined ? perform() : keys.once(key, `${url.pathname}\n${body}`, perform);
    return fault?.when === 'after' ? fault.answer : given;
  }

  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    answer(request)
      .then((given) => {
        // If a fault makes the request hang, the double never sends the answer.
        if (given === 'hang') return;
        response.writeHead(given.status, {
          'content-type': given.type ?? 'application/json',
          'access-control-allow-origin': '*',
          'request-id': `req_${seen.length}`,
          date: new Date(books.now() * 1000).toUTCString(),
          ...given.headers,
        });
        response.end(given.body);
      })
      .catch((error: unknown) => {
        console.error(error);
        response
          .writeHead(500)
          .end('{"error":{"type":"api_error","message":"internal error of the double"}}');
      });
  });
  await new Promise<void>((resolve) => server.listen(wanted, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  books.url = `http://127.0.0.1:${port}`;
  return {
    url: books.url,
    books,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
