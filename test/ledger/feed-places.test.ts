import { beforeEach, describe, expect, test } from 'vitest';
import { removeOld } from '../../src/ledger/cleanup.ts';
import { createLedgerClient, type LedgerClient } from '../../src/ledger/client.ts';
import { recordEvent } from '../../src/ledger/events.ts';
import { type FeedPlace, listEvents } from '../../src/ledger/feed.ts';
import { PLACES_AT_ONCE } from '../../src/ledger/feed-places.ts';
import { startPayment } from '../../src/ledger/intake.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { endPayment, recordAnswer, recordCreated, settlePayment } from '../../src/ledger/payments.ts';
import { inTurn, TRANSACTIONS_AT_ONCE } from '../../src/ledger/turns.ts';
import { eventually, useDatabase } from '../support/stack.ts';

/** No transaction that writes an event waits for another, and no reader of the feed ever skips an event. */

const { db, databaseUrl, connect } = useDatabase();
/** Another process, as far as PostgreSQL can tell. */
const elsewhere = connect();
let merchantId: string;
let merchants = 0;
beforeEach(async () => {
  merchants += 1;
  merchantId = (await ensureMerchant(db, `shop-${merchants}`, ['simulator', 'simulator2'])).merchant.id;
});

const DAY = 86_400_000;
const now = () => new Date();

let orders = 0;
const newOrderId = () => `order-${++orders}`;
/** @param asked the other attempts at the same order, of which the channel has said that they are unpaid. */
async function newPayment(
  orderId = newOrderId(),
  channel = 'simulator',
  asked: string[] = [],
): Promise<string> {
  const order = { amount: 1000, currency: 'CNY', subject: 'x', metadata: {}, expiresInSeconds: undefined };
  const { payment } = await startPayment(
    db,
    merchantId,
    { ...order, id: orderId },
    {
      channel,
      method: 'wallet',
      payer: undefined,
      returnUrl: undefined,
      metadata: {},
      expiresInMs: 60_000,
      askedAttempts: new Set(asked),
    },
    () => `hash-${orderId}-${channel}`,
    now(),
  );
  return payment.id;
}

/** A promise with its resolver. */
function gate() {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, opened };
}

/** A transaction that has written an event of the payment, and is open until `commit`. */
async function writeEvent(paymentId: string, at: Date) {
  const [written, end] = [gate(), gate()];
  const done = elsewhere.$transaction(
    async (tx) => {
      await recordEvent(tx, paymentId, { type: 'payment.closed' }, at);
      written.open();
      await end.opened;
    },
    { timeout: 240_000, maxWait: 240_000 },
  );
  await Promise.race([written.opened, done]);
  return async () => {
    end.open();
    await done;
  };
}

/** Events with these versions, a millisecond apart, in one transaction. */
const writeMany = (paymentId: string, versions: number, from: number, startedAt: Date) => db.$executeRaw`
  INSERT INTO events (id, merchant_id, payment_id, type, version, data, created_at)
  SELECT 'evt_' || ${paymentId} || n, ${merchantId}, ${paymentId}, 'payment.closed', n, '{}',
    ${startedAt}::timestamptz + n * interval '1 ms'
  FROM generate_series(${from}::int, ${from + versions - 1}::int) AS n`;

/** A reader that keeps its place. */
class Reader {
  readonly seen: string[] = [];
  #after: FeedPlace | null = null;
  readonly #db: LedgerClient;
  readonly #limit: number;

  constructor(client: LedgerClient, limit: number) {
    this.#db = client;
    this.#limit = limit;
  }

  /** One page. */
  async read(): Promise<number> {
    const { events, next } = await listEvents(this.#db, merchantId, {
      limit: this.#limit,
      after: this.#after,
    });
    this.seen.push(...events.map(({ id }) => id));
    this.#after = next;
    return events.length;
  }

  async readAll(): Promise<string[]> {
    while ((await this.read()) > 0);
    return this.seen;
  }
}

const allEvents = async () =>
  (await db.event.findMany({ where: { merchantId }, orderBy: { seq: 'asc' } })).map(({ id }) => id);

/** All orders of the writes and commits of so many transactions, which write in the order of their numbers. */
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

