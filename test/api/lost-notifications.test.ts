import { type AddressInfo, createServer, connect as dial, type Socket } from 'node:net';
import { expect, test, vi } from 'vitest';
import { Changes } from '../../src/api/changes.ts';
import { eventually, useDatabase } from '../support/stack.ts';

/**
 * Tests a database connection that works but receives no notifications, as behind a transaction pooler. The API must
 * not rely on such a connection.
 */

/** The time between two pings. It is the same as in `Changes`. */
const PING_EVERY_MS = 10_000;

const { databaseUrl } = useDatabase();

/** A proxy to the database. While `losesNotifications` is true, it forwards everything except notifications. */
async function startLossyProxy(databaseUrl: string) {
  const { hostname, port } = new URL(databaseUrl);
  const sockets = new Set<Socket>();
  let losesNotifications = true;
  const server = createServer((client) => {
    const onward = dial(Number(port), hostname);
    for (const [from, to] of [
      [client, onward],
      [onward, client],
    ] as const) {
      sockets.add(from);
      from.on('error', () => to.destroy()).on('close', () => to.destroy());
    }
    client.pipe(onward);
    let rest = Buffer.alloc(0);
    onward.on('data', (data) => {
      rest = Buffer.concat([rest, data]);
      // A message of PostgreSQL consists of a letter, a length and the content. The length counts its own bytes and the
      // content.
      while (rest.length >= 5 && rest.length > rest.readUInt32BE(1)) {
        const end = 1 + rest.readUInt32BE(1);
        const isNotification = rest.toString('latin1', 0, 1) === 'A';
        if (!(losesNotifications && isNotification)) client.write(rest.subarray(0, end));
        rest = rest.subarray(end);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = new URL(databaseUrl);
  url.hostname = '127.0.0.1';
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.toString(),
    forwardNotifications() {
      losesNotifications = false;
      for (const socket of sockets) socket.destroy();
    },
    loseNotifications() {
      losesNotifications = true;
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

test('while no notifications arrive, waiting requests read the database again before their timeout', async () => {
  const proxy = await startLossyProxy(databaseUrl);
  const changes = new Changes(proxy.url, { warn: () => undefined, info: () => undefined });
  changes.start();
  try {
    let reads = 0;
    await changes.until('payment/pay_1', {
      read: async () => ++reads,
      done: (count) => count === 3,
      timeoutMs: 60_000,
    });
    // The request reads again without a notification, well before its timeout.
    expect([reads, changes.listening]).toEqual([3, false]);
    proxy.forwardNotifications();
    await eventually(() => changes.listening);
  } finally {
    await changes.close();
    await proxy.close();
  }
});

test('if notifications stop arriving, nodrop detects the loss because its own ping does not come back', async () => {
  // The test decides when pings are sent.
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  const proxy = await startLossyProxy(databaseUrl);
  proxy.forwardNotifications();
  const changes = new Changes(proxy.url, { warn: () => undefined, info: () => undefined });
  changes.start();
  const leaving = new AbortController();
  try {
    await eventually(() => changes.listening);
    let reads = 0;
    const waiting = changes.until('payment/pay_1', {
      read: async () => ++reads,
      done: (count) => count > 3,
      timeoutMs: 240_000,
      signal: leaving.signal,
    });
    // The first ping comes back and the second does not. nodrop detects this when the third ping is due.
    await vi.advanceTimersByTimeAsync(PING_EVERY_MS);
    expect(changes.listening).toBe(true);
    proxy.loseNotifications();
    await eventually(async () => {
      await vi.advanceTimersByTimeAsync(PING_EVERY_MS);
      return !changes.listening;
    });
    expect(await waiting).toBeGreaterThan(3);
    expect(changes.listening).toBe(false);
    proxy.forwardNotifications();
    await eventually(() => changes.listening);
  } finally {
    leaving.abort();
    vi.useRealTimers();
    await changes.close();
    await proxy.close();
  }
});
