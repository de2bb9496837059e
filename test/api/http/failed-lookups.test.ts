import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import {
  ASKED_EVERY_MS,
  FailedLookups,
  MISSES_A_MINUTE,
  MISSES_A_MINUTE_IN_ALL,
  NAMES_AT_ONCE,
  NAMES_OF_ADDRESS,
  type Name,
} from '../../../src/api/http/failed-lookups.ts';
import { Refusal } from '../../../src/domain/refusal.ts';

// Tests how many unknown names (keys, tokens, accounts) nodrop looks up, and which names it refuses without a lookup.

const START = 1_000_000_020_000;
beforeEach(() => void vi.useFakeTimers({ now: START, toFake: ['setTimeout', 'Date'] }));
afterEach(() => void vi.useRealTimers());

/**
 * Creates a fake database that has the names `existing`. Records each lookup of a single name, and each combined lookup
 * of all waiting names.
 */
function setUp(...existing: string[]) {
  const exists = new Set(existing);
  const single: string[] = [];
  const combined: (readonly string[])[] = [];
  let hold: Promise<unknown> = Promise.resolve();
  const failedLookups = new FailedLookups(
    () => new Date(),
    async (names) => {
      combined.push(names);
      await hold;
      return new Set(names.filter((name) => exists.has(name)));
    },
  );
  const lookUp = (name: Name, address = 'a') =>
    failedLookups.lookUp(address, name, async () => {
      single.push(name);
      await hold;
      return exists.has(name) ? name : null;
    });
  /** The result of looking up a name: the name itself, or the code of the refusal. */
  const resultOf = (name: Name, address?: string) =>
    lookUp(name, address).catch((error: unknown) => {
      if (error instanceof Refusal) return error.code;
      throw error;
    });
  return {
    ...{ exists, failedLookups, single, combined, lookUp, resultOf },
    /**
     * Holds all answers until the returned function is called. If that function is called with an error, every held
     * answer fails with this error.
     */
    hold: () => {
      let release: (error?: Error) => void = () => undefined;
      hold = new Promise<void>((resolve, reject) => {
        release = (error) => (error === undefined ? resolve() : reject(error));
      });
      hold.catch(() => undefined);
      return (error?: Error) => release(error);
    },
    exhaust: async (address?: string) => {
      for (let n = 0; n < MISSES_A_MINUTE; n += 1) await resultOf(`key/bad-${address}-${n}`, address);
    },
  };
}

const second = () => vi.advanceTimersByTimeAsync(ASKED_EVERY_MS);
const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

test('lookups in progress do not count as failed, and names beyond the limit of concurrent lookups wait for a combined lookup', async () => {
  const names = numbers(3 * MISSES_A_MINUTE).map((n): Name => `key/${n}`);
  const { resultOf, hold, single, combined } = setUp(...names);
  const release = hold();
  const all = Promise.all(names.map((name) => resultOf(name)));
  await second();
  expect(single).toEqual(names.slice(0, MISSES_A_MINUTE));
  release();
  await second();
  await second();
  expect(await all).toEqual(names);
  expect(combined.flat()).toEqual(names.slice(MISSES_A_MINUTE));
});

test('beyond the limit of failed lookups a name that exists is still found, and is remembered afterwards', async () => {
  const { resultOf, exhaust, single, combined } = setUp('key/good');
  await exhaust();
  expect(await resultOf('key/good')).toBe('key/good');
  expect(combined).toEqual([['key/good']]);
  single.length = 0;
  expect(await resultOf('key/good')).toBe('key/good');
  expect([single, combined.length]).toEqual([['key/good'], 1]);
});

