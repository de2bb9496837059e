import { subscribe } from 'node:diagnostics_channel';
import { connect, type Socket } from 'node:net';

/** Clients that send more than a server of this process should read. */

/** The server's ends of connections to it, by the client's port. */
const accepted = new Map<number | undefined, Socket>();
subscribe('net.server.socket', (message) => {
  const { socket } = message as { socket: Socket };
  accepted.set(socket.remotePort, socket);
});

export interface Flood {
  /** Request line and headers; `Host` is added. */
  readonly head: readonly string[];
  /** Sent again and again until the server closes; undefined: no body. */
  readonly chunk?: Buffer;
  /** So many chunks at most. */
  readonly times?: number;
  /** Each chunk only after the one before has arrived. */
  readonly drips?: boolean;
  /** Nothing is read before so many chunks are sent. */
  readonly sendsFirst?: boolean;
}

export interface Flooded {
  /** All that the server answered. */
  readonly answer: string;
  /** Bytes that the server read off the socket. */
  readonly read: number;
}

/** Resolves when the server has closed the connection. */
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
    // Reset at the end of the grace, as it goes on sending.
    socket.on('error', () => undefined);
    socket.on('close', () => resolve({ answer, read: server?.bytesRead ?? 0 }));
  });
}

/** A chunk as `Transfer-Encoding: chunked` has it. */
export const chunked = (data: Buffer): Buffer =>
  Buffer.concat([Buffer.from(`${data.length.toString(16)}\r\n`), data, Buffer.from('\r\n')]);