test('events are committed in any order, and no transaction waits for another', async () => {
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
  ['as they are written', 1],
  ['against the order in which they are written', -1],
])(
  'transactions that overlap in every order, with times %s: nobody skips an event',
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

describe('while somebody gives places', () => {
  /** Another process whose giving of places waits before and after its UPDATE. */
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

  test('what is committed meanwhile comes after it, for every reader', async () => {
    const payments = [await newPayment(), await newPayment(), await newPayment()];
    const [first = '', second = '', third = ''] = payments;
    await (await writeEvent(first, new Date(3000)))();
    const placer = slowPlacer();
    const slow = new Reader(placer.client, 10);
    const quick = new Reader(db, 10);
    const reading = slow.read();
    await placer.locked.opened;
    // Before its places are given: they include this one, which is older.
    await (await writeEvent(second, new Date(2000)))();
    placer.update.open();
    await placer.updated.opened;
    // They are given and not committed: nobody gives a higher one that is seen before them.
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

  test('whoever writes events does not wait for it', async () => {
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

test('places follow the time, then the payment; those of one payment its versions', async () => {
  const payments = [await newPayment(), await newPayment()].toSorted();
  const [a = '', b = ''] = payments;
  const at = (seconds: number) => new Date(1_000_000 + seconds * 1000);
  // As an older release wrote them: the last one of a transaction that had waited for its order.
  for (const [payment, version, time] of [
    [b, 1, 2],
    [b, 2, 2],
    [a, 1, 2],
    [a, 2, 3],
    [b, 3, 1],
  ] as const)
    await writeMany(payment, 1, version, new Date(at(time).getTime() - version));
  const rows = await db.event.findMany({ where: { merchantId } });
  const seen = (await new Reader(db, 10).readAll()).map((id) => rows.find((row) => row.id === id));
  expect(seen.map((row) => [row?.createdAt.getTime(), row?.paymentId])).toEqual([
    [at(2).getTime(), a],
    [at(2).getTime(), b],
    [at(2).getTime(), b],
    [at(1).getTime(), b],
    [at(3).getTime(), a],
  ]);
  const versions = seen.filter((row) => row?.paymentId === b).map((row) => row?.version ?? 0);
  expect(versions).toEqual(versions.toSorted((one, other) => one - other));
});

test('a payment that was paid while its end was written is told as paid last', async () => {
  const id = await newPayment();
  await recordCreated(db, id, { type: 'redirect', url: 'https://wallet.example/' }, now());
  const [settledAt, endedAt] = [new Date(Date.now() + 1000), new Date(Date.now() + 2000)];
  await endPayment(db, id, 'closed', 'a test', endedAt);
  const paid = {
    ...{ state: 'paid' as const, channelPaymentId: 'trx', amount: 1000, currency: 'CNY' },
    paidAt: settledAt.toISOString(),
  };
  await recordAnswer(db, id, paid, 'query', settledAt);
  await settlePayment(db, id, settledAt);
  const { events } = await listEvents(db, merchantId, { limit: 10, after: null });
  expect(events.map(({ type }) => type)).toEqual(['payment.closed', 'payment.succeeded']);
});

describe('two attempts at an order, and two processes of which one has a clock that is ahead', () => {
  const AHEAD_MS = 500;

  /** One attempt is closed by the clock that is ahead; then something is written of the other one by the other clock. */
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

  test('whoever applies the events as they come ends with the order as it is', async () => {
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

  test('an event that is written by itself comes after those of the other attempt, too', async () => {
    const { apart, payments, first, second } = await closedThen(async (other, at) =>
      (await writeEvent(other, at))(),
    );
    expect(payments).toEqual([first, second]);
    expect(apart).toEqual([AHEAD_MS, AHEAD_MS + 1]);
  });

  test('a clock that is right is taken as it is', async () => {
    const { apart } = await closedThen(async (other, at) =>
      (await writeEvent(other, new Date(at.getTime() + 2 * AHEAD_MS)))(),
    );
    expect(apart).toEqual([AHEAD_MS, 2 * AHEAD_MS]);
  });
});

test('an earlier version comes first, also when more events are between them than get places at once', async () => {
  const [first, others] = [await newPayment(), await newPayment()];
  await writeMany(first, 1, 1, new Date(9_000_000));
  await writeMany(first, 1, 2, new Date(1_000_000));
  await writeMany(others, 2 * PLACES_AT_ONCE, 1, new Date(2_000_000));
  const reader = new Reader(db, 500);
  const seen = await reader.readAll();
  expect(seen).toHaveLength(2 * PLACES_AT_ONCE + 2);
  expect(seen.filter((id) => id.startsWith(`evt_${first}`))).toEqual([`evt_${first}1`, `evt_${first}2`]);
  const own = seen
    .filter((id) => id.startsWith(`evt_${others}`))
    .map((id) => Number(id.slice(4 + others.length)));
  expect(own).toEqual(own.toSorted((one, other) => one - other));
});

test('places are given though the merchant has as many transactions under way as may be', async () => {
  await endPayment(elsewhere, await newPayment(), 'closed', 'a test', now());
  const end = gate();
  const held = Array.from({ length: TRANSACTIONS_AT_ONCE }, (_, n) =>
    inTurn(db, merchantId, `held-${n}`, () => end.opened),
  );
  expect(await new Reader(db, 10).read()).toBe(1);
  end.open();
  await Promise.all(held);
});

test('who reads a feed in which everything has its place takes no lock', async () => {
  await endPayment(db, await newPayment(), 'closed', 'a test', now());
  const reader = new Reader(elsewhere, 10);
  expect(await reader.read()).toBe(1);
  await db.$transaction(async (tx) => {
    await tx.$queryRaw`
      SELECT 1 FROM pg_advisory_xact_lock(hashtextextended(${`nodrop-events-${merchantId}`}, 0))`;
    expect(await reader.read()).toBe(0);
  });
});

test('many who read at the same moment share the giving of places, and each has what was committed before', async () => {
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

test('what nobody has read gets its place before it is removed: who was before that is told, and skips nothing', async () => {
  // What other tests have left.
  await removeOld(db, now());
  const reader = new Reader(db, 10);
  await endPayment(db, await newPayment(), 'closed', 'a test', now());
  expect(await reader.read()).toBe(1);
  await endPayment(db, await newPayment(), 'closed', 'a test', new Date(Date.now() - 40 * DAY));
  await endPayment(db, await newPayment(), 'closed', 'a test', now());
  // Open while old events are removed, and older than they may be.
  const commit = await writeEvent(await newPayment(), new Date(Date.now() - 50 * DAY));
  expect(await removeOld(db, now())).toBe(1);
  await expect(reader.read()).rejects.toMatchObject({ code: 'cursor_expired' });
  const anew = new Reader(db, 10);
  expect(await anew.read()).toBe(2);
  await commit();
  expect(await removeOld(db, now())).toBe(1);
  await expect(anew.read()).rejects.toMatchObject({ code: 'cursor_expired' });
});

test('however many nobody has read, all of them are removed when they are old', async () => {
  await removeOld(db, now());
  const old = new Date(Date.now() - 40 * DAY);
  await writeMany(await newPayment(), 2 * PLACES_AT_ONCE + 1, 1, old);
  expect(await removeOld(db, now())).toBe(2 * PLACES_AT_ONCE + 1);
});
