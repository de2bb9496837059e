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

// How many names of strangers are looked up, and whose names are refused without a look.

const START = 1_000_000_020_000;
beforeEach(() => void vi.useFakeTimers({ now: START, toFake: ['setTimeout', 'Date'] }));
afterEach(() => void vi.useRealTimers());

/** Names that exist, and what was asked: each name alone, and all that waited at once. */
function setUp(...existing: string[]) {
  const exists = new Set(existing);
  const singly: string[] = [];
  const together: (readonly string[])[] = [];
  let hold: Promise<unknown> = Promise.resolve();
  const failedLookups = new FailedLookups(
    () => new Date(),
    async (names) => {
      together.push(names);
      await hold;
      return new Set(names.filter((name) => exists.has(name)));
    },
  );
  const lookUp = (name: Name, address = 'a') =>
    failedLookups.lookUp(address, name, async () => {
      singly.push(name);
      await hold;
      return exists.has(name) ? name : null;
    });
  /** A look-up's end: what it found, or the code of its refusal. */
  const ends = (name: Name, address?: string) =>
    lookUp(name, address).catch((error: unknown) => {
      if (error instanceof Refusal) return error.code;
      throw error;
    });
  return {
    ...{ exists, failedLookups, singly, together, lookUp, ends },
    /** Keeps every answer back, until what it returns is called, with the error that they all end in. */
    hold: () => {
      let release: (error?: Error) => void = () => undefined;
      hold = new Promise<void>((resolve, reject) => {
        release = (error) => (error === undefined ? resolve() : reject(error));
      });
      hold.catch(() => undefined);
      return (error?: Error) => release(error);
    },
    exhaust: async (address?: string) => {
      for (let n = 0; n < MISSES_A_MINUTE; n += 1) await ends(`key/bad-${address}-${n}`, address);
    },
  };
}

const second = () => vi.advanceTimersByTimeAsync(ASKED_EVERY_MS);
const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

test('look-ups under way are no misses: the names beyond those that are asked at once wait, and are found', async () => {
  const names = numbers(3 * MISSES_A_MINUTE).map((n): Name => `key/${n}`);
  const { ends, hold, singly, together } = setUp(...names);
  const release = hold();
  const all = Promise.all(names.map((name) => ends(name)));
  await second();
  expect(singly).toEqual(names.slice(0, MISSES_A_MINUTE));
  release();
  await second();
  await second();
  expect(await all).toEqual(names);
  expect(together.flat()).toEqual(names.slice(MISSES_A_MINUTE));
});

test('a name that exists is found beyond the bound, and known from then on', async () => {
  const { ends, exhaust, singly, together } = setUp('key/good');
  await exhaust();
  expect(await ends('key/good')).toBe('key/good');
  expect(together).toEqual([['key/good']]);
  singly.length = 0;
  expect(await ends('key/good')).toBe('key/good');
  expect([singly, together.length]).toEqual([['key/good'], 1]);
});

test('beyond the bound all names of all addresses are asked for at once, once a second', async () => {
  const { ends, exhaust, singly, together } = setUp('key/good', 'token/pay_1/good');
  for (const address of ['a', 'b']) await exhaust(address);
  singly.length = 0;
  // The first has nobody to wait for.
  expect(await ends('key/0')).toBe('too_many_requests');
  const found: unknown[] = [];
  for (let wave = 1; wave <= 5; wave += 1) {
    for (const n of numbers(100)) void ends(`key/${wave}-${n}`, n % 2 === 0 ? 'a' : 'b');
    if (wave === 3) void ends('key/good').then((end) => found.push(end));
    if (wave === 4) void ends('token/pay_1/good', 'b').then((end) => found.push(end));
    // Nothing before the second is over.
    await vi.advanceTimersByTimeAsync(ASKED_EVERY_MS - 1);
    expect(together).toHaveLength(wave);
    await vi.advanceTimersByTimeAsync(1);
    expect(together).toHaveLength(wave + 1);
  }
  expect(together.map((names) => names.length)).toEqual([1, 100, 100, 101, 101, 100]);
  expect(found).toEqual(['key/good', 'token/pay_1/good']);
  // Of all these the database was asked singly for what exists.
  expect(singly).toEqual(['key/good', 'token/pay_1/good']);
});

test('they are asked for one after the other, however slow the database is', async () => {
  const { ends, exhaust, hold, together } = setUp('key/2');
  await exhaust();
  const release = hold();
  void ends('key/1');
  const found = ends('key/2');
  for (const _ of numbers(5)) await second();
  expect(together).toEqual([['key/1']]);
  release();
  await second();
  expect(together).toEqual([['key/1'], ['key/2']]);
  expect(await found).toBe('key/2');
});

test('who must not wait is refused at once, and found a second later', async () => {
  const { exhaust, lookUp, ends, failedLookups, together } = setUp('key/1', 'key/2');
  await exhaust();
  const atOnce = (name: Name) => failedLookups.lookUp('a', name, async () => name, false);
  const refused = { code: 'too_many_requests', retryAfterSeconds: 1 };
  void ends('key/0');
  for (const name of ['key/1', 'key/1', 'key/2'] as const) {
    await expect(atOnce(name)).rejects.toMatchObject(refused);
  }
  const waits = lookUp('key/2');
  await second();
  expect(together).toEqual([['key/0'], ['key/1', 'key/2']]);
  expect([await atOnce('key/1'), await waits]).toEqual(['key/1', 'key/2']);
});

