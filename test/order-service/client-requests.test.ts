import { createHmac } from 'node:crypto';
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { LookupFunction, Socket } from 'node:net';
import { Webhook } from 'standardwebhooks';
import { describe, expect, test } from 'vitest';
import { OrderServiceClient, urlFault } from '../../src/order-service/client.ts';
import { newSecret } from '../../src/order-service/secrets.ts';
import { eventually } from '../support/stack.ts';
import {
  answering,
  BODY,
  listening,
  near,
  SECRET,
  serve,
  targetOf,
  tell,
  told,
  US,
} from './client-support.ts';

// Tests that requests to an order service are signed, and that they are sent to private addresses only if these are
// allowed.

const guarded = new OrderServiceClient({ allowPrivate: false });

describe('signatures of requests to the order service', () => {
  test('match the test vector of the standard', async () => {
    const { url, heard } = await answering(200, '');
    await near.deliver(targetOf(url, { secrets: ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'] }), {
      id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
      paymentId: US,
      body: '{"test": 2432232314}',
      at: new Date(1_614_265_330_999),
    });
    expect(heard[0]).toMatchObject({
      method: 'POST',
      url: '/hooks',
      body: '{"test": 2432232314}',
      headers: {
        'content-type': 'application/json',
        'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
        'webhook-timestamp': '1614265330',
        'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
      },
    });
  });

  test("contain one signature for each secret, the current secret's first, and the library accepts each of them", async () => {
    const secrets = [newSecret(), newSecret(), newSecret()];
    const { url, heard } = await answering(200, '');
    await near.deliver(targetOf(url, { secrets }), {
      id: 'evt_1',
      paymentId: US,
      body: BODY,
      at: new Date(),
    });
    const [{ headers, body } = { headers: {}, body: '' }] = heard;
    const given = headers as Record<string, string>;
    for (const secret of secrets) expect(new Webhook(secret).verify(body, given)).toEqual(JSON.parse(BODY));
    expect(() => new Webhook(newSecret()).verify(body, given)).toThrow('No matching signature');
    const first = given['webhook-signature']?.split(' ')[0] ?? '';
    expect(new Webhook(secrets[0] ?? '').verify(body, { ...given, 'webhook-signature': first })).toBeTruthy();
  });

  // Checks the signature as
  // https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md describes, with
  // node:crypto only.
  function verifies(secret: string, headers: IncomingHttpHeaders, body: string): boolean {
    const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
    const text = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`;
    const expected = createHmac('sha256', key).update(text, 'utf8').digest('base64');
    const fresh = Math.abs(Date.now() / 1000 - Number(headers['webhook-timestamp'])) < 300;
    return fresh && String(headers['webhook-signature']).split(' ').includes(`v1,${expected}`);
  }

  test('can be verified by a receiver with independent code, and are invalid after any change', async () => {
    const secrets = [SECRET, newSecret()];
    const { url, heard } = await answering(200, '{"paidPaymentId":null}');
    const target = targetOf(url, { secrets, statusUrl: `${url}/{orderId}` });
    await near.deliver(target, { id: 'evt_1', paymentId: US, body: BODY, at: new Date() });
    await near.read(target, 'order-1', US, new Date());
    expect(heard.map(({ body }) => body)).toEqual([BODY, '']);
    for (const { headers, body } of heard) {
      for (const secret of secrets) expect(verifies(secret, headers, body)).toBe(true);
      expect(verifies(newSecret(), headers, body)).toBe(false);
      expect(verifies(SECRET, headers, `${body} `)).toBe(false);
      expect(verifies(SECRET, { ...headers, 'webhook-id': 'evt_2' }, body)).toBe(false);
      expect(verifies(SECRET, { ...headers, 'webhook-timestamp': '1614265330' }, body)).toBe(false);
    }
  });

  test('are sent in requests with a fixed list of headers, without cookies or keys', async () => {
    const { url, heard } = await answering(200, '');
    await tell(url);
    expect(Object.keys(heard[0]?.headers ?? {}).sort()).toEqual([
      'accept',
      'accept-encoding',
      'connection',
      'content-length',
      'content-type',
      'host',
      'user-agent',
      'webhook-id',
      'webhook-signature',
      'webhook-timestamp',
    ]);
  });
});

describe('private and link-local addresses', () => {
  const REFUSED =
    'It was not called: its address is private, and NODROP_ALLOW_PRIVATE_ORDER_SERVICES does not allow that.';

  test.each([
    '127.0.0.1',
    '127.8.9.10',
    '[::1]',
    '[::]',
    '0.0.0.0',
    '[::ffff:127.0.0.1]',
    '[::ffff:7f00:1]',
    '[::ffff:10.0.0.1]',
    '10.0.0.1',
    '172.16.0.1',
    '192.168.1.1',
    '100.64.0.1',
    '169.254.169.254',
    '[fc00::1]',
    '[fd12:3456::1]',
    '[fe80::1]',
    '[64:ff9b::7f00:1]',
    '[2002:7f00:1::]',
    '224.0.0.1',
    '255.255.255.255',
    // The same private addresses in other notations.
    'localhost',
    'LOCALHOST',
    '2130706433',
    '0x7f000001',
    '0177.0.0.1',
    '127.1',
    '127.0.0.1.',
    '017700000001',
    '[::ffff:0:127.0.0.1]',
    '①②⑦.0.0.1',
  ])('%s is refused for a delivery and for a read-back, and no connection is opened', async (host) => {
    const connected: Socket[] = [];
    const server = createServer((_, response) => response.end(JSON.stringify({ paidPaymentId: US })));
    server.on('connection', (socket) => connected.push(socket));
    const port = await listening(server, '::');
    for (const protocol of ['http', 'https']) {
      const url = `${protocol}://${host}:${port}/`;
      expect(await told(url, guarded)).toEqual({ kind: 'unknown', statusCode: null, reason: REFUSED });
      const target = targetOf('https://shop.example/', { statusUrl: `${url}{orderId}` });
      expect(await guarded.read(target, 'order-1', US, new Date())).toMatchObject({
        kind: 'unknown',
        reason: `Read back: ${REFUSED}`,
      });
    }
    expect(connected).toEqual([]);
  });

  /** The IP addresses that each host name has in this test. */
  const leadingTo = (...addresses: { address: string; family: number }[]): { lookup: LookupFunction } => ({
    lookup: (_name, { all }, done) => {
      if (all) done(null, addresses);
      else done(null, addresses[0]?.address ?? '', addresses[0]?.family);
    },
  });

  test.each([
    [[{ address: '127.0.0.1', family: 4 }]],
    [[{ address: '169.254.169.254', family: 4 }]],
    [[{ address: 'fd00::1', family: 6 }]],
    [[{ address: '::ffff:127.0.0.1', family: 6 }]],
    [[{ address: '::ffff:7f00:1', family: 6 }]],
    [[{ address: '::1', family: 6 }]],
    [[{ address: '::', family: 6 }]],
    [[{ address: '0.0.0.0', family: 4 }]],
    [[{ address: '64:ff9b::7f00:1', family: 6 }]],
    // The request is refused even if only one of several addresses is private, because the system may choose the
    // private address.
    [
      [
        { address: '93.184.216.34', family: 4 },
        { address: '127.0.0.1', family: 4 },
      ],
    ],
  ])('a public host name that resolves to %j is refused', async (addresses) => {
    const { heard, port } = await answering(200, '');
    const client = new OrderServiceClient({ allowPrivate: false, ...leadingTo(...addresses) });
    expect(await told(`http://shop.example:${port}/`, client)).toMatchObject({ reason: REFUSED });
    expect(heard).toEqual([]);
  });

  test('the host name is resolved and checked on every call, because its address may change', async () => {
    const { heard, port } = await answering(200, '');
    const url = `http://shop.example:${port}/`;
    const addresses = [{ address: '127.0.0.1', family: 4 }];
    const lookup: LookupFunction = (...args) => leadingTo(...addresses).lookup(...args);
    // This test uses one client for both calls, to show that the client does not cache addresses.
    const client = new OrderServiceClient({ allowPrivate: true, lookup });
    expect(await told(url, client)).toMatchObject({ kind: 'agreed' });
    addresses[0] = { address: '169.254.1.1', family: 4 };
    expect(await told(url, client)).toMatchObject({
      kind: 'unknown',
      reason:
        'It was not called: its address is a link-local or cloud metadata address, which is never allowed.',
    });
    addresses[0] = { address: '127.0.0.1', family: 4 };
    expect(await told(url, client)).toMatchObject({ kind: 'agreed' });
    expect(heard).toHaveLength(2);
  });

  test('private addresses can be called if the deployment allows them', async () => {
    const answer = JSON.stringify({ paidPaymentId: US });
    const { port, heard } = await answering(200, answer);
    for (const host of ['127.0.0.1', 'localhost', '2130706433', '[::ffff:127.0.0.1]']) {
      const url = `http://${host}:${port}/`;
      expect(await told(url)).toEqual({ kind: 'agreed', statusCode: 200, answer });
      expect((await near.read(targetOf(url, { statusUrl: url }), 'o', US, new Date())).kind).toBe('paid');
    }
    expect(heard).toHaveLength(8);
  });

  test.each([
    [
      [
        '169.254.169.254',
        '[fe80::1]',
        '[fd00:ec2::254]',
        '[::ffff:169.254.169.254]',
        '[64:ff9b::169.254.169.254]',
        '0xa9fea9fe',
      ],
      false,
    ],
    [['169.254.169.254', '[fe80::1]', '[64:ff9b::a9fe:a9fe]', '100.100.100.200'], true],
  ])(
    'link-local and cloud metadata addresses are never called: %j (https required for public addresses: %s)',
    async (hosts, httpsOnly) => {
      const client = new OrderServiceClient({ allowPrivate: true, httpsOnly });
      const reason =
        'It was not called: its address is a link-local or cloud metadata address, which is never allowed.';
      for (const host of hosts) expect(await told(`http://${host}/`, client)).toMatchObject({ reason });
      const lookup = leadingTo({ address: '127.0.0.1', family: 4 }, { address: '169.254.1.1', family: 4 });
      const named = new OrderServiceClient({ allowPrivate: true, httpsOnly, ...lookup });
      for (const protocol of ['http', 'https'])
        expect(await told(`${protocol}://shop.example/`, named)).toMatchObject({ reason });
    },
  );

  test('if https is required, http can be used only for private addresses', async () => {
    const { port, heard } = await answering(200, '');
    const client = new OrderServiceClient({ allowPrivate: true, httpsOnly: true });
    expect(await told(`http://127.0.0.1:${port}/`, client)).toEqual({ kind: 'agreed', statusCode: 200 });
    const reason = 'It was not called: its address is public, and public addresses need https.';
    expect(await told(`http://93.184.216.34:${port}/`, client)).toMatchObject({ reason });
    const lookup = leadingTo({ address: '93.184.216.34', family: 4 });
    const named = new OrderServiceClient({ allowPrivate: true, httpsOnly: true, ...lookup });
    expect(await told(`http://shop.example:${port}/`, named)).toMatchObject({ reason });
    expect(heard).toHaveLength(1);
  });
});

