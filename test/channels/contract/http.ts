import { createServer, type IncomingMessage, type ServerResponse, request as send } from 'node:http';
import type { AddressInfo } from 'node:net';

/** HTTP servers on loopback: for the channels, and for the proxy between a channel and its adapter. */

/** A request as it was sent. The names of its headers are in lower case. */
export interface Sent {
  readonly method: string;
  /** The path of the request, including its query string. */
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
  /** The base URL of the server, without a trailing slash. */
  readonly url: string;
  close(): void;
}

/** Returns the answer, or `nothing` if the handler itself uses the socket. */
export type Handler = (request: Sent, res: ServerResponse) => Promise<Answer | 'nothing'>;

/** An HTTP server on a free loopback port. */
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

/** A fault that one request has on the way to the channel. */
export type Fault =
  /** The channel does not receive the request. The proxy returns this answer. */
  | { readonly kind: 'answers'; readonly with: (request: Sent) => Answer }
  /** The channel carries out the request, and its answer is lost with the connection. */
  | { readonly kind: 'loses the answer' }
  /** The adapter gets no answer, or only the beginning of the answer. */
  | { readonly kind: 'stays silent' | 'stops in the middle' };

export interface ChannelProxy extends Server {
  /** Every request that arrived at the proxy, with or without a fault, oldest first. */
  readonly requests: readonly Sent[];
  /** The channel's own answer to the newest request that was forwarded. */
  lastAnswer(): Answer | undefined;
  /**
   * A function that decides the fault of each request. If it returns `undefined`, the request is forwarded. If the
   * function is null, all requests are forwarded.
   */
  setFault(fault: ((request: Sent) => Fault | undefined) | null): void;
}

/** A proxy in front of a channel. It records the adapter's requests and injects faults. */
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
