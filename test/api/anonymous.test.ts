import type { IncomingMessage } from 'node:http';
import { describe, expect, test } from 'vitest';
import { ACCOUNT_READ_EVERY_MS, ChannelAccounts } from '../../src/api/channel-accounts.ts';
import { ASKED_EVERY_MS, FailedLookups, MISSES_A_MINUTE } from '../../src/api/http/failed-lookups.ts';
import { UNVERIFIED_A_MINUTE } from '../../src/api/routes/callbacks.ts';
import type { Refusal } from '../../src/domain/refusal.ts';
import {
  accountReads,
  api,
  bogus,
  clock,
  database,
  exhaustCallbacks,
  forged,
  forgedCallback,
  isCombinedLookup,
  key,
  now,
  paymentOfNewAccount,
  queries,
  statements,
  textOf,
} from './anonymous-support.ts';
import type { TestApi } from './support.ts';
import { type Call, newKey, pay, SECRET, simulatorCallback, startTestApi } from './support.ts';

// Tests requests without valid credentials. Beyond their limit they cause no SQL statement, and they never block a
// caller with a valid key, token or signature.

/**
 * Starts to count the combined lookups.
 * @returns a function that returns the number of combined lookups, and checks that there was at most one per second
 */
function countCombinedLookups() {
  const since = queries.mock.calls.length;
  const startedAt = performance.now();
  return () => {
    const count = queries.mock.calls.slice(since).map(textOf).filter(isCombinedLookup).length;
    // The subtraction allows for timers that fire a millisecond early.
    const seconds = (performance.now() - startedAt) / (ASKED_EVERY_MS - 2);
    expect(count).toBeLessThanOrEqual(1 + Math.ceil(seconds));
    return count;
  };
}
/** Sends slightly more failed lookups than the limit allows. */
async function exhaustMisses(to: TestApi, headers: Record<string, string> = {}) {
  for (let n = 0; n <= MISSES_A_MINUTE; n += 1)
    await to.call('/v1/payments', { key: `sk_${bogus()}`, headers });
}
const payment = await pay(api, key);

