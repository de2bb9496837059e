import { createServer, request as forward, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

/** A proxy between a client and the API. The tests choose what it does to connections. */
export interface Way {
  readonly url: string;
  /** Every request that arrived at the proxy, as `GET /v1/...`, with its headers. */
  readonly requests: {
    readonly line: string;
    readonly headers: Record<string, string | string[] | undefined>;
  }[];
  /**
   * `pass` forwards everything. `buffer` holds back the bodies of event streams. `refuse` answers event streams with a
   * page of its own. `away` cuts every connection.
   */
  mode: 'pass' | 'buffer' | 'refuse' | 'away';
  /** Cuts all connections that are open at this moment. */
  cut(): void;
  close(): Promise<void>;
}

export async function startWay(target: string): Promise<Way> {
  const sockets = new Set<Socket>();
  const way = {
    requests: [] as Way['requests'],
    mode: 'pass' as Way['mode'],
    cut() {
      for (const socket of sockets) socket.destroy();
    },
  };
  const server: Server = createServer((incoming, outgoing) => {
    way.requests.push({ line: `${incoming.method} ${incoming.url}`, headers: incoming.headers });
    if (way.mode === 'away') return void incoming.socket.destroy();
    const isStream = incoming.headers.accept === 'text/event-stream';
    if (isStream && way.mode === 'refuse') {
      return void outgoing.writeHead(403, { 'content-type': 'text/html' }).end('<p>Not here.</p>');
    }
    const onward = forward(
      `${target}${incoming.url}`,
      { method: incoming.method, headers: incoming.headers },
      (answer) => {
        if (isStream && way.mode === 'buffer') return void answer.resume();
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(outgoing);
      },
    );
    onward.on('error', () => outgoing.destroy());
    outgoing.on('close', () => onward.destroy());
    incoming.pipe(onward);
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return Object.assign(way, {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      way.cut();
      await new Promise((resolve) => server.close(resolve));
    },
  });
}
