import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Changes } from '../../src/api/changes.ts';
import { endPayment, recordAnswer, recordCreated } from '../../src/ledger/payments.ts';
import { runningTime } from '../support/progress.ts';
import { eventually, queryOnce, useDatabase } from '../support/stack.ts';
import { newKey, newOrderId, pay, settle as settlePaid, startTestApi, type TestApi } from './support.ts';

// Tests that a request with `?wait=` is answered as soon as something changes, whichever process makes the change. The
// request misses no change.

/**
 * A request that misses its notification waits 30 s. A request that gets its notification takes at most this long,
 * even on the slowest machine.
 */
const AT_ONCE_MS = 10_000;

const { databaseUrl, connect } = useDatabase();
let api: TestApi;
let key: string;
/** A second database client, which acts as another process. */
const elsewhere = connect();

beforeEach(async () => {
  api = await startTestApi(databaseUrl);
  ({ key } = await newKey(api.db));
  await eventually(() => api.changes.listening);
});
afterEach(async () => {
  await api.close();
});

const settle = (id: string) => settlePaid(elsewhere, id);

/** Returns the answer, and the time from `event` to the answer. */
async function answerAfter(path: string, event: () => Promise<void>) {
  const asked = api.call(path, { key });
  await eventually(() => api.changes.waiting === 1);
  await event();
  const took = runningTime();
  return { answer: await asked, took: took() };
}

const terminateListener = () =>
  queryOnce(
    databaseUrl,
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'nodrop-changes' and datname = current_database()",
  );

test('a request that waits for a payment is answered as soon as the payment ends', async () => {
  const { id } = await pay(api, key);
  const { answer, took } = await answerAfter(`/v1/payments/${id}?wait=30`, () => settle(id));
  expect(answer.json).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
  expect(took).toBeLessThan(AT_ONCE_MS);
});

test('a request that waits for an order is answered as soon as the order is paid', async () => {
  const made = await pay(api, key);
  const { answer, took } = await answerAfter(`/v1/orders/${made.orderId}?wait=30`, () => settle(made.id));
  expect(answer.json).toMatchObject({ status: 'succeeded', paidPaymentId: made.id });
  expect(took).toBeLessThan(AT_ONCE_MS);
});

test('a request that waits for a payment is answered when the next action appears, and does not end early if a next action already exists', async () => {
  api.workflows.onAwaitNextAction = async () => false;
  const { json } = await api.call('/v1/payments', {
    key,
    body: { order: { id: newOrderId(), amount: 1050, currency: 'CNY' }, channel: 'simulator' },
  });
  const appears = await answerAfter(`/v1/payments/${json.id}?wait=30`, async () => {
    await recordCreated(elsewhere, json.id, { type: 'redirect', url: 'https://wallet.example/' }, new Date());
  });
  expect(appears.answer.json.payUrl).toBe('https://wallet.example/');
  const ends = await answerAfter(`/v1/payments/${json.id}?wait=30`, async () => {
    await recordAnswer(elsewhere, json.id, { state: 'unpaid' }, 'query', new Date());
    await sleep(300);
    expect(api.changes.waiting).toBe(1);
    await endPayment(elsewhere, json.id, 'closed', 'expired', new Date());
  });
  expect(ends.answer.json.status).toBe('closed');
});

test('a request is answered immediately if the state is final, and after the wait if the state does not change', async () => {
  const { id } = await pay(api, key);
  const began = Date.now();
  expect((await api.call(`/v1/payments/${id}?wait=1`, { key })).json.status).toBe('paying');
  expect(Date.now() - began).toBeGreaterThanOrEqual(990);
  await settle(id);
  const later = runningTime();
  await api.call(`/v1/payments/${id}?wait=30`, { key });
  expect(later()).toBeLessThan(AT_ONCE_MS);
});

test.each(['-1', '61', '1.5', 'x', '', '1&wait=2'])('wait=%s is refused', async (wait) => {
  for (const path of ['/v1/payments/pay_1', '/v1/orders/o1']) {
    const answer = await api.call(`${path}?wait=${wait}`, { key });
    expect([answer.status, answer.json.errors[0].path]).toEqual([422, 'wait']);
  }
});