test('beyond the limit of failed lookups, nodrop looks up the names from all addresses together, once per second', async () => {
  const { resultOf, exhaust, single, combined } = setUp('key/good', 'token/pay_1/good');
  for (const address of ['a', 'b']) await exhaust(address);
  single.length = 0;
  // The first combined lookup starts immediately, so the first name is answered without a wait.
  expect(await resultOf('key/0')).toBe('too_many_requests');
  const found: unknown[] = [];
  for (let wave = 1; wave <= 5; wave += 1) {
    for (const n of numbers(100)) void resultOf(`key/${wave}-${n}`, n % 2 === 0 ? 'a' : 'b');
    if (wave === 3) void resultOf('key/good').then((end) => found.push(end));
    if (wave === 4) void resultOf('token/pay_1/good', 'b').then((end) => found.push(end));
    // The next combined lookup starts only after a second has passed.
    await vi.advanceTimersByTimeAsync(ASKED_EVERY_MS - 1);
    expect(combined).toHaveLength(wave);
    await vi.advanceTimersByTimeAsync(1);
    expect(combined).toHaveLength(wave + 1);
  }
  expect(combined.map((names) => names.length)).toEqual([1, 100, 100, 101, 101, 100]);
  expect(found).toEqual(['key/good', 'token/pay_1/good']);
  // Lookups of a single name were made only for names that exist.
  expect(single).toEqual(['key/good', 'token/pay_1/good']);
});

test('a combined lookup starts only when the previous one has ended, however slow the database is', async () => {
  const { resultOf, exhaust, hold, combined } = setUp('key/2');
  await exhaust();
  const release = hold();
  void resultOf('key/1');
  const found = resultOf('key/2');
  for (const _ of numbers(5)) await second();
  expect(combined).toEqual([['key/1']]);
  release();
  await second();
  expect(combined).toEqual([['key/1'], ['key/2']]);
  expect(await found).toBe('key/2');
});

test('if the caller cannot wait, the lookup is refused immediately, and the name is looked up within a second', async () => {
  const { exhaust, lookUp, resultOf, failedLookups, combined } = setUp('key/1', 'key/2');
  await exhaust();
  const atOnce = (name: Name) => failedLookups.lookUp('a', name, async () => name, false);
  const refused = { code: 'too_many_requests', retryAfterSeconds: 1 };
  void resultOf('key/0');
  for (const name of ['key/1', 'key/1', 'key/2'] as const) {
    await expect(atOnce(name)).rejects.toMatchObject(refused);
  }
  const waits = lookUp('key/2');
  await second();
  expect(combined).toEqual([['key/0'], ['key/1', 'key/2']]);
  expect([await atOnce('key/1'), await waits]).toEqual(['key/1', 'key/2']);
});

test('only a limited number of names can wait for a lookup, and further names are refused without a lookup', async () => {
  const { resultOf, exhaust, combined } = setUp();
  await exhaust();
  for (let n = 0; combined.length === 0; n += 1) void resultOf(`key/${n}`, `first-${n}`);
  const all = numbers(NAMES_AT_ONCE + 1).map((n) => resultOf(`key/waits-${n}`, `address-${n % 100}`));
  expect(await all.at(-1)).toBe('too_many_requests');
  await second();
  expect(combined.map((names) => names.length)).toEqual([1, NAMES_AT_ONCE - 1]);
  await Promise.all(all);
});

test('only a limited number of names of one address can wait, and names of other addresses are found even while the database is slow', async () => {
  const { resultOf, exhaust, hold, combined } = setUp('key/good', 'key/another');
  await exhaust('flood');
  await exhaust('b');
  const release = hold();
  const flood = (wave: number) => numbers(2_000).map((n) => resultOf(`key/${wave}-${n}`, 'flood'));
  const bad = flood(1);
  const good = resultOf('key/good', 'b');
  await second();
  bad.push(...flood(2));
  const another = resultOf('key/another', 'b');
  release();
  await second();
  await second();
  expect([await good, await another]).toEqual(['key/good', 'key/another']);
  expect(combined.flat().filter((name) => name.startsWith('key/1-'))).toHaveLength(NAMES_OF_ADDRESS);
  expect(combined.flat().filter((name) => name.startsWith('key/2-'))).toEqual([]);
  expect(await bad.at(-1)).toBe('too_many_requests');
  await Promise.all(bad);
});

test('all addresses together have a limit of failed lookups, and beyond that limit names that exist are still found', async () => {
  const { resultOf, single, combined } = setUp('key/good');
  const addresses = Math.ceil(MISSES_A_MINUTE_IN_ALL / 2) + 10;
  const all = numbers(2 * addresses).map((n) => resultOf(`key/${n}`, `address-${n % addresses}`));
  await second();
  expect(new Set(await Promise.all(all))).toEqual(new Set([null]));
  expect(single).toHaveLength(MISSES_A_MINUTE_IN_ALL);
  expect(combined).toHaveLength(2);
  const good = resultOf('key/good', 'another');
  await second();
  expect(await good).toBe('key/good');
});

