import { beforeAll, expect, test } from 'vitest';
import { storeCallback } from '../../src/ledger/callbacks.ts';
import { Connection } from '../../src/ledger/connection.ts';
import { listEvents } from '../../src/ledger/event-feed.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { insertPayment } from '../../src/ledger/new-payment.ts';
import { loadPayment, recordCreated, settlePayment } from '../../src/ledger/payments.ts';
import { ofTrade } from '../support/callback.ts';
import { queryOnce, setTimeZone, useDatabase } from '../support/stack.ts';

/**
 * Tests that times are read and written correctly in a database whose time zone is not UTC, by raw statements and by
 * Prisma.
 */

const { db, databaseUrl } = useDatabase();
beforeAll(async () => {
  await setTimeZone(databaseUrl, 'Asia/Kolkata');
});

test('every connection uses UTC, whatever the database or the URL sets', async () => {
  const zones = async (url: string) => [
    (await queryOnce(url, 'SHOW timezone'))[0]?.TimeZone,
    (await queryOnce(url, "SELECT setting FROM pg_settings WHERE name = 'TimeZone'"))[0]?.setting,
  ];
  expect(await zones(databaseUrl)).toEqual(['UTC', 'UTC']);
  expect(await zones(`${databaseUrl}?options=-c%20TimeZone%3DAsia/Kolkata`)).toEqual(['UTC', 'UTC']);
  const connection = new Connection({ connectionString: databaseUrl });
  await connection.connect();
  // DISCARD ALL resets a session, as a pooler does when a client returns its connection. After the reset, the
  // session's time zone must still be UTC.
  await connection.query('DISCARD ALL');
  expect((await connection.query('SHOW timezone')).rows).toEqual([{ TimeZone: 'UTC' }]);
  await connection.end();
});

test('if the time zone of a connection is changed, the connection is closed and the next connection uses UTC', async () => {
  const change = () => db.$queryRaw`SELECT set_config('timezone', 'Asia/Tokyo', false)`;
  await expect(change()).rejects.toThrow(/TimeZone is Asia\/Tokyo, and must be UTC/);
  expect(await db.$queryRaw`SELECT current_setting('timezone') AS zone`).toEqual([{ zone: 'UTC' }]);
});

test('raw statements and Prisma store the same correct times of a payment from its creation to its success', async () => {
  const { id: merchantId } = (await ensureMerchant(db, 'shop', ['simulator'])).merchant;
  const { id: accountId } = await db.channelAccount.findFirstOrThrow({ where: { merchantId } });
  const at = (minutes: number) => new Date(Date.UTC(2026, 10, 27, 12, minutes));
  const { payment } = await insertPayment(
    db,
    merchantId,
    { id: 'order', amount: 1000, currency: 'CNY', subject: 'x', metadata: {}, expiresInSeconds: 7_200 },
    {
      channel: 'simulator',
      method: 'wallet',
      payer: undefined,
      returnUrl: undefined,
      metadata: {},
      expiresInMs: 1_800_000,
      askedAttempts: new Set<string>(),
    },
    () => 'hash',
    at(0),
  );
  const { id } = payment;
  expect(payment).toMatchObject({ createdAt: at(0), expiresAt: at(30) });
  expect(await db.payment.findUniqueOrThrow({ where: { id } })).toEqual(payment);
  const order = await db.order.findFirstOrThrow({ where: { merchantId } });
  expect(order).toMatchObject({ createdAt: at(0), expiresAt: at(120) });

  const created = await recordCreated(db, id, { type: 'redirect', url: 'https://wallet.example/' }, at(1));
  expect(created.expiresAt).toBe(at(30).getTime());
  expect(await loadPayment(db, id, at(1))).toEqual(created);

  const paid = {
    ...{ state: 'paid' as const, channelPaymentId: 'trx', amount: 1000, currency: 'CNY' },
    paidAt: at(2).toISOString(),
  };
  const callback = ofTrade({ notificationId: 'n', outTradeNo: id, answer: paid });
  const stored = await storeCallback(db, accountId, callback, Buffer.from('{}'), at(3));
  expect(stored).toMatchObject({
    receivedAt: at(3),
    payment: { channelAnsweredAt: at(3), expiresAt: at(30) },
  });
  const { body: _, ...row } = await db.callback.findUniqueOrThrow({ where: { id: stored.id } });
  expect({ ...row, payment: stored.payment }).toEqual(stored);

  const { snapshot } = await settlePayment(db, id, at(4));
  expect(snapshot.status).toBe('succeeded');
  expect(await loadPayment(db, id, at(4))).toEqual(snapshot);
  expect(await db.payment.findUniqueOrThrow({ where: { id } })).toMatchObject({
    ...{ createdAt: at(0), expiresAt: at(30), paidAt: at(2), settledAt: at(4), channelAnsweredAt: at(3) },
  });
  const { events } = await listEvents(db, merchantId, { limit: 10, after: null });
  expect(events).toMatchObject([{ type: 'payment.succeeded', createdAt: at(4) }]);
  const entries = await db.timelineEntry.findMany({ where: { paymentId: id }, orderBy: { id: 'asc' } });
  expect(entries.map((entry) => entry.at)).toEqual([at(0), at(1), at(3), at(4), at(4)]);

  // The stored times are also right when other database clients read them.
  expect(await queryOnce(databaseUrl, 'SELECT expires_at FROM payments')).toEqual([{ expires_at: at(30) }]);
});