describe('the loss of the connection that listens for notifications', () => {
  test('the connection is restored, and waiting requests get later changes immediately', async () => {
    const { id } = await pay(api, key);
    const { answer, took } = await answerAfter(`/v1/payments/${id}?wait=30`, async () => {
      await terminateListener();
      await eventually(() => !api.changes.listening);
      await eventually(() => api.changes.listening);
      await settle(id);
    });
    expect(answer.json.status).toBe('succeeded');
    expect(took).toBeLessThan(AT_ONCE_MS);
  });

  test('a change that happens while no connection listens for notifications still answers the waiting requests', async () => {
    const { id } = await pay(api, key);
    const { answer, took } = await answerAfter(`/v1/payments/${id}?wait=30`, async () => {
      const terminated = terminateListener();
      await eventually(() => !api.changes.listening);
      await settle(id);
      await terminated;
    });
    expect(answer.json.status).toBe('succeeded');
    expect(took).toBeLessThan(AT_ONCE_MS);
  });
});

test('many waiting requests hold no database connections', async () => {
  const { id } = await pay(api, key);
  const asked = Array.from({ length: 100 }, () => api.call(`/v1/payments/${id}?wait=30`, { key }));
  await eventually(() => api.changes.waiting === 100);
  expect((await api.call('/v1/orders', { key })).status).toBe(200);
  await settle(id);
  const answers = await Promise.all(asked);
  expect(answers.every(({ json }) => json.status === 'succeeded')).toBe(true);
  expect(api.changes.waiting).toBe(0);
});

test('if too many requests are waiting, a further request is answered immediately with the present state', async () => {
  const full = new Changes(databaseUrl, api.deps.log, 1);
  const never = { read: async () => 'as it is', done: () => false };
  const first = full.until('a', { ...never, timeoutMs: 60_000 });
  const began = runningTime();
  expect(await full.until('b', { ...never, timeoutMs: 60_000 })).toBe('as it is');
  expect(began()).toBeLessThan(AT_ONCE_MS);
  await full.close();
  expect(await first).toBe('as it is');
  expect(full.waiting).toBe(0);
});

test('an address and a merchant each get at most half of the slots, and further requests are answered immediately', async () => {
  const some = new Changes(databaseUrl, api.deps.log, 100, 4);
  const wait = (address: string, merchantId: string) =>
    some.until('a', {
      read: async () => 0,
      done: () => false,
      timeoutMs: 60_000,
      for: { address, merchantId },
    });
  const waiting = [wait('x', '1'), wait('x', '2')];
  expect(await wait('x', '3')).toBe(0);
  waiting.push(wait('y', '1'));
  for (const address of ['y', 'z']) expect(await wait(address, '1')).toBe(0);
  expect(some.waiting).toBe(3);
  await some.close();
  await Promise.all(waiting);
  expect(some.waiting).toBe(0);
});

test('a request with the parameter `wait` counts towards the limit of its caller', async () => {
  const changes = new Changes(databaseUrl, api.deps.log, 100, 2);
  const small = await startTestApi(databaseUrl, { changes });
  const { id, orderId, clientToken } = await pay(small, key);
  const waiting = small.call(`/v1/payments/${id}?wait=60`, { key });
  await eventually(() => changes.waiting === 1);
  const began = runningTime();
  const asked = [
    small.call(`/v1/payments/${id}?wait=30`, { key: clientToken }),
    small.call(`/v1/orders/${orderId}?wait=30`, { key }),
    small.call('/v1/events?wait=30', { key }),
    small.call(`/v1/payments/${id}/cancel`, { key, method: 'POST' }),
  ];
  for (const answer of await Promise.all(asked)) expect(answer.status).toBeLessThan(300);
  expect(began()).toBeLessThan(AT_ONCE_MS);
  await changes.close();
  await waiting;
  await small.close();
});

test('a client that disconnects ends its waiting request', async () => {
  const { id } = await pay(api, key);
  const leaving = new AbortController();
  const asked = api
    .call(`/v1/payments/${id}?wait=60`, { key, signal: leaving.signal })
    .catch((error: Error) => error.name);
  await eventually(() => api.changes.waiting === 1);
  leaving.abort();
  expect(await asked).toBe('AbortError');
  await eventually(() => api.changes.waiting === 0);
});

test('a process that stops answers its waiting requests with the present state', async () => {
  const { id } = await pay(api, key);
  const asked = api.call(`/v1/payments/${id}?wait=60`, { key });
  await eventually(() => api.changes.waiting === 1);
  await api.changes.close();
  expect((await asked).json.status).toBe('paying');
});
