import { subscribe } from 'node:diagnostics_channel';
import { connect, type Socket } from 'node:net';

/** Clients that send more data than a server in this process should read. */

/** The server's socket of each connection, by the port of the client. */
const accepted = new Map<number | undefined, Socket>();
subscribe('net.server.socket', (message) => {
  const { socket } = message as { socket: Socket };
  accepted.set(socket.remotePort, socket);
});

export interface Flood {
  /** The request line and the headers without `Host`, which is added. */
  readonly head: readonly string[];
  /**
   * This chunk is sent again and again until the server closes the connection. If undefined, the request has no
   * body.
   */
  readonly chunk?: Buffer;
  /** The maximum number of chunks to send. */
  readonly times?: number;
  /** If true, each chunk is sent only after the previous chunk has arrived. */
  readonly drips?: boolean;
  /** If true, the client reads nothing until it has sent `times` chunks. */
  readonly sendsFirst?: boolean;
}

export interface Flooded {
  /** The whole answer of the server. */
  readonly answer: string;
  /** The number of bytes that the server read from the socket. */
  readonly read: number;
}

/** Sends the request. Resolves when the server has closed the connection. */
export function flood(
  url: string,
  { head, chunk, times = Infinity, drips, sendsFirst }: Flood,
): Promise<Flooded> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname);
    let answer = '';
    let sent = 0;
    const ours = () => accepted.get(socket.localPort);
    let server: Socket | undefined;
    const pump = () => {
      server ??= ours();
      if (chunk === undefined || socket.destroyed) return;
      while (sent < times) {
        sent += 1;
        if (drips) return void socket.write(chunk, () => setTimeout(pump, 1));
        if (!socket.write(chunk)) return;
      }
      if (sendsFirst) socket.resume();
    };
    socket.on('connect', () => {
      socket.write(`${[...head, 'Host: x'].join('\r\n')}\r\n\r\n`);
      if (sendsFirst) socket.pause();
      pump();
    });
    if (!drips) socket.on('drain', pump);
    socket.on('data', (data: Buffer) => {
      server ??= ours();
      answer += data.toString('latin1');
    });
    // The server resets the connection at the end of its grace period, because the client is still sending.
    socket.on('error', () => undefined);
    socket.on('close', () => resolve({ answer, read: server?.bytesRead ?? 0 }));
  });
}

/** One chunk in the format of `Transfer-Encoding: chunked`. */
export const chunked = (data: Buffer): Buffer =>
  Buffer.concat([Buffer.from(`${data.length.toString(16)}\r\n`), data, Buffer.from('\r\n')]);
