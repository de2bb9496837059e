import pg from 'pg';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { TRANSACTIONS_AT_ONCE } from '../../src/ledger/transaction-limits.ts';
import { eventually, queryOnce } from '../support/stack.ts';
import { type Answer, newKey, newOrderId, pay, setUp } from './support.ts';

// Tests that nodrop still serves the requests of other merchants while all orders of one merchant are locked.

/** This is more than the number of requests that can run and wait at the same time. */
const REQUESTS = 250;

const { api, key, merchantId, database } = await setUp();
const other = await newKey(api.db);

/** A connection that holds the locks on all of the merchant's orders. */
let holder: pg.Client;
beforeEach(async () => {
  holder = new pg.Client({ connectionString: database.url });
  await holder.connect();
});
afterAll(async () => {
  await holder?.end();
});

/** Counts the connections that wait for a lock. */
async function waiting(): Promise<number> {
  const [row] = await queryOnce(
    database.url,
    `select count(*)::int as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
  );
  return Number(row?.n);
}

/** Sends all requests at the same time while the locks are held. Also sends a request of the other merchant. */
async function whileLocked(atOnce: number, requests: readonly (() => Promise<Answer>)[]) {
  await holder.query('begin');
  await holder.query('select 1 from orders for update');
  let refused = 0;
  const answers = Promise.all(
    requests.map(async (request) => {
      const answer = await request();
      if (answer.status === 503) refused += 1;
      return answer;
    }),
  );
  await eventually(async () => (await waiting()) >= atOnce);
  let most = 0;
  const served: number[] = [];
  for (let i = 0; i < 20; i++) {
    const answer = await api.call('/v1/payments', {
      ...{ method: 'POST', key: other.key },
      body: { order: { id: newOrderId(), amount: 10, currency: 'CNY', subject: 'x' }, channel: 'simulator' },
    });
    served.push(answer.status);
    most = Math.max(most, await waiting());
  }
  await eventually(() => refused > 0);
  await holder.query('rollback');
  await holder.end();
  return { most, served, answers: await answers };
}

const ALL_SERVED = Array(20).fill(201);

function expectSafeToRepeat(answers: readonly Answer[], good: number): void {
  for (const { status, headers, json } of answers) {
    if (status === good) continue;
    expect([status, json.code]).toEqual([503, expect.stringMatching(/^(too_busy|database_unavailable)$/)]);
    expect(Number(headers.get('retry-after'))).toBeGreaterThan(0);
  }
}

test('many requests for attempts of one order use one database connection while the order is locked', async () => {
  const { orderId } = await pay(api, key);
  const again = () =>
    api.call('/v1/payments', { method: 'POST', key, body: { orderId, channel: 'simulator' } });
  const { most, served, answers } = await whileLocked(
    1,
    Array.from({ length: REQUESTS }, () => again),
  );
  expect(served).toEqual(ALL_SERVED);
  expect(most).toBe(1);
  expectSafeToRepeat(answers, 200);
  expect(answers.some(({ json }) => json.code === 'too_busy')).toBe(true);
  expect((await again()).status).toBe(200);
});

test('cancellations of many orders use a limited number of database connections', async () => {
  const orders: string[] = [];
  for (let i = 0; i < REQUESTS; i++) orders.push(newOrderId());
  const order = { amount: 10n, currency: 'CNY', subject: 'x' };
  await api.db.order.createMany({ data: orders.map((id) => ({ ...order, merchantId, id })) });
  const cancels = orders.map((id) => () => api.call(`/v1/orders/${id}/cancel`, { method: 'POST', key }));
  const { most, served, answers } = await whileLocked(TRANSACTIONS_AT_ONCE, cancels);
  expect(served).toEqual(ALL_SERVED);
  expect(most).toBe(TRANSACTIONS_AT_ONCE);
  expectSafeToRepeat(answers, 200);
  expect(answers.some(({ json }) => json.code === 'too_busy')).toBe(true);
});