test('so many wait at once, and the next are refused without being asked', async () => {
  const { ends, exhaust, together } = setUp();
  await exhaust();
  for (let n = 0; together.length === 0; n += 1) void ends(`key/${n}`, `first-${n}`);
  const all = numbers(NAMES_AT_ONCE + 1).map((n) => ends(`key/waits-${n}`, `address-${n % 100}`));
  expect(await all.at(-1)).toBe('too_many_requests');
  await second();
  expect(together.map((names) => names.length)).toEqual([1, NAMES_AT_ONCE - 1]);
  await Promise.all(all);
});

test('of one address so many wait at once, so that others have their places, also while the database is slow', async () => {
  const { ends, exhaust, hold, together } = setUp('key/good', 'key/another');
  await exhaust('flood');
  await exhaust('b');
  const release = hold();
  const flood = (wave: number) => numbers(2_000).map((n) => ends(`key/${wave}-${n}`, 'flood'));
  const bad = flood(1);
  const good = ends('key/good', 'b');
  await second();
  bad.push(...flood(2));
  const another = ends('key/another', 'b');
  release();
  await second();
  await second();
  expect([await good, await another]).toEqual(['key/good', 'key/another']);
  expect(together.flat().filter((name) => name.startsWith('key/1-'))).toHaveLength(NAMES_OF_ADDRESS);
  expect(together.flat().filter((name) => name.startsWith('key/2-'))).toEqual([]);
  expect(await bad.at(-1)).toBe('too_many_requests');
  await Promise.all(bad);
});

test('many addresses together have a bound, too, and what exists is found beyond it', async () => {
  const { ends, singly, together } = setUp('key/good');
  const addresses = Math.ceil(MISSES_A_MINUTE_IN_ALL / 2) + 10;
  const all = numbers(2 * addresses).map((n) => ends(`key/${n}`, `address-${n % addresses}`));
  await second();
  expect(new Set(await Promise.all(all))).toEqual(new Set([null]));
  expect(singly).toHaveLength(MISSES_A_MINUTE_IN_ALL);
  expect(together).toHaveLength(2);
  const good = ends('key/good', 'another');
  await second();
  expect(await good).toBe('key/good');
});

test('a name that does not exist is asked for and counted once a minute, however often it is sent', async () => {
  const { ends, exhaust, singly, together } = setUp();
  for (const _ of numbers(3 * MISSES_A_MINUTE)) expect(await ends('key/revoked')).toBeNull();
  expect(singly).toEqual(['key/revoked']);
  // It took one of the address's misses.
  for (const n of numbers(MISSES_A_MINUTE - 1)) expect(await ends(`key/${n}`)).toBeNull();
  expect(await ends('key/one-more')).toBe('too_many_requests');
  for (const _ of numbers(100)) expect(await ends('key/one-more')).toBeNull();
  expect(together).toEqual([['key/one-more']]);
  // Also of many at once.
  await exhaust('b');
  await second();
  const all = numbers(100).map(() => ends('key/another', 'c'));
  expect(new Set(await Promise.all(all))).toEqual(new Set([null]));
  expect(singly.filter((name) => name === 'key/another')).toHaveLength(1);
  vi.setSystemTime(START + 60_000);
  await ends('key/revoked');
  expect(singly.filter((name) => name === 'key/revoked')).toHaveLength(2);
});

test('what is found later is not remembered as missing: an account, a payment', async () => {
  const { ends, exhaust, exists, together } = setUp();
  for (const name of ['account/simulator/1', 'payment/pay_1'] as const) {
    expect(await ends(name)).toBeNull();
    exists.add(name);
    expect(await ends(name)).toBe(name);
  }
  await exhaust('b');
  // Nobody is locked out by a refusal of these: see `lookUp`.
  expect(await ends('account/simulator/2', 'b')).toBe('too_many_requests');
  expect(await ends('payment/pay_2', 'b')).toBe('too_many_requests');
  expect(together).toEqual([]);
});

test('what is known of one kind pushes out nothing of another', async () => {
  const tokens = numbers(10_001).map((n): Name => `token/pay_${n}/x`);
  const { ends, exhaust, together } = setUp('key/good', ...tokens);
  await ends('key/good');
  for (const name of tokens) await ends(name);
  await exhaust();
  expect(await ends('key/good')).toBe('key/good');
  expect(together).toEqual([]);
});

test('all who wait for the same name learn at once that it could not be looked up', async () => {
  const { lookUp, hold, singly } = setUp('key/good');
  const release = hold();
  const all = Promise.allSettled(numbers(50).map(() => lookUp('key/good')));
  release(new Error('the database is away'));
  expect(new Set((await all).map(({ status }) => status))).toEqual(new Set(['rejected']));
  expect(singly).toEqual(['key/good']);
  hold()();
  expect(await lookUp('key/good')).toBe('key/good');
});

test('a failure of the database is no miss, also when many wait', async () => {
  const { ends, exhaust, hold, lookUp, together } = setUp('key/1', 'key/2');
  await exhaust();
  const release = hold();
  const all = Promise.allSettled([lookUp('key/1'), lookUp('key/1'), lookUp('key/2')]);
  release(new Error('the database is away'));
  await second();
  expect((await all).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
  expect(together).toEqual([['key/1'], ['key/2']]);
  hold()();
  const found = ends('key/1');
  await second();
  expect(await found).toBe('key/1');
});

test('a look-up that ends in the next minute gives nothing back there', async () => {
  const { ends, hold, singly } = setUp('key/good');
  const release = hold();
  const good = ends('key/good');
  vi.setSystemTime(START + 60_000);
  const bad = numbers(MISSES_A_MINUTE).map((n) => ends(`key/${n}`));
  release();
  await good;
  await Promise.all(bad);
  singly.length = 0;
  expect(await ends('key/one-more')).toBe('too_many_requests');
  expect(singly).toEqual([]);
});
