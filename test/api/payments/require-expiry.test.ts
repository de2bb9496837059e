import { afterAll, expect, test } from 'vitest';
import { newOrderId, setUp, startTestApi } from '../support.ts';

// Tests the shortest expiry of a payment and of an order. It is some seconds in test mode, and a minute in live mode.

const { api, key, database } = await setUp();
const live = await startTestApi(database.url, { config: { ...api.deps.config, mode: 'live' } });
afterAll(() => live.close());

/** Each request that accepts `expiresInSeconds`, and the path of this field in its body. */
const REQUESTS = [
  {
    path: 'expiresInSeconds',
    call: async (through: typeof api, expiresInSeconds: number) => {
      const order = { id: newOrderId(), amount: 1050, currency: 'CNY' };
      const body = { order, channel: 'simulator', expiresInSeconds };
      return await through.call('/v1/payments', { key, body });
    },
  },
  {
    path: 'order.expiresInSeconds',
    call: async (through: typeof api, expiresInSeconds: number) => {
      const order = { id: newOrderId(), amount: 1050, currency: 'CNY', expiresInSeconds };
      return await through.call('/v1/payments', { key, body: { order, channel: 'simulator' } });
    },
  },
  {
    path: 'expiresInSeconds',
    call: async (through: typeof api, expiresInSeconds: number) => {
      const body = { id: newOrderId(), amount: 1050, currency: 'CNY', expiresInSeconds };
      return await through.call('/v1/orders', { key, body });
    },
  },
] as const;

test.each(REQUESTS)('%#: in test mode, $path must be at least 5 s', async ({ path, call }) => {
  expect((await call(api, 5)).status).toBe(201);
  const refused = await call(api, 4);
  const message = 'must be at least 5 in test mode';
  expect(refused.json).toMatchObject({ status: 422, code: 'invalid_request', errors: [{ path, message }] });
});

test.each(REQUESTS)(
  '%#: in live mode, $path must be at least 60 s, and the refusal names the limit',
  async ({ path, call }) => {
    for (const seconds of [-1, 5, 59]) {
      const refused = await call(live, seconds);
      const message = 'must be at least 60 in live mode';
      expect(refused.json).toMatchObject({
        status: 422,
        code: 'invalid_request',
        detail: `${path}: ${message}.`,
        errors: [{ path, message }],
      });
    }
  },
);

test('the same limits of the expiry apply when an order is created and when it is changed', async () => {
  const id = newOrderId();
  await api.call('/v1/orders', { key, body: { id, amount: 1050, currency: 'CNY' } });
  const change = (through: typeof api, expiresInSeconds: number) =>
    through.call(`/v1/orders/${id}`, { method: 'PATCH', key, body: { expiresInSeconds } });
  expect((await change(api, 4)).json.errors[0].path).toBe('expiresInSeconds');
  expect((await change(live, 59)).json).toMatchObject({
    status: 422,
    errors: [{ path: 'expiresInSeconds', message: 'must be at least 60 in live mode' }],
  });
  expect((await change(live, 60)).json.status).toBe('unpaid');
});
