import { expect, test } from 'vitest';
import type { LedgerClient } from '../../src/ledger/client.ts';
import {
  limitWaiting,
  TooBusy,
  TRANSACTIONS_AT_ONCE,
  withinLimits,
} from '../../src/ledger/transaction-limits.ts';

// Tests the limits of concurrent transactions. The work of a transaction hangs until the test ends it. The tests use no
// database, and count the work that runs.

const WAITING = 40;
/** The number of slots of a worker's task queue. */
const SLOTS = 100;

/** Work that ends when the test calls `end`. */
function hanging() {
  let end = () => {};
  const hangs = new Promise<void>((resolve) => {
    end = resolve;
  });
  return { hangs, end };
}

function setUp() {
  const db = {} as LedgerClient;
  limitWaiting(db, WAITING);
  const { hangs, end } = hanging();
  let begun = 0;
  let refused = 0;
  const done: Promise<void>[] = [];
  const start = (merchantId: string, orderId: string | null) => {
    const work = async () => {
      begun += 1;
      await hangs;
    };
    const turn = withinLimits(db, merchantId, orderId, work).catch((error: unknown) => {
      if (!(error instanceof TooBusy)) throw error;
      refused += 1;
    });
    done.push(turn);
  };
  return {
    db,
    start,
    counts: async () => {
      // By this time, every transaction that is refused immediately has been refused.
      await new Promise(setImmediate);
      return { begun, refused, underWay: done.length - refused };
    },
    end: async () => {
      end();
      await Promise.all(done);
    },
  };
}

test.each([
  ['different orders', (i: number) => `order-${i}`, TRANSACTIONS_AT_ONCE],
  ['one order', () => 'order', 1],
])(
  'while a merchant’s transactions for %s hang, only a limited number of them run or wait, and other merchants are served',
  async (_, orderOf, atOnce) => {
    const { db, start, counts, end } = setUp();
    for (let i = 0; i < 1_000; i++) start('hangs', orderOf(i));
    const { begun, refused, underWay } = await counts();
    expect({ begun, refused }).toEqual({ begun: atOnce, refused: 1_000 - atOnce - WAITING });
    // An activity that waits for a transaction keeps its slot.
    expect(underWay).toBeLessThan(SLOTS);
    expect(await withinLimits(db, 'other', 'order', async () => 'served')).toBe('served');
    await end();
    // In the end, every waiting transaction has run.
    expect((await counts()).begun).toBe(atOnce + WAITING);
  },
);

test.each([1, 2, 3, 5, 10, 19])(
  'while the transactions of %i merchants hang, another merchant is served',
  async (merchants) => {
    const { db, start, counts, end } = setUp();
    for (let i = 0; i < merchants * 30; i++) start(`hangs-${i % merchants}`, `order-${i}`);
    expect((await counts()).begun).toBeLessThan(20);
    expect(await withinLimits(db, 'other', 'order', async () => 'served')).toBe('served');
    await end();
  },
);

test('a transaction that fails frees its slot for the next transaction', async () => {
  const { db } = setUp();
  for (let i = 0; i < 50; i++) {
    const failing = withinLimits(db, 'merchant', 'order', () => Promise.reject(new Error('no')));
    await expect(failing).rejects.toThrow('no');
  }
  const order: number[] = [];
  const turns = [1, 2, 3].map((i) =>
    withinLimits(db, 'merchant', 'order', async () => {
      order.push(i);
    }),
  );
  await Promise.all(turns);
  expect(order).toEqual([1, 2, 3]);
});
