import { type AddressInfo, createServer, connect as dial, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Changes } from '../../src/api/changes.ts';
import { eventually, type FreshDatabase, freshDatabase } from '../support/stack.ts';

/** A connection that can do everything but hear, as behind a pooler that lends it to others, is none to rely on. */

let database: FreshDatabase;
beforeAll(async () => {
  database = await freshDatabase();
});
afterAll(async () => {
  await database?.drop();
});

/** On the way to the database every LISTEN becomes one for another channel: it succeeds, and nothing is heard. */
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
    onward.pipe(client);
    client.on('data', (data) => {
      const text = data.toString('latin1');
      onward.write(isDeaf ? Buffer.from(text.replace('LISTEN nodrop', 'LISTEN nobody'), 'latin1') : data);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = new URL(databaseUrl);
  url.hostname = '127.0.0.1';
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.toString(),
    hearsAgain() {
      isDeaf = false;
      for (const socket of sockets) socket.destroy();
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

test('waiters look for themselves until it hears', async () => {
  const way = await startDeafWay(database.url);
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
    way.hearsAgain();
    await eventually(() => changes.listening);
  } finally {
    await changes.close();
    await way.close();
  }
});