describe('the SQL queries of anonymous requests', () => {
  const ofPayment = `/v1/payments/${payment.id}`;
  test.each<[string, () => [path: string, call?: Call]]>([
    ['an unknown key', () => ['/v1/payments?limit=1', { key: `sk_${bogus()}` }]],
    ['an unknown key, to create a payment', () => ['/v1/payments', { key: `sk_${bogus()}`, body: {} }]],
    ['an unknown token', () => [ofPayment, { key: `ct_${bogus()}` }]],
    ['an unknown token and payment', () => [`/v1/payments/${bogus()}`, { key: `ct_${bogus()}` }]],
    ['an unknown token, for a hint', () => [`${ofPayment}/hint`, { key: `ct_${bogus()}`, method: 'POST' }]],
    [
      'an unknown token, for a channel switch',
      () => [`${ofPayment}/switch`, { key: `ct_${bogus()}`, body: { channel: 'simulator2' } }],
    ],
    ['an unknown token, for the event stream', () => [`${ofPayment}/events`, { key: `ct_${bogus()}` }]],
    ['an unknown token, for the cashier page', () => [`/checkout/${payment.id}?token=ct_${bogus()}`]],
    ['an unknown token, for the return URL', () => [`/return/${payment.id}?token=ct_${bogus()}`]],
    ['an unknown account', () => [`/callbacks/simulator/acc_${bogus()}`, forgedCallback({})]],
    ['a callback that names nothing', () => ['/callbacks/simulator', forgedCallback({})]],
    [
      'a callback that names a payment',
      () => ['/callbacks/simulator', forgedCallback({ data: { outTradeNo: payment.id } })],
    ],
    [
      'a callback that names no payment',
      () => ['/callbacks/simulator', forgedCallback({ data: { outTradeNo: bogus() } })],
    ],
  ])('a request with %s costs no SQL once its address is beyond the limit', async (_, door) => {
    const before = [];
    for (let n = 0; n < 150 && before.at(-1) !== 429; n += 1) before.push((await api.call(...door())).status);
    expect(before.at(-1)).toBe(429);
    expect([MISSES_A_MINUTE, UNVERIFIED_A_MINUTE]).toContain(before.length - 1);
    const since = queries.mock.calls.length;
    const combinedLookups = countCombinedLookups();
    for (let wave = 0; wave < 4; wave += 1) {
      for (const answer of await Promise.all(Array.from({ length: 50 }, () => api.call(...door())))) {
        expect([answer.status, answer.json.code]).toEqual([429, 'too_many_requests']);
        expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
      }
    }
    expect(statements(since)).toEqual([]);
    combinedLookups();
    clock.now += 60_000;
    expect((await api.call(...door())).status).not.toBe(429);
  });

  test('a request without a token, or with an id that no payment can have, costs no SQL', async () => {
    const since = queries.mock.calls.length;
    expect((await api.call(`/return/${payment.id}`)).status).toBe(404);
    expect((await api.call(`/checkout/${payment.id}`)).status).toBe(200);
    expect((await api.call('/v1/payments/a%00b', { key: 'ct_x' })).status).toBe(401);
    expect((await api.call('/callbacks/simulator/a%00b', forgedCallback({}))).status).toBe(404);
    expect(statements(since)).toEqual([]);
  });

  test('an unknown key that is sent repeatedly causes one SQL query, and counts once towards the limit', async () => {
    const since = queries.mock.calls.length;
    for (let n = 0; n < 2 * MISSES_A_MINUTE; n += 1) {
      expect((await api.call('/v1/payments?limit=1', { key: 'sk_always_the_same' })).status).toBe(401);
    }
    expect(statements(since)).toHaveLength(1);
    for (let n = 1; n < MISSES_A_MINUTE; n += 1) {
      expect((await api.call('/v1/payments', { key: `sk_${bogus()}` })).status).toBe(401);
    }
    expect((await api.call('/v1/payments', { key: `sk_${bogus()}` })).status).toBe(429);
  });

  test('requests beyond the limit cost no SQL even if all requests arrive at the same time', async () => {
    const since = queries.mock.calls.length;
    const combinedLookups = countCombinedLookups();
    const answers = await Promise.all(
      Array.from({ length: 200 }, () => api.call('/v1/payments', { key: `sk_${bogus()}` })),
    );
    const refused = answers.filter(({ status }) => status === 429);
    expect(refused).toHaveLength(200 - MISSES_A_MINUTE);
    expect(statements(since).length).toBeLessThanOrEqual(MISSES_A_MINUTE);
    combinedLookups();
  });

  test('the counts of unverified callbacks are written in one statement, however many callbacks arrived', async () => {
    await exhaustCallbacks(api);
    for (let wave = 0; wave < 5; wave += 1) {
      await Promise.all(Array.from({ length: 20 }, () => forged(api, { wave })));
    }
    await api.unverified.flush();
    const rows = await api.db.unverifiedCallbackCount.findMany({ where: { minute: now() } });
    expect(rows).toMatchObject([{ address: '127.0.0.1', count: UNVERIFIED_A_MINUTE + 1 + 100 }]);
    const kept = await api.db.unverifiedCallback.count({ where: { receivedAt: now() } });
    expect(kept).toBe(UNVERIFIED_A_MINUTE);

    const { id: accountId } = await api.db.channelAccount.findFirstOrThrow();
    clock.now += 60_000;
    const since = queries.mock.calls.length;
    for (let n = 0; n < 500; n += 1) {
      api.unverified.add(accountId, '192.0.2.1', Buffer.from(`${n}`), 'forged', now());
    }
    await api.unverified.flush();
    const written = queries.mock.calls.slice(since).map(textOf);
    // Three SQL statements are expected. They read the counts, the number of stored callbacks, and the callbacks.
    expect(written.filter((text) => /unverified_callback/.test(text))).toHaveLength(3);
  });
});

