import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { delivery, deliveryPage } from '../../../src/api/schemas/event.ts';
import { newDeliveryId } from '../../../src/domain/ids.ts';
import { createApiKey } from '../../../src/ledger/merchants.ts';
import { newKey, pay } from '../support.ts';
import { api, idsOf, key, merchantId, record } from './events-support.ts';

// Tests what merchants can read about the delivery of each event.

describe("a payment's deliveries", () => {
  const deliver = async (row: { id: string; paymentId: string; merchantId: string }, changes: object = {}) =>
    await api.db.delivery.create({
      data: {
        id: newDeliveryId(),
        eventId: row.id,
        merchantId: row.merchantId,
        paymentId: row.paymentId,
        ...changes,
      },
    });
  const list = (id: string, query = '', asKey = key) =>
    api.call(`/v1/payments/${id}/deliveries${query}`, { key: asKey });

  test('a payment of a merchant without an order service has an empty list of deliveries', async () => {
    const payment = await pay(api, key);
    await record(payment);
    expect((await list(payment.id)).json).toEqual({ data: [], nextCursor: null });
  });

  test('the deliveries of a payment are listed newest first, and each has its last 20 attempts', async () => {
    const payment = await pay(api, key);
    const at = (seconds: number) => new Date(Date.UTC(2026, 10, 21, 10, 0, seconds));
    const first = await deliver(await record(payment, 1), {
      status: 'delivered',
      attempts: 25,
      firstAttemptAt: at(0),
      settledAt: at(24),
      createdAt: at(0),
    });
    const second = await deliver(await record(payment, 2, 'refund.succeeded'), {
      nextAttemptAt: at(40),
      createdAt: at(30),
    });
    await api.db.deliveryAttempt.createMany({
      data: Array.from({ length: 25 }, (_, i) => ({
        deliveryId: first.id,
        at: at(i),
        outcome: i < 24 ? 'unknown' : 'agreed',
        statusCode: i === 0 ? null : i < 24 ? 500 : 200,
        detail: i < 24 ? `Call ${i} failed.` : 'It agreed.',
        durationMs: i,
      })),
    });
    const { json } = await list(payment.id);
    for (const one of json.data) delivery.parse(one);
    expect(json.nextCursor).toBeNull();
    expect(json.data[0]).toEqual({
      id: second.id,
      eventId: second.eventId,
      paymentId: payment.id,
      orderId: payment.orderId,
      type: 'refund.succeeded',
      version: 2,
      status: 'pending',
      attempts: 0,
      firstAttemptAt: null,
      nextAttemptAt: at(40).toISOString(),
      settledAt: null,
      log: [],
      temporalUrl: null,
    });
    expect(json.data[1]).toMatchObject({
      id: first.id,
      type: 'payment.succeeded',
      version: 1,
      status: 'delivered',
      attempts: 25,
      settledAt: at(24).toISOString(),
    });
    expect(json.data[1].log).toHaveLength(20);
    expect(json.data[1].log[0]).toEqual({
      at: at(24).toISOString(),
      outcome: 'agreed',
      statusCode: 200,
      detail: 'It agreed.',
      answer: null,
      durationMs: 24,
    });
    expect(json.data[1].log.at(-1).detail).toBe('Call 5 failed.');
    const page = (await list(payment.id, '?limit=1')).json;
    expect(idsOf(page)).toEqual([second.id]);
    expect(idsOf((await list(payment.id, `?limit=1&cursor=${page.nextCursor}`)).json)).toEqual([first.id]);
  });

  test("a payment's list of deliveries contains no delivery of another payment, and only the payment's merchant can read it", async () => {
    const [payment, other] = [await pay(api, key), await pay(api, key)];
    await deliver(await record(payment));
    expect((await list(other.id)).json.data).toEqual([]);
    const stranger = await newKey(api.db);
    expect((await list(payment.id, '', stranger.key)).json.code).toBe('payment_not_found');
    expect((await list(`pay_${randomUUID().slice(0, 8)}`)).status).toBe(404);
  });
});

