import { describe, expect, test } from 'vitest';
import { payerPayment, payment, switchedPayment } from '../../../src/api/schemas/payment.ts';
import { endPayment } from '../../../src/ledger/payments.ts';
import { newKey, newOrderId, pay } from '../support.ts';
import { api, key, merchantId, seen, settle, to } from './switch-support.ts';

// Tests that POST /v1/payments/{id}/switch lets a payer pay the same order on another channel, with the client token of
// an earlier attempt.

describe('a payer switches', () => {
  test('a switch to another channel makes a new attempt with its own token, and closes the previous attempt', async () => {
    const old = await pay(api, key, {
      returnUrl: 'https://shop.example/thanks?a=1',
      metadata: { cart: 'c-77' },
      payer: { id: 'u1', ip: '::1' },
      expiresInSeconds: 600,
    });
    const answer = await to(old.id, old.clientToken);
    expect(answer.status, answer.text).toBe(201);
    expect(answer.headers.get('access-control-allow-origin')).toBe('*');
    const made = switchedPayment.strict().parse(answer.json);
    expect(made).toMatchObject({
      channel: 'simulator2',
      method: 'wallet',
      amount: 1050,
      currency: 'CNY',
      status: 'paying',
      payUrl: `https://wallet.example/${made.id}`,
      checkoutUrl: `https://pay.example/checkout/${made.id}?token=${made.clientToken}`,
      switchTo: [{ channel: 'simulator', method: 'wallet' }],
    });
    expect(made.id).not.toBe(old.id);
    expect(made.clientToken).not.toBe(old.clientToken);
    expect(payerPayment.strict().parse(await seen(made.id, made.clientToken))).toEqual(
      payerPayment.parse(made),
    );
    expect(await seen(made.id, key)).toMatchObject({
      orderId: old.orderId,
      metadata: { cart: 'c-77' },
      checkoutUrl: null,
      clientToken: null,
    });
    expect(await api.db.payment.findUnique({ where: { id: made.id } })).toMatchObject({
      returnUrl: 'https://shop.example/thanks?a=1',
      payer: { id: 'u1', ip: '::1' },
    });
    expect(Date.parse(made.expiresAt) - Date.parse(made.createdAt)).toBe(600_000);
    expect((await seen(old.id, old.clientToken)).status).toBe('cancelled');
    // Neither payment's token opens the other payment.
    expect((await api.call(`/v1/payments/${old.id}`, { key: made.clientToken })).status).toBe(401);
    expect((await api.call(`/v1/payments/${made.id}`, { key: old.clientToken })).status).toBe(401);
  });

  test('repeated and concurrent switches of one payment create only one new attempt', async () => {
    const old = await pay(api, key);
    const answers = await Promise.all([1, 2, 3].map(() => to(old.id, old.clientToken)));
    answers.push(await to(old.id, old.clientToken));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 201]);
    expect(new Set(answers.map(({ json }) => `${json.id} ${json.clientToken}`)).size).toBe(1);
    expect(await api.db.payment.count({ where: { orderId: old.orderId } })).toBe(2);
  });

  test('each switch makes a new attempt, even back to an earlier channel or after an attempt has ended', async () => {
    const first = await pay(api, key);
    const second = (await to(first.id, first.clientToken)).json;
    const third = await to(second.id, second.clientToken, { channel: 'simulator', method: 'wallet' });
    expect([third.status, third.json.channel]).toEqual([201, 'simulator']);
    await endPayment(api.db, third.json.id, 'closed', 'expired', new Date());
    const fourth = await to(third.json.id, third.json.clientToken, { channel: 'simulator' });
    expect(fourth.status).toBe(201);
    expect(new Set([first.id, second.id, third.json.id, fourth.json.id]).size).toBe(4);
  });

  test('a switch to the same channel and method returns the same attempt and token', async () => {
    const old = await pay(api, key);
    const answer = await to(old.id, old.clientToken, { channel: 'simulator' });
    expect([answer.status, answer.json.id, answer.json.clientToken]).toEqual([200, old.id, old.clientToken]);
  });

  test('if the channel does not answer, a switch is answered 202 and its new attempt stays live', async () => {
    const old = await pay(api, key);
    api.workflows.onAwaitNextAction = async () => false;
    const answer = await to(old.id, old.clientToken);
    expect([answer.status, answer.json.status, answer.json.payUrl]).toEqual([202, 'created', null]);
    expect((await seen(answer.json.id, answer.json.clientToken)).status).toBe('created');
  });

  test('a switch is answered 503 if Temporal is down, and the repeated request succeeds', async () => {
    const old = await pay(api, key);
    api.workflows.down = true;
    const refused = await to(old.id, old.clientToken);
    expect([refused.status, refused.json.code]).toEqual([503, 'temporal_unavailable']);
    expect(refused.headers.get('retry-after')).toBe('2');
    api.workflows.down = false;
    expect((await to(old.id, old.clientToken)).status).toBe(200);
    expect(await api.db.payment.count({ where: { orderId: old.orderId } })).toBe(2);
  });
});

