import { describe, expect, test } from 'vitest';
import { createLedgerClient, type LedgerClient } from '../../src/ledger/client.ts';
import { listEvents } from '../../src/ledger/event-feed.ts';
import { endPayment, recordAnswer, settlePayment } from '../../src/ledger/payments.ts';
import { TRANSACTIONS_AT_ONCE, withinLimits } from '../../src/ledger/transaction-limits.ts';
import { eventually } from '../support/stack.ts';
import {
  databaseUrl,
  db,
  elsewhere,
  gate,
  merchantId,
  newOrderId,
  newPayment,
  now,
  Reader,
  writeEvent,
} from './feed-positions-support.ts';

/**
 * Tests that transactions that write events do not wait for each other, and that no reader of the feed skips an event.
 */

const allEvents = async () =>
  (await db.event.findMany({ where: { merchantId }, orderBy: { seq: 'asc' } })).map(({ id }) => id);

/**
 * Returns every possible sequence of the writes and commits of this many transactions. The transactions write in the
 * sequence of their numbers.
 */
function interleavings(count: number): string[][] {
  const extend = (steps: string[], begun: number, open: number[]): string[][] => {
    if (begun === count && open.length === 0) return [steps];
    return [
      ...(begun < count ? extend([...steps, `write ${begun}`], begun + 1, [...open, begun]) : []),
      ...open.flatMap((n) =>
        extend(
          [...steps, `commit ${n}`],
          begun,
          open.filter((other) => other !== n),
        ),
      ),
    ];
  };
  return extend([], 0, []);
}

test('concurrent transactions commit their events in any sequence, without waiting for each other', async () => {
  const [first, second] = [await newPayment(), await newPayment()];
  const commit = await writeEvent(first, now());
  await endPayment(db, second, 'closed', 'a test', now());
  const reader = new Reader(db, 10);
  expect(await reader.read()).toBe(1);
  await commit();
  expect(await reader.read()).toBe(1);
  const paymentOf = async (id: string) => (await db.event.findUniqueOrThrow({ where: { id } })).paymentId;
  expect(await Promise.all(reader.seen.map(paymentOf))).toEqual([second, first]);
});

test.each([
  ['in the sequence of the writes', 1],
  ['in the reverse sequence of the writes', -1],
])(
  'if the event times are %s, no reader skips an event, however the transactions overlap',
  async (_name, direction) => {
    const payments = [await newPayment(), await newPayment(), await newPayment()];
    const orders = interleavings(payments.length);
    expect(orders).toHaveLength(15);
    const often = new Reader(db, 1);
    const seldom = new Reader(elsewhere, 2);
    const began = Date.now();
    for (const [round, steps] of orders.entries()) {
      const commits = new Map<string, () => Promise<void>>();
      for (const [nth, step] of steps.entries()) {
        const [what, number = ''] = step.split(' ');
        if (what === 'write') {
          const at = new Date(began + 1000 * round + direction * Number(number));
          commits.set(number, await writeEvent(payments[Number(number)] ?? '', at));
        } else await commits.get(number)?.();
        await often.read();
        if (nth % 3 === round % 3) await seldom.read();
      }
    }
    const whole = await new Reader(db, 500).readAll();
    expect(whole).toHaveLength(45);
    expect(await often.readAll()).toEqual(whole);
    expect(await seldom.readAll()).toEqual(whole);
    expect(await allEvents()).toEqual(whole);
  },
);

