import { expect, test } from 'vitest';
import { hideTokens } from '../../../src/api/http/request-log.ts';
import { pay, setUp, simulatorCallback } from '../support.ts';

// Tests that the API logs one line for each answer. The line has the request's id and contains no secrets.

const { api, key } = await setUp();

test('no log line contains a key or token, in whichever part of the request it was sent', async () => {
  const made = await pay(api, key, { returnUrl: 'https://shop.example/' });
  const token: string = made.clientToken;
  api.workflows.down = true;
  await api.call(`/v1/payments/${made.id}`, { key: token });
  await api.call(`/v1/payments/${made.id}/hint`, { key: token, method: 'POST' });
  await api.call(`/return/${made.id}?token=${token}`);
  await api.call(`/return/${made.id}?TOKEN=${token}`);
  await api.call(`/checkout/${made.id}?token=${token}&returned=1`);
  await api.call(`/v1/payments/${token}?token=${token}`, { key });
  const encoded = token.replace('_', '%5f');
  await api.call(`/return/${made.id}?t%6Fken=${encoded}`);
  await api.call(`/checkout/${made.id}?x=1&%74oken=${encoded}`);
  await api.call(`/v1/payments/${encoded}`, { key });
  await api.call(
    `/checkout/${made.id}?returned=1&payment_intent=pi_1&payment_intent_client_secret=pi_1_canary`,
  );
  await api.call(`/return/${made.id}?payment_intent_client_%73ecret=pi_1_canary`);
  await api.call(`/v1/orders/${key}`, { key });
  await api.call('/v1/orders', { key: `${key}x` });
  await api.call('/v1/orders', { key, headers: { 'x-request-id': token, cookie: token } });
  await api.call('/callbacks/simulator', { ...simulatorCallback(made.id), method: 'POST' });
  api.workflows.down = false;
  expect(api.logged()).toContain(`/return/${made.id}?token=[hidden]`);
  expect(api.logged()).toContain(`/checkout/${made.id}?token=[hidden]&returned=1`);
  expect(api.logged()).toContain(`&payment_intent=pi_1&payment_intent_client_secret=[hidden]`);
  expect(api.logged()).not.toContain('canary');
  expect(api.logged()).not.toContain(token.slice(3));
  expect(api.logged()).not.toContain(key.slice(3));
});

test("the log shows the request id that the caller sent, or a new id if the caller's id has an invalid form", async () => {
  const given = await api.call('/v1/orders/nobody', { key, headers: { 'x-request-id': 'shop-42' } });
  expect([given.headers.get('x-request-id'), given.json.requestId]).toEqual(['shop-42', 'shop-42']);
  for (const unfit of ['x'.repeat(65), 'a b', '{"a":1}', 'ct_abc']) {
    const answer = await api.call('/v1/orders', { key, headers: { 'x-request-id': unfit } });
    expect(answer.headers.get('x-request-id')).toMatch(/^[0-9A-Z]{26}$/);
  }
  const line =
    api
      .logged()
      .split('\n')
      .find((text) => text.includes('shop-42')) ?? '';
  expect(JSON.parse(line)).toMatchObject({
    requestId: 'shop-42',
    req: { method: 'GET', url: '/v1/orders/nobody' },
    res: { statusCode: 404 },
    msg: 'answered',
  });
});

test.each([
  ['/return/pay_1?token=ct_a-b_c&x=1', '/return/pay_1?token=[hidden]&x=1'],
  ['/?x=1&Token=abc', '/?x=1&Token=[hidden]'],
  ['/v1/payments/ct_abc', '/v1/payments/ct_[hidden]'],
  ['/?k=sk_abc', '/?k=sk_[hidden]'],
  ['/v1/payments/pay_1?wait=3', '/v1/payments/pay_1?wait=3'],
  ['/return/pay_1?t%6Fken=%63t%5Fa-b&x=%7e', '/return/pay_1?token=[hidden]&x=%7e'],
  ['/?%54oken=a/b?c=%ZZ&x', '/?Token=[hidden]&x'],
  ['/?a_Client_Secret=x&b=1&secret=y', '/?a_Client_Secret=[hidden]&b=1&secret=[hidden]'],
  ['/?x=secret', '/?x=secret'],
  ['/v1/payments/ct%5Fabc/%E0%A4', '/v1/payments/ct_[hidden]/%E0%A4'],
])('the request log shows the URL %s as %s', (url, logged) => {
  expect(hideTokens(url)).toBe(logged);
});

test('the metrics count requests by route, and payments and callbacks by outcome', async () => {
  const made = await pay(api, key);
  await api.call('/callbacks/simulator', { ...simulatorCallback(made.id), method: 'POST' });
  const text = await api.deps.metrics.registry.metrics();
  expect(text).toMatch(
    /nodrop_http_request_duration_seconds_count\{route="\/v1\/payments\/\{id\}",method="GET",status="200"\} \d/,
  );
  expect(text).toMatch(/nodrop_payments_requested_total\{channel="simulator",result="created"\} \d/);
  expect(text).toMatch(/nodrop_callbacks_received_total\{channel="simulator",result="stored"\} \d/);
  expect(text).not.toContain(made.id);
});