describe("a merchant's deliveries", () => {
  const BASE = Date.now() - 5 * 86_400_000;
  const since = (ms: number) => new Date(BASE + ms).toISOString();

  /**
   * Creates one delivery of the same payment for each of these statuses.
   * @returns the ids of the deliveries, newest first
   */
  async function deliver(statuses: readonly string[], asKey = key): Promise<string[]> {
    const payment = await pay(api, asKey);
    const ids: string[] = [];
    for (const [i, status] of statuses.entries()) {
      const row = await record(payment, i + 1, 'refund.succeeded', asKey);
      const data = {
        id: newDeliveryId(),
        eventId: row.id,
        merchantId: row.merchantId,
        paymentId: payment.id,
      };
      // The three deliveries of each group are created at the same time.
      const createdAt = new Date(BASE + 1_000 * Math.floor(i / 3));
      const settledAt = status === 'pending' ? null : createdAt;
      const nextAttemptAt = status === 'pending' ? new Date(Date.now() + 86_400_000) : null;
      ids.push(
        (await api.db.delivery.create({ data: { ...data, status, createdAt, settledAt, nextAttemptAt } })).id,
      );
    }
    return ids.reverse();
  }
  const list = (query = '', asKey = key) => api.call(`/v1/deliveries${query}`, { key: asKey });
  const redeliver = (body: unknown, asKey = key) =>
    api.call('/v1/deliveries/redeliver', { key: asKey, body });
  const asked = async () =>
    (await api.db.delivery.findMany({ where: { merchantId, redeliveryAskedAt: { not: null } } })).map(
      ({ id }) => id,
    );

  test("a merchant's deliveries are listed newest first, and pages have no gaps while new deliveries arrive", async () => {
    await deliver(['pending'], (await newKey(api.db)).key);
    const statuses = [...Array(8)].map((_, i) => (i % 2 === 0 ? 'pending' : 'delivered'));
    const rows = await api.db.delivery.findMany({
      where: { id: { in: await deliver(statuses) } },
      orderBy: [{ createdAt: 'desc' }, { id: 'desc' }],
    });
    for (const [status, expected] of [
      ['', rows],
      ['&status=pending', rows.filter((row) => row.status === 'pending')],
    ] as const) {
      const seen: string[] = [];
      for (let query = ''; ; ) {
        const { status: code, json } = await list(`?limit=3${status}${query}`);
        expect(code).toBe(200);
        deliveryPage.parse(json);
        seen.push(...idsOf(json));
        if (json.nextCursor === null) break;
        query = `&cursor=${json.nextCursor}`;
        await deliver(['pending']).then((ids) =>
          api.db.delivery.updateMany({ where: { id: { in: ids } }, data: { createdAt: new Date() } }),
        );
      }
      expect(seen).toEqual(expected.map(({ id }) => id));
      await api.db.delivery.deleteMany({
        where: { merchantId, createdAt: { gt: new Date(Date.now() - 3_600_000) } },
      });
    }
    expect((await list('?status=lost')).json.errors[0].path).toBe('status');
    expect((await list('?cursor=zzz')).json.errors[0].path).toBe('cursor');
  });

  test('only an operator sees the workflow of a delivery', async () => {
    const [id = ''] = await deliver(['pending']);
    const { key: operator } = await createApiKey(api.db, merchantId, 'operator');
    const [shown] = (await list('', operator)).json.data;
    expect(shown.temporalUrl).toContain(encodeURIComponent(`delivery/${id}`));
    expect((await list()).json.data[0]).toMatchObject({ id, temporalUrl: null });
    const payment = (await api.call(`/v1/payments/${shown.paymentId}/deliveries`, { key: operator })).json;
    expect(payment.data[0].temporalUrl).toBe(shown.temporalUrl);
  });

  test('a request to redeliver affects only deliveries with the requested status, and a repeated request has no further effect', async () => {
    const stranger = await newKey(api.db);
    await deliver(['pending', 'delivered'], stranger.key);
    const [, gone, , delivered, waits] = await deliver([
      'pending',
      'delivered',
      'pending',
      'gone',
      'pending',
    ]);
    for (let i = 0; i < 2; i++) {
      expect(await redeliver({ status: 'delivered' })).toMatchObject({
        status: 202,
        json: { count: 1, nextSince: null },
      });
      expect(await asked()).toEqual([delivered]);
    }
    expect(api.deliveryWorkflows.calls).toEqual([
      { name: 'redeliverWaiting', deliveryId: merchantId },
      { name: 'redeliverWaiting', deliveryId: merchantId },
    ]);
    expect((await redeliver({ status: 'pending', since: since(1_000) })).json.count).toBe(1);
    expect(
      (await redeliver({ status: 'gone', since: since(7_201_000).replace('Z', '+02:00') })).json.count,
    ).toBe(1);
    expect((await asked()).toSorted()).not.toContain(waits);
    expect(await asked()).toContain(gone);
    expect((await redeliver({ status: 'conflict' })).json).toEqual({ count: 0, nextSince: null });
    expect(
      await api.db.delivery.count({
        where: { redeliveryAskedAt: { not: null }, merchantId: stranger.merchantId },
      }),
    ).toBe(0);
  });

  test('a redelivery is accepted while Temporal is down, because the ledger records the request', async () => {
    const [id] = await deliver(['pending']);
    api.deliveryWorkflows.down = true;
    expect(await redeliver({ status: 'pending' })).toMatchObject({ status: 202, json: { count: 1 } });
    expect(await asked()).toEqual([id]);
  });

  test.each([
    [{}, 'status'],
    [{ status: 'superseded' }, 'status'],
    [{ status: 'pending', since: 'yesterday' }, 'since'],
    [{ status: 'pending', limit: 3 }, 'limit'],
  ])('a redelivery request with the body %j is refused', async (body, path) => {
    expect(await redeliver(body)).toMatchObject({ status: 422, json: { errors: [{ path }] } });
  });

  test('if the start time of a redelivery is before the first event, every event that is still stored is redelivered', async () => {
    await deliver(['pending']);
    expect((await redeliver({ status: 'pending', since: '0000-01-01T00:00:00Z' })).json.count).toBe(1);
  });
});