test("a merchant's switch is answered like the creation of a payment", async () => {
  const old = await pay(api, key);
  const answer = await to(old.id, key);
  expect(answer.status).toBe(201);
  expect(payment.strict().parse(answer.json)).toMatchObject({ orderId: old.orderId, channel: 'simulator2' });
  expect(answer.json.checkoutUrl).toContain(answer.json.clientToken);
});

describe('the offered channels', () => {
  test('a payer is offered all channels and methods of the merchant, except the channel and method of the live attempt', async () => {
    const old = await pay(api, key);
    const two = [
      { channel: 'simulator', method: 'wallet' },
      { channel: 'simulator2', method: 'wallet' },
    ];
    expect((await seen(old.id, old.clientToken)).switchTo).toEqual(two.slice(1));
    expect(await seen(old.id, key)).not.toHaveProperty('switchTo');
    await endPayment(api.db, old.id, 'closed', 'expired', new Date());
    expect((await seen(old.id, old.clientToken)).switchTo).toEqual(two);
    const { merchant } = { merchant: await newKey(api.db) };
    await api.db.channelAccount.deleteMany({
      where: { merchantId: merchant.merchantId, channel: 'simulator2' },
    });
    const single = await pay(api, merchant.key);
    expect((await seen(single.id, single.clientToken)).switchTo).toEqual([]);
  });

  test('a payer is offered no channel once the order is paid, cancelled or expired', async () => {
    const one = await pay(api, key);
    await settle(one.id);
    expect((await seen(one.id, one.clientToken)).switchTo).toEqual([]);

    const id = newOrderId();
    const two = await pay(api, key, { order: { id, amount: 1050, currency: 'CNY', expiresInSeconds: 600 } });
    expect((await seen(two.id, two.clientToken)).switchTo).toHaveLength(1);
    await endPayment(api.db, two.id, 'closed', 'expired', new Date());
    await api.db.order.update({
      where: { merchantId_id: { merchantId, id } },
      data: { cancelRequestedAt: new Date() },
    });
    expect((await seen(two.id, two.clientToken)).switchTo).toEqual([]);
    await api.db.order.update({
      where: { merchantId_id: { merchantId, id } },
      data: { cancelRequestedAt: null, expiresAt: new Date() },
    });
    expect((await seen(two.id, two.clientToken)).switchTo).toEqual([]);
  });
});

describe('pages of other origins', () => {
  const PAYERS = ['', '/events', '/hint', '/switch'];
  const preflight = (path: string) =>
    api.call(path, {
      method: 'OPTIONS',
      headers: { origin: 'https://shop.example', 'access-control-request-method': 'GET' },
    });

  test('a page of another origin may call the routes that a client token opens, without cookies', async () => {
    for (const path of PAYERS) {
      const { status, headers } = await preflight(`/v1/payments/pay_1${path}`);
      expect([status, headers.get('access-control-allow-origin')]).toEqual([204, '*']);
      expect(headers.get('access-control-allow-credentials')).toBeNull();
      expect(headers.get('access-control-allow-headers')).toBe(
        'Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Request-Id',
      );
    }
  });

  test('a page of another origin may call only the routes that a client token opens', async () => {
    const { paths } = (await api.call('/openapi.json')).json;
    const others = Object.keys(paths).filter(
      (path) => !PAYERS.some((end) => path === `/v1/payments/{id}${end}`),
    );
    expect(others.length).toBeGreaterThan(10);
    for (const path of others) {
      const { headers } = await preflight(path.replaceAll(/\{\w+\}/g, 'x'));
      expect([path, headers.get('access-control-allow-origin')]).toEqual([path, null]);
    }
  });
});
