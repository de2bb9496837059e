import { once } from 'node:events';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import express, { type ErrorRequestHandler } from 'express';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { boundRequests, createBoundedServer, readBody } from '../src/request-bounds.ts';

// Tests that a client that never stops sending gets its 413, and that the server stops reading.
// test/api/http/bodies.test.ts tests the listeners.

const LIMIT = 64 * 1024;
/**
 * The largest number of bytes that the server may read beyond the limit: bytes that arrive during the grace period
 * after the answer, and bytes that Node reads ahead.
 */
const READ_BEYOND_AT_MOST = 512 * 1024;
const refuse: ErrorRequestHandler = (error, _request, response, _next) =>
  void response.status(error.status).send(error.message);

const app = express();
app.use(boundRequests(LIMIT));
app.post('/', readBody(express.raw({ type: () => true, limit: LIMIT }), LIMIT), (_request, response) => {
  response.end();
});
app.use(refuse);
const server = createBoundedServer(app);
const ends: Socket[] = [];
server.on('connection', (socket) => ends.push(socket));

/** With fake timers, the tests decide when the client's grace period for reading the answer ends. */
beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterEach(async () => {
  vi.useRealTimers();
  server.close();
  server.closeAllConnections();
  await once(server, 'close');
});

test.each([
  ['with a length', 'Content-Length: 2147483648', 0],
  ['without a length', 'Transfer-Encoding: chunked', LIMIT],
])(
  'a client whose body %s is too large gets the whole answer, and then its connection is cut',
  async (_, length, read) => {
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
    await once(client, 'connect');
    // The client sends until the socket ends, and reads only after it has sent much more than the limit.
    client.pause();
    client.on('error', () => undefined);
    let answer = '';
    client.on('data', (data) => {
      answer += data;
    });
    client.pause();
    const block = Buffer.alloc(16 * 1024, 97);
    const chunk = Buffer.concat([Buffer.from('4000\r\n'), block, Buffer.from('\r\n')]);
    const pump = () => {
      while (!client.destroyed && client.write(chunk));
    };
    client.on('drain', pump);
    client.write(`POST / HTTP/1.1\r\nHost: x\r\n${length}\r\n\r\n`);
    pump();
    const ours = async () => {
      while (ends.length === 0) await turn();
      return ends.pop() as Socket;
    };
    const end = await ours();
    while (end.bytesWritten === 0 && !client.destroyed) await turn();
    for (let n = 0; n < 200; n += 1) {
      client.write(chunk);
      await turn();
    }
    expect(client.destroyed).toBe(false);
    const over = once(client, 'end');
    client.resume();
    await over;
    expect(answer).toMatch(/^HTTP\/1\.1 413 [\s\S]*The body is larger than 65536 bytes\.$/);
    const sent = client.bytesWritten;
    expect(end.bytesRead).toBeLessThan(read + READ_BEYOND_AT_MOST);
    expect(sent).toBeGreaterThan(read + READ_BEYOND_AT_MOST);
    expect(end.destroyed).toBe(false);
    vi.runAllTimers();
    if (!end.closed) await once(end, 'close');
    expect(end.bytesRead).toBeLessThan(read + READ_BEYOND_AT_MOST);
  },
);
