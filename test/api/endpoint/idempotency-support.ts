import { afterAll, beforeEach } from 'vitest';
import { type Answer, newOrderId, setUp, startTestApi, type TestApi } from '../support.ts';

/**
 * Support for the tests of the header Idempotency-Key: two instances of the API on one database, which act as two
 * processes.
 */

export const { database, api, key, merchantId } = await setUp();
export const other = await startTestApi(database.url);
afterAll(() => other.close());
const usual = new Map<TestApi, TestApi['workflows']['onAwaitNextAction']>();
beforeEach(() => {
  for (const one of [api, other]) {
    if (!usual.has(one)) usual.set(one, one.workflows.onAwaitNextAction);
    one.workflows.onAwaitNextAction = usual.get(one) as TestApi['workflows']['onAwaitNextAction'];
    one.workflows.down = false;
    one.workflows.calls.length = 0;
  }
});

export const newPayment = (change: object = {}) => ({
  order: { id: newOrderId(), amount: 1050, currency: 'CNY' },
  channel: 'simulator',
  ...change,
});
export const send = (path: string, body: unknown, idempotencyKey: string, through = api, as = key) =>
  through.call(path, { key: as, body, headers: { 'idempotency-key': idempotencyKey } });
export const pay = (body: unknown, idempotencyKey: string, through = api) =>
  send('/v1/payments', body, idempotencyKey, through);
export const isReplayed = (answer: Answer) => answer.headers.get('idempotency-replayed');
