import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { CONNECT_TIMEOUT_MS, exchange, HTTP_TIMEOUT_MS } from '../../src/channels/exchange.ts';

const cleanUps: (() => void)[] = [];
afterEach(() => {
  for (const cleanUp of cleanUps.splice(0).reverse()) cleanUp();
});

/** A listener that accepts no connection and whose queue is full. So the kernel answers no further connection. */
async function unreachablePort(): Promise<number> {
  const program = `
    const server = require('node:net').createServer();
    server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
      require('node:fs').writeSync(1, server.address().port + '\\n');
      process.kill(process.pid, 'SIGSTOP');
    });`;
  const listener = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  cleanUps.push(() => listener.kill('SIGKILL'));
  const [line] = await once(listener.stdout, 'data');
  const port = Number(String(line));
  // On Linux the queue holds one connection more than the backlog.
  const queued: Promise<unknown>[] = [];
  for (let n = 0; n < 2; n += 1) queued.push(once(open(port), 'connect'));
  await Promise.all(queued);
  return port;
}

function open(port: number): Socket {
  const socket = connect(port, '127.0.0.1').on('error', () => undefined);
  cleanUps.push(() => socket.destroy());
  return socket;
}

// On systems other than Linux, a connection can succeed although the queue is full.
test.runIf(process.platform === 'linux')(
  'a channel that accepts no connection is reported as unreachable before the request times out',
  async () => {
    const port = await unreachablePort();
    await expect(exchange(`http://127.0.0.1:${port}/`, {}, { channel: 'wallet' })).rejects.toMatchObject({
      name: 'ChannelError',
      kind: 'unreachable',
      message: `wallet could not be reached: no connection within ${CONNECT_TIMEOUT_MS / 1_000} s`,
    });
    expect(CONNECT_TIMEOUT_MS).toBeLessThan(HTTP_TIMEOUT_MS);
  },
);
