import { createSocket } from 'node:dgram';
import { createServer } from 'node:http';
import type { AddressInfo, LookupFunction } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { OrderServiceClient } from '../../src/order-service/client.ts';
import { createLookup } from '../../src/order-service/lookup.ts';
import { newSecret } from '../../src/order-service/secrets.ts';

// Tests the DNS lookup of order services' host names with a simulated name server.

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

/**
 * A name server that knows these names. It does not answer names that begin with `hang`, and answers "no such
 * name" to all others.
 */
async function startNameServer(names: Record<string, readonly number[]>) {
  const asked: string[] = [];
  const socket = createSocket('udp4');
  socket.on('message', (query, from) => {
    const labels: string[] = [];
    let at = 12;
    for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
      labels.push(query.subarray(at + 1, at + 1 + length).toString());
      at += 1 + length;
    }
    const name = labels.join('.');
    const type = query.readUInt16BE(at + 1);
    asked.push(`${name} ${type}`);
    if (name.startsWith('hang')) return;
    const address = names[name];
    const isFound = address !== undefined && type === 1;
    const head = Buffer.alloc(12);
    query.copy(head, 0, 0, 2);
    head.writeUInt16BE(address === undefined ? 0x8183 : 0x8180, 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt16BE(isFound ? 1 : 0, 6);
    const answer = isFound
      ? Buffer.from([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, ...address])
      : Buffer.alloc(0);
    socket.send(Buffer.concat([head, query.subarray(12, at + 5), answer]), from.port, from.address);
  });
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  closers.push(() => socket.close());
  return { asked, address: `127.0.0.1:${(socket.address() as AddressInfo).port}` };
}

const find = (lookup: LookupFunction, name: string): Promise<unknown> =>
  new Promise((resolve) => {
    lookup(name, { all: true }, (error, addresses) => resolve(error === null ? addresses : error.code));
  });

test('a lookup whose name server hangs fails temporarily, and does not delay the lookup of other names', async () => {
  const server = await startNameServer({ 'shop.example': [93, 184, 216, 34] });
  const lookup = createLookup({ nameServers: [server.address], timeoutMs: 1_000 });
  let ended = 0;
  const hanging = [...Array(20)].map(async (_, i) => {
    const outcome = await find(lookup, `hang-${i}.example`);
    ended += 1;
    return outcome;
  });
  expect(await find(lookup, 'shop.example')).toEqual([{ address: '93.184.216.34', family: 4 }]);
  expect(ended).toBe(0);
  expect(new Set(await Promise.all(hanging))).toEqual(new Set(['EAI_AGAIN']));
});

test('a name in the hosts file gets its address from this file, and an unknown name has no address', async () => {
  const server = await startNameServer({});
  const lookup = createLookup({ nameServers: [server.address], timeoutMs: 5_000 });
  expect(await find(lookup, 'localhost')).toContainEqual({ address: '127.0.0.1', family: 4 });
  expect(server.asked).toEqual([]);
  expect(['ENOTFOUND', 'EAI_AGAIN']).toContain(await find(lookup, 'nobody.invalid'));
  expect(server.asked.toSorted()).toEqual(['nobody.invalid 1', 'nobody.invalid 28']);
});

test('a lookup of a host name returns one address of the requested family', async () => {
  const server = await startNameServer({ 'shop.example': [93, 184, 216, 34] });
  const lookup = createLookup({ nameServers: [server.address], timeoutMs: 5_000 });
  const one = (family: 4 | 6) =>
    new Promise((resolve) => {
      lookup('shop.example', { family }, (error, address) => resolve(error?.code ?? address));
    });
  expect([await one(4), await one(6)]).toEqual(['93.184.216.34', 'ENOTFOUND']);
});

test('a public host name is not called if it resolves to this machine or to a private network', async () => {
  const called: string[] = [];
  const here = createServer((request, response) => {
    called.push(request.url ?? '');
    response.end();
  });
  await new Promise<void>((resolve) => here.listen(0, '127.0.0.1', resolve));
  closers.push(() => here.close());
  const server = await startNameServer({
    'here.shop.example': [127, 0, 0, 1],
    'any.shop.example': [0, 0, 0, 0],
    'cloud.shop.example': [169, 254, 169, 254],
  });
  const lookup = createLookup({ nameServers: [server.address], timeoutMs: 300 });
  const client = new OrderServiceClient({ allowPrivate: false, lookup });
  const { port } = here.address() as AddressInfo;
  const message = { id: 'evt_1', paymentId: 'pay_1', body: '{}', at: new Date() };
  for (const name of ['here', 'any', 'cloud']) {
    const url = `http://${name}.shop.example:${port}/`;
    const target = { url, statusUrl: null, secrets: [newSecret()] };
    expect(await client.deliver(target, message)).toMatchObject({
      kind: 'unknown',
      statusCode: null,
      reason: expect.stringMatching(/^It was not called: its address is private/),
    });
  }
  expect(called).toEqual([]);
});