describe('an assignment of positions', () => {
  /** Acts as another process that assigns feed positions. It waits before and after its UPDATE. */
  function slowPlacer() {
    const client = createLedgerClient(databaseUrl);
    const [locked, update, updated, end] = [gate(), gate(), gate(), gate()];
    const slow = client.$extends({
      query: {
        async $executeRaw({ args, query }) {
          locked.open();
          await update.opened;
          const result = await query(args);
          updated.open();
          await end.opened;
          return result;
        },
      },
    }) as unknown as LedgerClient;
    return { client: slow, locked, update, updated, end, close: () => client.$disconnect() };
  }
  const waitsForLock = () =>
    eventually(async () => {
      const waiting = await db.$queryRaw<unknown[]>`
        SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`;
      return waiting.length === 1;
    });

  test('if events are committed while positions are assigned, every reader gets all events in the same sequence', async () => {
    const payments = [await newPayment(), await newPayment(), await newPayment()];
    const [first = '', second = '', third = ''] = payments;
    await (await writeEvent(first, new Date(3000)))();
    const placer = slowPlacer();
    const slow = new Reader(placer.client, 10);
    const quick = new Reader(db, 10);
    const reading = slow.read();
    await placer.locked.opened;
    // This event is committed before the UPDATE runs. So it gets its position in the same run, before the newer event.
    await (await writeEvent(second, new Date(2000)))();
    placer.update.open();
    await placer.updated.opened;
    // The positions are assigned but not committed yet. Until they are committed, no higher position may become
    // visible.
    await (await writeEvent(third, new Date(1000)))();
    const behind = quick.read();
    await waitsForLock();
    placer.end.open();
    await Promise.all([reading, behind]);
    const paymentsSeen = async ({ seen }: Reader) => {
      const rows = await db.event.findMany({ where: { id: { in: seen } } });
      return seen.map((id) => rows.find((row) => row.id === id)?.paymentId);
    };
    expect(await paymentsSeen(quick)).toEqual([second, first, third]);
    await slow.readAll();
    expect(slow.seen).toEqual(quick.seen);
    await placer.close();
  });

  test('a transaction that writes an event does not wait while positions are assigned', async () => {
    const [first, second] = [await newPayment(), await newPayment()];
    await endPayment(db, first, 'closed', 'a test', now());
    const placer = slowPlacer();
    const reading = new Reader(placer.client, 10).read();
    await placer.locked.opened;
    expect((await endPayment(db, second, 'closed', 'a test', now())).status).toBe('closed');
    placer.update.open();
    placer.end.open();
    expect(await reading).toBe(2);
    await placer.close();
  });
});

describe('two processes write events of one order, and the clock of one process is ahead', () => {
  const AHEAD_MS = 500;

  /**
   * Closes one attempt at a time of the clock that is ahead. Then writes an event of the other attempt at a time of the
   * correct clock.
   */
  async function closedThen(write: (other: string, at: Date) => Promise<unknown>) {
    const orderId = newOrderId();
    const first = await newPayment(orderId);
    const second = await newPayment(orderId, 'simulator2', [first]);
    expect(second).not.toBe(first);
    const at = now();
    await endPayment(elsewhere, first, 'closed', 'a test', new Date(at.getTime() + AHEAD_MS));
    await write(second, at);
    const { events } = await listEvents(db, merchantId, { limit: 10, after: null });
    const apart = events.map(({ createdAt }) => createdAt.getTime() - at.getTime());
    return { events, apart, payments: events.map(({ paymentId }) => paymentId), first, second };
  }

  test('a receiver that applies the events in their sequence has the current state of the order at the end', async () => {
    const { events, apart, payments, first, second } = await closedThen(async (other, at) => {
      const paid = {
        ...{ state: 'paid' as const, channelPaymentId: `trx-${other}`, amount: 1000, currency: 'CNY' },
        paidAt: at.toISOString(),
      };
      await recordAnswer(db, other, paid, 'query', at);
      await settlePayment(db, other, at);
    });
    expect(payments).toEqual([first, second]);
    expect(apart).toEqual([AHEAD_MS, AHEAD_MS + 1]);
    expect(events.at(-1)?.data).toMatchObject({ order: { status: 'succeeded' } });
  });

  test('the event that is written last has the last position, even if the process with the correct clock writes it', async () => {
    const { apart, payments, first, second } = await closedThen(async (other, at) =>
      (await writeEvent(other, at))(),
    );
    expect(payments).toEqual([first, second]);
    expect(apart).toEqual([AHEAD_MS, AHEAD_MS + 1]);
  });

  test('an event keeps its own time if it is later than the times of all earlier events', async () => {
    const { apart } = await closedThen(async (other, at) =>
      (await writeEvent(other, new Date(at.getTime() + 2 * AHEAD_MS)))(),
    );
    expect(apart).toEqual([AHEAD_MS, 2 * AHEAD_MS]);
  });
});

test('positions are assigned even while the merchant has the maximum number of running transactions', async () => {
  await endPayment(elsewhere, await newPayment(), 'closed', 'a test', now());
  const end = gate();
  const held = Array.from({ length: TRANSACTIONS_AT_ONCE }, (_, n) =>
    withinLimits(db, merchantId, `held-${n}`, () => end.opened),
  );
  expect(await new Reader(db, 10).read()).toBe(1);
  end.open();
  await Promise.all(held);
});

test('concurrent readers share one assignment of positions, and each reader gets every event that was committed before the read', async () => {
  await endPayment(db, await newPayment(), 'closed', 'a test', now());
  let locks = 0;
  const counting = db.$extends({
    query: {
      $queryRaw({ args, query }) {
        locks += 1;
        return query(args);
      },
    },
  }) as unknown as LedgerClient;
  const counts = await Promise.all(Array.from({ length: 15 }, () => new Reader(counting, 10).read()));
  expect(new Set(counts)).toEqual(new Set([1]));
  expect(locks).toBe(1);
});