describe('URLs', () => {
  test.each<[string, string | undefined]>([
    ['https://shop.example/hooks?a=1', undefined],
    ['http://shop.example', undefined],
    ['shop.example', 'is not a URL'],
    ['', 'is not a URL'],
    ['ftp://shop.example/', 'must be an http or https URL'],
    ['file:///etc/passwd', 'must be an http or https URL'],
    ['javascript:alert(1)', 'must be an http or https URL'],
    ['https://user@shop.example/', 'must have no user name or password: events are signed'],
    ['https://:pass@shop.example/', 'must have no user name or password: events are signed'],
    ['https://shop.example/#top', 'must have no #'],
  ])('the URL "%s" has the fault: %s', async (url, fault) => {
    expect(urlFault(url, {})).toBe(fault);
    if (fault === undefined) return;
    expect(await told(url)).toEqual({
      kind: 'unknown',
      statusCode: null,
      reason: `It was not called: its address ${fault}.`,
    });
  });

  test('if https is required, an http URL is refused, even if it is already stored', async () => {
    expect(urlFault('http://shop.example/', { httpsOnly: true })).toBe('must be an https URL');
    expect(urlFault('https://shop.example/', { httpsOnly: true })).toBeUndefined();
    const { url, heard } = await answering(200, '');
    const strict = new OrderServiceClient({ allowPrivate: false, httpsOnly: true });
    expect(await told(url, strict)).toMatchObject({
      reason: 'It was not called: its address must be an https URL.',
    });
    expect(heard).toEqual([]);
  });
});

test('at least 50 calls to order services can run at the same time', async () => {
  const held: ServerResponse[] = [];
  const { url } = await serve((response) => {
    held.push(response);
  });
  const all = Promise.all(Array.from({ length: 50 }, () => tell(url)));
  await eventually(() => held.length === 50);
  for (const response of held) response.end();
  expect((await all).every(({ kind }) => kind === 'agreed')).toBe(true);
});