describe('an address beyond its limit', () => {
  test('a key that this process has already read is accepted from an address beyond its limit', async () => {
    await exhaustMisses(api);
    for (let n = 0; n < 3; n += 1) expect((await api.call('/v1/payments', { key })).status).toBe(200);
  });

  test('every valid token works from an address beyond its limit', async () => {
    const other = await pay(api, key);
    await exhaustMisses(api);
    const token = other.clientToken;
    expect((await api.call(`/v1/payments/${other.id}`, { key: token })).status).toBe(200);
    expect((await api.call(`/checkout/${other.id}?token=${token}`)).status).toBe(200);
    expect((await api.call(`/return/${other.id}?token=${token}`)).status).toBe(303);
    expect((await api.call(`/v1/payments/${other.id}/hint`, { key: token, method: 'POST' })).status).toBe(
      202,
    );
  });

  test('verified callbacks are accepted from an address beyond its limit', async () => {
    const other = await pay(api, key);
    await exhaustMisses(api);
    await exhaustCallbacks(api);
    expect((await forged(api, {})).status).toBe(429);
    expect((await api.call('/callbacks/simulator', simulatorCallback(other.id))).status).toBe(200);
    expect(await api.db.callback.count({ where: { paymentId: other.id } })).toBe(1);
  });

  test('from an address beyond its limit, a verified callback is accepted even if this process has not read its account yet', async () => {
    const fresh = await startTestApi(database.url, { now });
    try {
      await exhaustMisses(fresh);
      const { accountId, id } = await paymentOfNewAccount();
      const path = `/callbacks/simulator/${accountId}`;
      expect((await fresh.call(path, simulatorCallback(id))).status).toBe(200);
      // The query that reads one new account also reads all other accounts, including the default account.
      let since = queries.mock.calls.length;
      const defaultOne = await fresh.call('/callbacks/simulator', simulatorCallback(payment.id));
      expect(defaultOne.status).toBe(200);
      expect(accountReads(since)).toEqual([]);
      // A new account is read by the next query of the accounts. There is at most one such query in 2 s.
      const later = await paymentOfNewAccount();
      since = queries.mock.calls.length;
      const call = () => fresh.call(`/callbacks/simulator/${later.accountId}`, simulatorCallback(later.id));
      const unknown = await forged(fresh, {}, '/callbacks/simulator/acc_nobody');
      expect([unknown.status, unknown.headers.get('retry-after')]).toEqual([429, '2']);
      expect((await call()).status).toBe(429);
      expect(accountReads(since)).toEqual([]);
      clock.now += ACCOUNT_READ_EVERY_MS;
      expect((await forged(fresh, {}, '/callbacks/simulator/acc_nobody')).status).toBe(429);
      expect((await call()).status).toBe(200);
      expect(accountReads(since)).toHaveLength(1);
    } finally {
      await fresh.close();
    }
  });

  test('all addresses beyond the limit together cause at most one query for accounts in 2 s', async () => {
    const accounts = new ChannelAccounts(api.db, SECRET, new FailedLookups(now, async () => new Set()), now);
    const find = (id: string) =>
      accounts.find({ channel: 'simulator', id }, '192.0.2.1').catch(({ code }: Refusal) => code);
    const since = queries.mock.calls.length;
    for (let n = 0; n < MISSES_A_MINUTE; n += 1) expect(await find(`acc_${bogus()}`)).toBeNull();
    expect(accountReads(since)).toHaveLength(MISSES_A_MINUTE);
    const { accountId } = await paymentOfNewAccount();
    const other = await paymentOfNewAccount();
    const found = async (wanted: string) => {
      const from = queries.mock.calls.length;
      const all = await Promise.all([
        ...Array.from({ length: 20 }, () => find(wanted)),
        ...Array.from({ length: 2_000 }, (_, n) => find(`acc_other_${n}`)),
      ]);
      expect(all.slice(0, 20)).toEqual(Array(20).fill(expect.objectContaining({ id: wanted })));
      expect(new Set(all.slice(20))).toEqual(new Set(['too_many_requests']));
      return accountReads(from);
    };
    expect(await found(accountId)).toHaveLength(1);
    expect(await found(other.accountId)).toEqual([]);
    clock.now += ACCOUNT_READ_EVERY_MS;
    const young = await paymentOfNewAccount();
    const [read] = await found(young.accountId);
    const [{ values }] = read as unknown as [{ values: [unknown] }];
    expect(new Date(String(values[0])).getTime()).toBeGreaterThan(0);
    // This lookup must return the same fields as `readNow`, because nodrop would treat a difference as a change of the
    // account.
    expect(await find(young.accountId)).toEqual(
      await accounts.readNow({ channel: 'simulator', id: young.accountId }),
    );
  });

  test('a valid key that this process has not read yet is accepted even while many unknown keys arrive', async () => {
    await exhaustMisses(api);
    const others: { key: string }[] = [];
    for (let n = 0; n < 5; n += 1) others.push(await newKey(api.db));
    const since = queries.mock.calls.length;
    const combinedLookups = countCombinedLookups();
    const flood = Array.from({ length: 200 }, () => api.call('/v1/payments', { key: `sk_${bogus()}` }));
    const answers = await Promise.all(others.map(({ key: of }) => api.call('/v1/payments', { key: of })));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
    expect(new Set((await Promise.all(flood)).map(({ status }) => status))).toEqual(new Set([429]));
    combinedLookups();
    // For each request, nodrop reads the API key and the payments. Prisma combines some of these reads.
    expect(statements(since).length).toBeLessThanOrEqual(2 * others.length);
  });
});

test('many new keys that arrive at the same time do not count as failed lookups', async () => {
  const others: { key: string }[] = [];
  for (let n = 0; n < 2 * MISSES_A_MINUTE; n += 1) others.push(await newKey(api.db));
  const answers = await Promise.all(
    others.map(({ key: of }) => api.call('/v1/payments?limit=1', { key: of })),
  );
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
  expect((await api.call('/v1/payments', { key: `sk_${bogus()}` })).status).toBe(401);
});

