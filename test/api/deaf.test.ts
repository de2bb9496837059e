import { type AddressInfo, createServer, connect as dial, type Socket } from 'node:net';
import { expect, test, vi } from 'vitest';
import { Changes } from '../../src/api/changes.ts';
import { eventually, useDatabase } from '../support/stack.ts';

/** A connection that can do everything but hear, as behind a pooler that lends it to others, is none to rely on. */

/** As in `Changes`. */
const PING_EVERY_MS = 10_000;

const { databaseUrl } = useDatabase();

/** On the way to the database and back everything passes but, while it is deaf, what was notified. */
async function startDeafWay(databaseUrl: string) {
  const { hostname, port } = new URL(databaseUrl);
  const sockets = new Set<Socket>();
  let isDeaf = true;
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
      // Messages: a letter, then the length of itself and the rest.
      while (rest.length >= 5 && rest.length > rest.readUInt32BE(1)) {
        const end = 1 + rest.readUInt32BE(1);
        const isNotification = rest.toString('latin1', 0, 1) === 'A';
        if (!(isDeaf && isNotification)) client.write(rest.subarray(0, end));
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
    hears() {
      isDeaf = false;
      for (const socket of sockets) socket.destroy();
    },
    becomesDeaf() {
      isDeaf = true;
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

test('waiters look for themselves until it hears', async () => {
  const way = await startDeafWay(databaseUrl);
  const changes = new Changes(way.url, { warn: () => undefined, info: () => undefined });
  changes.start();
  try {
    let reads = 0;
    await changes.until('payment/pay_1', {
      read: async () => ++reads,
      done: (count) => count === 3,
      timeoutMs: 60_000,
    });
    // Looked without having been told, well before the time was up.
    expect([reads, changes.listening]).toEqual([3, false]);
    way.hears();
    await eventually(() => changes.listening);
  } finally {
    await changes.close();
    await way.close();
  }
});

test('also when it has heard before: what does not come back says so', async () => {
  // Pings come when the test says.
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  const way = await startDeafWay(databaseUrl);
  way.hears();
  const changes = new Changes(way.url, { warn: () => undefined, info: () => undefined });
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
    // One that comes back, one that does not, and the one that finds out.
    await vi.advanceTimersByTimeAsync(PING_EVERY_MS);
    expect(changes.listening).toBe(true);
    way.becomesDeaf();
    await eventually(async () => {
      await vi.advanceTimersByTimeAsync(PING_EVERY_MS);
      return !changes.listening;
    });
    expect(await waiting).toBeGreaterThan(3);
    expect(changes.listening).toBe(false);
    way.hears();
    await eventually(() => changes.listening);
  } finally {
    leaving.abort();
    vi.useRealTimers();
    await changes.close();
    await way.close();
  }
});
