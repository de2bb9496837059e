import { expect, test } from 'vitest';
import { listEvents } from '../../src/ledger/event-feed.ts';
import { POSITIONS_AT_ONCE } from '../../src/ledger/feed-positions.ts';
import { endPayment, recordAnswer, recordCreated, settlePayment } from '../../src/ledger/payments.ts';
import { removeOld } from '../../src/ledger/retention.ts';
import { db, elsewhere, merchantId, newPayment, now, Reader, writeEvent } from './feed-positions-support.ts';

/**
 * Tests that feed positions follow the times and versions of the events. An event is not deleted before a reader can
 * detect the deletion.
 */

const DAY = 86_400_000;

/** Writes events with these versions in one transaction. Their times are one millisecond apart. */
const writeMany = (paymentId: string, versions: number, from: number, startedAt: Date) => db.$executeRaw`
  INSERT INTO events (id, merchant_id, payment_id, type, version, data, created_at)
  SELECT 'evt_' || ${paymentId} || n, ${merchantId}, ${paymentId}, 'payment.closed', n, '{}',
    ${startedAt}::timestamptz + n * interval '1 ms'
  FROM generate_series(${from}::int, ${from + versions - 1}::int) AS n`;

test('events get their positions by time and then by payment, but the events of one payment always keep the sequence of their versions', async () => {
  const payments = [await newPayment(), await newPayment()].toSorted();
  const [a = '', b = ''] = payments;
  const at = (seconds: number) => new Date(1_000_000 + seconds * 1000);
  // Writes events as an older release did. The transaction of the last event had waited for its order's lock.
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

test('if the time of a settlement is earlier than the time of the payment’s end, the success is still the payment’s last event', async () => {
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

test('the events of one payment are in the sequence of their versions, even if many events of another payment lie between them in time', async () => {
  const [first, others] = [await newPayment(), await newPayment()];
  await writeMany(first, 1, 1, new Date(9_000_000));
  await writeMany(first, 1, 2, new Date(1_000_000));
  await writeMany(others, 2 * POSITIONS_AT_ONCE, 1, new Date(2_000_000));
  const reader = new Reader(db, 500);
  const seen = await reader.readAll();
  expect(seen).toHaveLength(2 * POSITIONS_AT_ONCE + 2);
  expect(seen.filter((id) => id.startsWith(`evt_${first}`))).toEqual([`evt_${first}1`, `evt_${first}2`]);
  const own = seen
    .filter((id) => id.startsWith(`evt_${others}`))
    .map((id) => Number(id.slice(4 + others.length)));
  expect(own).toEqual(own.toSorted((one, other) => one - other));
});

test('reading the feed takes no lock if every event already has a position', async () => {
  await endPayment(db, await newPayment(), 'closed', 'a test', now());
  const reader = new Reader(elsewhere, 10);
  expect(await reader.read()).toBe(1);
  await db.$transaction(async (tx) => {
    await tx.$queryRaw`
      SELECT 1 FROM pg_advisory_xact_lock(hashtextextended(${`nodrop-events-${merchantId}`}, 0))`;
    expect(await reader.read()).toBe(0);
  });
});

test('an unread event gets a position before it is deleted, so that an older cursor is refused', async () => {
  // Deletes the events that other tests have left.
  await removeOld(db, now());
  const reader = new Reader(db, 10);
  await endPayment(db, await newPayment(), 'closed', 'a test', now());
  expect(await reader.read()).toBe(1);
  await endPayment(db, await newPayment(), 'closed', 'a test', new Date(Date.now() - 40 * DAY));
  await endPayment(db, await newPayment(), 'closed', 'a test', now());
  // This transaction stays open during the deletion. Its event is older than the limit for deletion.
  const commit = await writeEvent(await newPayment(), new Date(Date.now() - 50 * DAY));
  expect(await removeOld(db, now())).toBe(1);
  await expect(reader.read()).rejects.toMatchObject({ code: 'cursor_expired' });
  const fresh = new Reader(db, 10);
  expect(await fresh.read()).toBe(2);
  await commit();
  expect(await removeOld(db, now())).toBe(1);
  await expect(fresh.read()).rejects.toMatchObject({ code: 'cursor_expired' });
});

test('all old events are deleted, even if very many of them were never read', async () => {
  await removeOld(db, now());
  const old = new Date(Date.now() - 40 * DAY);
  await writeMany(await newPayment(), 2 * POSITIONS_AT_ONCE + 1, 1, old);
  expect(await removeOld(db, now())).toBe(2 * POSITIONS_AT_ONCE + 1);
});