test('many simultaneous requests with one new key do not count as failed lookups', async () => {
  const other = await newKey(api.db);
  const answers = await Promise.all(
    Array.from({ length: 2 * MISSES_A_MINUTE }, () => api.call('/v1/payments?limit=1', { key: other.key })),
  );
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
  await exhaustMisses(api);
  const { count } = await api.db.apiKey.updateMany({
    where: { merchantId: other.merchantId },
    data: { revokedAt: now() },
  });
  expect(count).toBe(1);
  expect((await api.call('/v1/payments', { key: other.key })).status).toBe(401);
  const since = queries.mock.calls.length;
  expect((await api.call('/v1/payments', { key: other.key })).status).toBe(401);
  expect(statements(since)).toEqual([]);
});

test('a token that was issued under an earlier secret gives access to its payment, even from an address beyond its limit', async () => {
  const { id, clientToken } = await pay(api, key);
  const rotated = await startTestApi(database.url, {
    now,
    config: { ...api.deps.config, secret: 'another secret of at least thirty-two characters' },
  });
  try {
    expect((await rotated.call(`/v1/payments/${id}`, { key: clientToken })).status).toBe(200);
    await exhaustMisses(rotated);
    expect((await rotated.call(`/v1/payments/${id}`, { key: clientToken })).status).toBe(200);
    // The API also accepts a valid token that this process has not read yet.
    const other = await pay(api, key);
    const ofOther = { key: other.clientToken };
    expect((await rotated.call(`/v1/payments/${id}`, ofOther)).status).toBe(429);
    expect((await rotated.call(`/v1/payments/${other.id}`, ofOther)).status).toBe(200);
    // A request with an expired token causes no SQL statement except the combined lookup.
    const ended = await pay(api, key);
    await api.db.payment.update({ where: { id: ended.id }, data: { expiresAt: new Date(0) } });
    const since = queries.mock.calls.length;
    expect((await rotated.call(`/v1/payments/${ended.id}`, { key: ended.clientToken })).status).toBe(429);
    expect(statements(since)).toEqual([]);
  } finally {
    await rotated.close();
  }
});

describe('X-Forwarded-For', () => {
  const started = async (trustedProxies: readonly string[]) =>
    await startTestApi(database.url, {
      now,
      config: { ...api.deps.config, api: { ...api.deps.config.api, trustedProxies } },
    });
  const from = (to: TestApi, forwarded: string) =>
    to.call('/v1/payments', { key: `sk_${bogus()}`, headers: { 'x-forwarded-for': forwarded } });

  test('X-Forwarded-For is ignored by default, so that all senders behind a proxy share one limit', async () => {
    await exhaustMisses(api, { 'x-forwarded-for': '192.0.2.1' });
    expect((await from(api, '192.0.2.2')).status).toBe(429);
  });

  test('behind a trusted proxy, each address in X-Forwarded-For has its own limit, and all IPv6 addresses of a /64 share one limit', async () => {
    const behind = await started(['loopback']);
    try {
      await exhaustMisses(behind, { 'x-forwarded-for': '198.51.100.1' });
      expect((await from(behind, '198.51.100.1')).status).toBe(429);
      // The first address in this header comes from the sender. The proxy added the second address.
      expect((await from(behind, '203.0.113.9, 198.51.100.1')).status).toBe(429);
      expect((await from(behind, '198.51.100.2')).status).toBe(401);
      await exhaustMisses(behind, { 'x-forwarded-for': '2001:db8:1:200::1' });
      expect((await from(behind, '2001:db8:1:200:a:b:c:d')).status).toBe(429);
      expect((await from(behind, '2001:db8:1:201::1')).status).toBe(401);
      // If the value of the header is not an address, the request counts against the limit of the proxy itself.
      for (let n = 0; n <= MISSES_A_MINUTE; n += 1) await from(behind, `nonsense-${n}`);
      expect((await from(behind, 'more-nonsense')).status).toBe(429);
    } finally {
      await behind.close();
    }
  });

  test('the X-Forwarded-For of an untrusted address is ignored', async () => {
    const behind = await started(['192.0.2.0/24']);
    const comeFrom = (address: string) => (request: IncomingMessage) =>
      void Object.defineProperty(request.socket, 'remoteAddress', { value: address, configurable: true });
    let remote = comeFrom('198.51.100.1');
    behind.server.prependListener('request', (request) => remote(request));
    try {
      for (let n = 0; n <= MISSES_A_MINUTE; n += 1) await from(behind, `203.0.113.${n}`);
      expect((await from(behind, '203.0.113.200')).status).toBe(429);
      remote = comeFrom('192.0.2.7');
      expect((await from(behind, '203.0.113.200')).status).toBe(401);
    } finally {
      await behind.close();
    }
  });
});