test('a name that does not exist is looked up and counted as failed only once a minute, however often it is sent', async () => {
  const { resultOf, exhaust, single, combined } = setUp();
  for (const _ of numbers(3 * MISSES_A_MINUTE)) expect(await resultOf('key/revoked')).toBeNull();
  expect(single).toEqual(['key/revoked']);
  // All requests with `key/revoked` together counted as one failed lookup of the address.
  for (const n of numbers(MISSES_A_MINUTE - 1)) expect(await resultOf(`key/${n}`)).toBeNull();
  expect(await resultOf('key/one-more')).toBe('too_many_requests');
  for (const _ of numbers(100)) expect(await resultOf('key/one-more')).toBeNull();
  expect(combined).toEqual([['key/one-more']]);
  // If the same name is sent many times concurrently, it is still looked up only once.
  await exhaust('b');
  await second();
  const all = numbers(100).map(() => resultOf('key/another', 'c'));
  expect(new Set(await Promise.all(all))).toEqual(new Set([null]));
  expect(single.filter((name) => name === 'key/another')).toHaveLength(1);
  vi.setSystemTime(START + 60_000);
  await resultOf('key/revoked');
  expect(single.filter((name) => name === 'key/revoked')).toHaveLength(2);
});

test('an account or payment that does not exist is not remembered as missing, because it may be created later', async () => {
  const { resultOf, exhaust, exists, combined } = setUp();
  for (const name of ['account/simulator/1', 'payment/pay_1'] as const) {
    expect(await resultOf(name)).toBeNull();
    exists.add(name);
    expect(await resultOf(name)).toBe(name);
  }
  await exhaust('b');
  // This refusal does not affect valid callers: see `lookUp`.
  expect(await resultOf('account/simulator/2', 'b')).toBe('too_many_requests');
  expect(await resultOf('payment/pay_2', 'b')).toBe('too_many_requests');
  expect(combined).toEqual([]);
});

test('names of one kind do not displace remembered names of another kind', async () => {
  const tokens = numbers(10_001).map((n): Name => `token/pay_${n}/x`);
  const { resultOf, exhaust, combined } = setUp('key/good', ...tokens);
  await resultOf('key/good');
  for (const name of tokens) await resultOf(name);
  await exhaust();
  expect(await resultOf('key/good')).toBe('key/good');
  expect(combined).toEqual([]);
});

test('if a lookup fails, all callers that wait for its name get the error immediately', async () => {
  const { lookUp, hold, single } = setUp('key/good');
  const release = hold();
  const all = Promise.allSettled(numbers(50).map(() => lookUp('key/good')));
  release(new Error('the database is away'));
  expect(new Set((await all).map(({ status }) => status))).toEqual(new Set(['rejected']));
  expect(single).toEqual(['key/good']);
  hold()();
  expect(await lookUp('key/good')).toBe('key/good');
});

test('if the database fails, no lookup counts as failed, even if many callers wait', async () => {
  const { resultOf, exhaust, hold, lookUp, combined } = setUp('key/1', 'key/2');
  await exhaust();
  const release = hold();
  const all = Promise.allSettled([lookUp('key/1'), lookUp('key/1'), lookUp('key/2')]);
  release(new Error('the database is away'));
  await second();
  expect((await all).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
  expect(combined).toEqual([['key/1'], ['key/2']]);
  hold()();
  const found = resultOf('key/1');
  await second();
  expect(await found).toBe('key/1');
});

test('a lookup that begins in one minute and ends in the next does not raise the limit of the next minute', async () => {
  const { resultOf, hold, single } = setUp('key/good');
  const release = hold();
  const good = resultOf('key/good');
  vi.setSystemTime(START + 60_000);
  const bad = numbers(MISSES_A_MINUTE).map((n) => resultOf(`key/${n}`));
  release();
  await good;
  await Promise.all(bad);
  single.length = 0;
  expect(await resultOf('key/one-more')).toBe('too_many_requests');
  expect(single).toEqual([]);
});
