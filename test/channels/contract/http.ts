import { createServer, type IncomingMessage, type ServerResponse, request as send } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Real HTTP on loopback: what channels, and what stands between them and an adapter, are made of. */

/** A request as it was sent; names of headers in lower case. */
export interface Sent {
  readonly method: string;
  /** With the query string. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface Server {
  /** Without a trailing slash. */
  readonly url: string;
  close(): void;
}

/** What is answered, or what the socket does instead. */
export type Handler = (request: Sent, res: ServerResponse) => Promise<Answer | 'nothing'>;

/** An HTTP server on a free port of loopback. */
export async function serve(handler: Handler): Promise<Server> {
  const server = createServer(async (req, res) => {
    try {
      const answer = await handler(await read(req), res);
      if (answer === 'nothing' || res.destroyed) return;
      res.writeHead(answer.status, answer.headers ?? {}).end(answer.body);
    } catch (error) {
      res.writeHead(500, { 'content-type': 'text/plain' }).end(String(error));
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function read(req: IncomingMessage): Promise<Sent> {
  const chunks: Buffer[] = [];
  for await (const chunk of req) chunks.push(chunk);
  const headers = Object.fromEntries(
    Object.entries(req.headers).map(([name, value]) => [
      name,
      Array.isArray(value) ? value.join() : (value ?? ''),
    ]),
  );
  return {
    method: req.method ?? '',
    path: req.url ?? '',
    headers,
    body: Buffer.concat(chunks).toString('utf8'),
  };
}

/** What the way to the channel does with one request. */
export type Fault =
  /** The channel is not asked, and this comes back. */
  | { readonly kind: 'answers'; readonly with: (request: Sent) => Answer }
  /** The channel does what it was asked for, and its answer is lost with the connection. */
  | { readonly kind: 'loses the answer' }
  /** Nothing comes back, or only the beginning. */
  | { readonly kind: 'stays silent' | 'stops in the middle' };

export interface ChannelProxy extends Server {
  /** Every request that came, faults or not, oldest first. */
  readonly requests: readonly Sent[];
  /** The channel's own answer to the newest request that went through. */
  lastAnswer(): Answer | undefined;
  /** Decides what happens to each request; `undefined`: it goes through. Null: all go through. */
  setFault(fault: ((request: Sent) => Fault | undefined) | null): void;
}

/** Stands in front of a channel, records what an adapter sends, and makes things go wrong on the way. */
export async function proxyTo(target: string): Promise<ChannelProxy> {
  const requests: Sent[] = [];
  let faultOf: ((request: Sent) => Fault | undefined) | null = null;
  let lastAnswer: Answer | undefined;
  const server = await serve(async (request, res) => {
    requests.push(request);
    const fault = faultOf?.(request);
    switch (fault?.kind) {
      case undefined:
        lastAnswer = await forward(target, request);
        return lastAnswer;
      case 'answers':
        return fault.with(request);
      case 'loses the answer':
        await forward(target, request);
        res.destroy();
        return 'nothing';
      case 'stays silent':
        return 'nothing';
      case 'stops in the middle':
        res.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' });
        res.write('{"a":');
        return 'nothing';
    }
  });
  return {
    ...server,
    requests,
    lastAnswer: () => lastAnswer,
    setFault: (fault) => {
      faultOf = fault;
    },
  };
}

function forward(target: string, { method, path, headers, body }: Sent): Promise<Answer> {
  const { host: _host, connection: _connection, ...passed } = headers;
  return new Promise((resolve, reject) => {
    const req = send(`${target}${path}`, { method, headers: passed, agent: false }, (res) => {
      read(res).then((answer) => {
        const {
          'transfer-encoding': _encoding,
          'content-length': _length,
          connection: _kept,
          ...answered
        } = answer.headers;
        resolve({ status: res.statusCode ?? 0, headers: answered, body: answer.body });
      }, reject);
    });
    req.on('error', reject);
    req.end(body);
  });
}
