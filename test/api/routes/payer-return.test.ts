import { beforeEach, describe, expect, test } from 'vitest';
import { setMerchant } from '../../../src/ledger/merchants.ts';
import { newKey, newOrderId, pay, SECRET, setUp, startTestApi } from '../support.ts';

// Tests the return of the payer from the channel. nodrop schedules one query, and redirects the payer to the shop.

const { api, key } = await setUp();
beforeEach(() => {
  api.workflows.down = false;
  api.workflows.calls.length = 0;
});

describe("the payer's return from the channel", () => {
  test("causes a hint, and redirects to the merchant's return URL without a payment status", async () => {
    const made = await pay(api, key, {
      returnUrl: 'https://shop.example/thanks?cart=a+b%20c&x=%7e&y#top',
    });
    api.workflows.calls.length = 0;
    const answer = await api.call(`/return/${made.id}?token=${made.clientToken}&out_trade_no=x`);
    expect(answer.status).toBe(303);
    expect(answer.headers.get('location')).toBe(
      // The redirect keeps the query string of the merchant's return URL unchanged.
      `https://shop.example/thanks?cart=a+b%20c&x=%7e&y&paymentId=${made.id}#top`,
    );
    expect(answer.headers.get('referrer-policy')).toBe('no-referrer');
    expect(answer.headers.get('cache-control')).toBe('no-store');
    expect(api.workflows.named('hint')).toHaveLength(1);
  });

  test.each([
    ['https://shop.example/', 'https://shop.example/?'],
    ['https://shop.example/?', 'https://shop.example/?'],
    ['https://shop.example/?a=1&', 'https://shop.example/?a=1&'],
    // nodrop stores the URL in the normalised form that a URL parser returns.
    ['https://shop.example', 'https://shop.example/?'],
    ['https:\\\\Shop.example\\a b?"é#', 'https://shop.example/a%20b?%22%C3%A9&'],
  ])("with the returnUrl %s, redirects to %s followed by the payment's id", async (returnUrl, expected) => {
    const made = await pay(api, key, { returnUrl });
    const answer = await api.call(`/return/${made.id}?token=${made.clientToken}`);
    expect(answer.headers.get('location')).toMatch(`${expected}paymentId=${made.id}`);
  });

  test.each([
    ['myapp://thanks', 'myapp://thanks?'],
    ['myapp://thanks/a?b=1#c', 'myapp://thanks/a?b=1&'],
    ['com.example.app:/thanks', 'com.example.app:/thanks?'],
    ['MyApp:thanks', 'myapp:thanks?'],
  ])('redirects to the URL %s if the merchant has allowed its app scheme', async (returnUrl, expected) => {
    const own = await newKey(api.db);
    const { name } = await api.db.merchant.findUniqueOrThrow({ where: { id: own.merchantId } });
    const order = { id: newOrderId(), amount: 1050, currency: 'CNY' };
    const request = { key: own.key, body: { order, channel: 'simulator', returnUrl } };
    const early = await api.call('/v1/payments', request);
    expect([early.status, early.json.errors?.[0].path]).toEqual([422, 'returnUrl']);
    expect(await api.db.order.count({ where: { id: order.id } })).toBe(0);
    const allow = (returnSchemes: string[]) =>
      setMerchant(api.db, name, { returnSchemes }, SECRET, new Date());
    await allow(['com.example.app', 'myapp']);
    const made = await api.call('/v1/payments', request);
    expect(made.status).toBe(201);
    // The merchant no longer allows this scheme. A payer who is already on the way back is still redirected to it.
    await allow([]);
    const back = await api.call(`/return/${made.json.id}?token=${made.json.clientToken}`);
    const { hash } = new URL(returnUrl);
    expect([back.status, back.headers.get('location')]).toEqual([
      303,
      `${expected}paymentId=${made.json.id}${hash}`,
    ]);
    // A repetition of the same request is still accepted. A different request with this scheme is refused.
    const again = await api.call('/v1/payments', request);
    expect([again.status, again.json.id]).toEqual([200, made.json.id]);
    const other = { ...request.body, returnUrl: `${returnUrl}2` };
    expect((await api.call('/v1/payments', { ...request, body: other })).status).toBe(422);
    // This scheme is not allowed for the other merchant.
    expect((await api.call('/v1/payments', { ...request, key })).status).toBe(422);
  });

  test('causes no hint if the request is a HEAD', async () => {
    const made = await pay(api, key);
    api.workflows.calls.length = 0;
    const answer = await api.call(`/return/${made.id}?token=${made.clientToken}`, { method: 'HEAD' });
    expect(answer.status).toBe(303);
    expect(api.workflows.calls).toEqual([]);
  });

  test('redirects the payer even while Temporal is down', async () => {
    const made = await pay(api, key, { returnUrl: 'https://shop.example/' });
    api.workflows.down = true;
    expect((await api.call(`/return/${made.id}?token=${made.clientToken}`)).status).toBe(303);
  });

  test('redirects to the cashier page with the parameter `returned` if the payment has no returnUrl', async () => {
    const made = await pay(api, key);
    const path = `/return/${made.id}?token=${made.clientToken}`;
    const answer = await api.call(path);
    expect(answer.status).toBe(303);
    expect(answer.headers.get('referrer-policy')).toBe('no-referrer');
    const { pathname, search } = new URL(answer.headers.get('location') ?? '', `${api.url}${path}`);
    expect(`${pathname}${search}`).toBe(`/checkout/${made.id}?token=${made.clientToken}&returned=1`);
    expect((await api.call(`${pathname}${search}`)).status).toBe(200);
  });

  test('redirects to the cashier page while the database is down, because that page keeps retrying', async () => {
    const dead = await startTestApi('postgresql://nodrop@127.0.0.1:1/none');
    try {
      const path = '/return/pay_1?token=ct_%22x%26y';
      const answer = await dead.call(path);
      expect(answer.status).toBe(303);
      expect(answer.headers.get('referrer-policy')).toBe('no-referrer');
      const cashier = new URL(answer.headers.get('location') ?? '', `${dead.url}${path}`);
      expect(`${cashier.pathname}${cashier.search}`).toBe('/checkout/pay_1?token=ct_%22x%26y&returned=1');
      const page = await dead.call(`${cashier.pathname}${cashier.search}`);
      expect([page.status, page.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
    } finally {
      await dead.close();
    }
  });

  test.each(['return', 'checkout'])(
    'the path /%s/{id}/ redirects to the same path without the trailing slash',
    async (name) => {
      const made = await pay(api, key);
      api.workflows.calls.length = 0;
      const path = `/${name}/${made.id}`;
      const query = `?token=${made.clientToken}&returned=1`;
      const answer = await api.call(`${path}/${query}`);
      expect(answer.status).toBe(308);
      expect(answer.headers.get('referrer-policy')).toBe('no-referrer');
      const to = new URL(answer.headers.get('location') ?? '', `${api.url}${path}/`);
      expect(`${to.pathname}${to.search}`).toBe(`${path}${query}`);
      expect(api.workflows.calls).toEqual([]);
    },
  );

  test('is answered 404 without a token, or with a token that is wrong or belongs to another payment', async () => {
    const [made, other] = [await pay(api, key), await pay(api, key)];
    api.workflows.calls.length = 0;
    for (const query of [
      '',
      '?token=',
      '?token=ct_wrong',
      `?token=${other.clientToken}`,
      `?token=${'x'.repeat(201)}`,
      `?token=${other.clientToken}&token=${made.clientToken}`,
    ]) {
      const answer = await api.call(`/return/${made.id}${query}`);
      expect([answer.status, answer.headers.get('content-type')]).toEqual([404, 'text/html; charset=utf-8']);
      expect(answer.text).toContain('This link does not open a payment');
      expect(answer.text).not.toContain(made.id);
    }
    expect(api.workflows.calls).toEqual([]);
  });
});
