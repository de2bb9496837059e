import { beforeEach, describe, expect, test } from 'vitest';
import { payerPayment, payment } from '../../../src/api/schemas/payment.ts';
import { automaticRefundId } from '../../../src/domain/ids.ts';
import { storeCallback } from '../../../src/ledger/callbacks.ts';
import { endPayment, recordAnswer, recordCreated, settlePayment } from '../../../src/ledger/payments.ts';
import { recordRefundAnswer } from '../../../src/ledger/refund-answers.ts';
import { ofTrade } from '../../support/callback.ts';
import {
  newKey,
  newOrderId,
  paidAnswer,
  pay,
  StandInWorkflows,
  settle,
  setUp,
  startTestApi,
  takingOnly,
} from '../support.ts';

// Tests payments over HTTP, with a stand-in for the workflows. Other tests run the whole system.

const { database, api, key } = await setUp();
beforeEach(() => {
  const fresh = new StandInWorkflows(api.db);
  Object.assign(api.workflows, {
    down: false,
    onAwaitNextAction: fresh.onAwaitNextAction,
    onAskChannel: fresh.onAskChannel,
  });
  api.workflows.calls.length = 0;
});

const inline = (change: Record<string, unknown> = {}) => ({
  order: { id: newOrderId(), amount: 1050, currency: 'CNY' },
  channel: 'simulator',
  ...change,
});
const post = (body: unknown, as = key) => api.call('/v1/payments', { key: as, body });

describe('creating a payment', () => {
  test('a payment with a new order in the same request is answered 201, in the documented format', async () => {
    const body = inline({
      returnUrl: 'https://shop.example/?a=1',
      metadata: { a: 'b' },
      payer: { id: 'u1', ip: '::1' },
    });
    const answer = await post(body);
    expect(answer.status).toBe(201);
    const made = payment.strict().parse(answer.json);
    expect(made).toMatchObject({
      orderId: body.order.id,
      channel: 'simulator',
      method: 'wallet',
      amount: 1050,
      currency: 'CNY',
      status: 'paying',
      orderUpdate: null,
      payUrl: `https://wallet.example/${made.id}`,
      nextAction: { type: 'redirect', url: `https://wallet.example/${made.id}` },
      checkoutUrl: `https://pay.example/checkout/${made.id}?token=${made.clientToken}`,
      refundedAmount: 0,
      temporalUrl: null,
      metadata: { a: 'b' },
    });
    expect(made.clientToken).toMatch(/^ct_[\w-]{43}$/);
    expect(Date.parse(made.expiresAt) - Date.parse(made.createdAt)).toBe(1_800_000);
  });

  test('a repeated request while the payment is live is answered 200 with the same payment and token, even if Temporal is down', async () => {
    const body = inline();
    const first = await post(body);
    api.workflows.calls.length = 0;
    api.workflows.down = true;
    const again = await post(body);
    expect(again.status).toBe(200);
    expect(again.json).toEqual(first.json);
    expect(api.workflows.calls).toEqual([]);
    expect((await post({ orderId: body.order.id, channel: 'simulator' })).json.id).toBe(first.json.id);
  });

  test('concurrent requests for the same payment on two API processes create one payment', async () => {
    const second = await startTestApi(database.url);
    try {
      for (let round = 0; round < 5; round++) {
        const body = inline();
        const answers = await Promise.all(
          [api, second, api, second].map((instance) => instance.call('/v1/payments', { key, body })),
        );
        expect(new Set(answers.map(({ json }) => json.id)).size).toBe(1);
        expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 201]);
        expect(await api.db.payment.count({ where: { orderId: body.order.id } })).toBe(1);
      }
    } finally {
      await second.close();
    }
  });

  test('if the channel does not answer in time, the answer is 202 with the status created and a token', async () => {
    api.workflows.onAwaitNextAction = async () => false;
    const began = Date.now();
    const answer = await post(inline());
    expect([answer.status, answer.json.status, answer.json.payUrl]).toEqual([202, 'created', null]);
    expect(answer.json.clientToken).toMatch(/^ct_/);
    const [call] = api.workflows.named('start');
    // This request started the workflow, and waits up to eight seconds for the workflow's result.
    expect(call?.args[0]).toBe(true);
    expect(call?.args[1]).toBeGreaterThanOrEqual(8_000 - (Date.now() - began));
    expect(call?.args[1]).toBeLessThanOrEqual(8_000);
  });

  test('while the channel decides about a trade whose creation it never confirmed, a repeated request is answered 202 immediately', async () => {
    api.workflows.onAwaitNextAction = async () => false;
    const body = inline();
    const { id } = (await post(body)).json;
    await recordAnswer(api.db, id, { state: 'processing' }, 'query', new Date());
    api.workflows.calls.length = 0;
    const again = await post(body);
    expect([again.status, again.json.id, again.json.status]).toEqual([202, id, 'created']);
    expect([...api.workflows.named('start'), ...api.workflows.named('awaitNextAction')]).toEqual([]);
  });

  test('if Temporal is down, the request is answered 503 and the payment stays created, and a repeated request continues the payment', async () => {
    api.workflows.down = true;
    const body = inline();
    const refused = await post(body);
    expect([refused.status, refused.json.code]).toEqual([503, 'temporal_unavailable']);
    expect(refused.headers.get('retry-after')).toBe('2');
    const row = await api.db.payment.findFirstOrThrow({ where: { orderId: body.order.id } });
    expect(row.status).toBe('created');
    api.workflows.down = false;
    const again = await post(body);
    expect([again.status, again.json.id, again.json.status]).toEqual([200, row.id, 'paying']);
  });

  test('a repeated request renews an expired next action', async () => {
    const body = inline();
    const { json } = await post(body);
    const gone = {
      type: 'redirect' as const,
      url: 'https://wallet.example/old',
      expiresAt: '2020-01-01T00:00:00.000Z',
    };
    await recordCreated(api.db, json.id, gone, new Date());
    expect((await api.call(`/v1/payments/${json.id}`, { key })).json).toMatchObject({
      nextAction: null,
      payUrl: null,
    });
    expect((await post(body)).json).toMatchObject({
      id: json.id,
      payUrl: `https://wallet.example/${json.id}`,
    });
  });

  test("if the channel rejects the payment, the answer is 422 with the channel's reason", async () => {
    api.workflows.onAwaitNextAction = async ({ id }) => {
      await recordAnswer(api.db, id, { state: 'failed', reason: 'merchant blocked' }, 'query', new Date());
      await endPayment(api.db, id, 'failed', 'merchant blocked', new Date());
      return true;
    };
    const answer = await post(inline());
    expect([answer.status, answer.json.code]).toEqual([422, 'channel_rejected']);
    expect(answer.json.detail).toContain('merchant blocked');
  });

  test('a paid order accepts no other payment', async () => {
    const body = inline();
    const { json } = await post(body);
    await settle(api.db, json.id);
    const answer = await post(body);
    expect([answer.status, answer.json.code]).toEqual([409, 'order_already_paid']);
    expect((await api.call(`/v1/orders/${body.order.id}`, { key })).json).toMatchObject({
      status: 'succeeded',
      paidPaymentId: json.id,
      payments: [
        {
          id: json.id,
          orderUpdate: 'applied',
          settledBy: 'query',
          receivedAmount: 1050,
          nextAction: null,
          payUrl: null,
        },
      ],
    });
  });

  describe('a request for another attempt while money of the order is not settled yet', () => {
    const paid = paidAnswer();

    test('if the money belongs to an ended attempt, the request is refused with 409 and Retry-After until the money is settled', async () => {
      const body = inline();
      const { json } = await post(body);
      await endPayment(api.db, json.id, 'closed', 'unpaid', new Date());
      const { channelAccountId } = await api.db.payment.findUniqueOrThrow({ where: { id: json.id } });
      const callback = ofTrade({ notificationId: `n-${json.id}`, outTradeNo: json.id, answer: paid });
      await storeCallback(api.db, channelAccountId, callback, Buffer.from('{}'), new Date());
      const refused = await post(body);
      expect([refused.status, refused.json.code]).toEqual([409, 'attempt_unresolved']);
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
      await settlePayment(api.db, json.id, new Date());
      expect((await post(body)).json.code).toBe('order_already_paid');
      expect(await api.db.payment.count({ where: { orderId: body.order.id } })).toBe(1);
    });

    test("if the query shows that a live attempt was paid, the request waits for the order's result", async () => {
      const body = inline();
      const { json } = await post(body);
      let settling: Promise<unknown> | undefined;
      api.workflows.onAskChannel = async ({ id }) => {
        await recordAnswer(api.db, id, paid, 'query', new Date());
        settling = new Promise((resolve) => setImmediate(resolve)).then(() =>
          settlePayment(api.db, id, new Date()),
        );
        return true;
      };
      const refused = await post({ ...body, channel: 'simulator2' });
      await settling;
      expect([refused.status, refused.json.code]).toEqual([409, 'order_already_paid']);
      expect(await api.db.payment.findMany({ where: { orderId: body.order.id } })).toMatchObject([
        { id: json.id, cancelRequestedAt: null },
      ]);
    });

    test('if money of a live attempt is not settled in time, the request is refused with 409 and Retry-After', async () => {
      const body = inline();
      await post(body);
      api.workflows.onAskChannel = async ({ id }) => {
        await recordAnswer(api.db, id, paid, 'query', new Date());
        return true;
      };
      const refused = await post({ ...body, channel: 'simulator2' });
      expect([refused.status, refused.json.code]).toEqual([409, 'attempt_unresolved']);
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
      expect(await api.db.payment.count({ where: { orderId: body.order.id } })).toBe(1);
    });
  });

  test.each([
    [404, 'order_not_found', { orderId: 'nobody', order: undefined }, undefined],
    [422, 'unknown_channel', { channel: 'nobody' }, 'channel'],
    [422, 'invalid_request', { method: 'cash' }, 'method'],
    [422, 'invalid_request', { order: undefined }, 'orderId'],
    [422, 'invalid_request', { orderId: 'both' }, 'orderId'],
    [422, 'invalid_request', { channel: undefined }, 'channel'],
    [422, 'invalid_request', { channel: 'a\u0000' }, 'channel'],
    [422, 'invalid_request', { returnUrl: 'javascript:alert(1)' }, 'returnUrl'],
    [422, 'invalid_request', { returnUrl: 'data:text/html,x' }, 'returnUrl'],
    [422, 'invalid_request', { returnUrl: 'vbscript:x' }, 'returnUrl'],
    [422, 'invalid_request', { returnUrl: 'file:///etc/passwd' }, 'returnUrl'],
    [422, 'invalid_request', { returnUrl: 'blob:https://a/b' }, 'returnUrl'],
    [422, 'invalid_request', { returnUrl: 'about:blank' }, 'returnUrl'],
    [422, 'invalid_request', { returnUrl: 'VIEW-SOURCE:x' }, 'returnUrl'],
    // The merchant has not allowed this app scheme.
    [422, 'invalid_request', { returnUrl: 'myapp://thanks' }, 'returnUrl'],
    [422, 'invalid_request', { returnUrl: 'shop.example' }, 'returnUrl'],
    [422, 'invalid_request', { returnUrl: 'https://shop.example/\n' }, 'returnUrl'],
    [422, 'invalid_request', { returnUrl: 'ht\ttps://shop.example/' }, 'returnUrl'],
    [422, 'invalid_request', { returnUrl: 'https://shop.example/\u0085' }, 'returnUrl'],
    [422, 'invalid_request', { returnUrl: 'https://user@shop.example/' }, 'returnUrl'],
    [422, 'invalid_request', { returnUrl: 'https://:word@shop.example/' }, 'returnUrl'],
    [422, 'invalid_request', { metadata: JSON.parse('{"__proto__":"x"}') }, 'metadata.__proto__'],
    [422, 'invalid_request', { metadata: JSON.parse('{"a":"b","__proto__":{}}') }, 'metadata.__proto__'],
    [422, 'invalid_request', { payer: { ip: 'localhost' } }, 'payer.ip'],
    [422, 'invalid_request', { payer: { name: 'x' } }, 'payer.name'],
    [422, 'invalid_request', { expiresInSeconds: 4 }, 'expiresInSeconds'],
    [422, 'invalid_request', { amount: 5 }, 'amount'],
  ])('is refused with %i %s if the request contains %j', async (status, code, change, path) => {
    const answer = await post(inline(change));
    expect([answer.status, answer.json.code, answer.json.errors?.[0].path]).toEqual([status, code, path]);
    expect(api.workflows.calls).toEqual([]);
  });

  test.each([
    ['cny', 'must be in capitals: CNY'],
    ['Cny', 'must be in capitals: CNY'],
    ['yuan', 'must be a currency of ISO 4217, such as CNY'],
    ['ABC', 'must be a currency of ISO 4217, such as CNY'],
    ['', 'must be a currency of ISO 4217, such as CNY'],
  ])(
    'the currency %j is refused with one error, which says what to send instead',
    async (currency, message) => {
      const answer = await post(inline({ order: { id: newOrderId(), amount: 1, currency } }));
      expect([answer.status, answer.json.errors]).toEqual([422, [{ path: 'order.currency', message }]]);
    },
  );

  test('a currency that the channel does not accept is refused for a new order and for an existing order', async () => {
    const picky = await startTestApi(database.url, {
      channels: new Map([['simulator', takingOnly({ CNY: {} }, api.deps.channels.get('simulator'))]]),
    });
    try {
      const body = inline({ order: { id: newOrderId(), amount: 1, currency: 'EUR' } });
      const order = body.order as { id: string };
      await api.call('/v1/orders', { key, body: order });
      for (const request of [body, { orderId: order.id, channel: 'simulator' }]) {
        const answer = await picky.call('/v1/payments', { key, body: request });
        expect([answer.status, answer.json.code]).toEqual([422, 'currency_not_supported']);
      }
    } finally {
      await picky.close();
    }
  });

  test('a merchant cannot use a channel at which it has no account', async () => {
    const other = await newKey(api.db);
    await api.db.channelAccount.deleteMany({
      where: { merchantId: other.merchantId, channel: 'simulator2' },
    });
    const answer = await post(inline({ channel: 'simulator2' }), other.key);
    expect([answer.status, answer.json.code]).toEqual([422, 'unknown_channel']);
  });
});

describe('an order that is paid twice', () => {
  const paid = (id: string) => settle(api.db, id, { channelPaymentId: `T${id}` });
  /**
   * Pays two attempts at one order. The second attempt was created while the state of the first attempt was unknown.
   */
  async function paidTwice() {
    const first = await pay(api, key);
    api.workflows.onAskChannel = async () => false;
    const order = { order: undefined, orderId: first.orderId };
    const second = await pay(api, key, { ...order, channel: 'simulator2' });
    await paid(first.id);
    await paid(second.id);
    return { first, second, refundId: automaticRefundId(second.id) };
  }
  const seen = async ({ id, clientToken }: { id: string; clientToken: string }) =>
    payerPayment.strict().parse((await api.call(`/v1/payments/${id}`, { key: clientToken })).json);

  test('the payer of the second payment sees that it is a duplicate, and follows the progress of its refund', async () => {
    const { first, second, refundId } = await paidTwice();
    const conflict = {
      ...{ status: 'succeeded', orderUpdate: 'conflict', refundReason: 'duplicate_payment' },
      receivedAmount: 1050,
    };
    expect(await seen(second)).toMatchObject({ ...conflict, refundStatus: 'created', refundedAmount: 0 });
    await recordRefundAnswer(api.db, refundId, { state: 'processing' }, new Date());
    expect(await seen(second)).toMatchObject({ ...conflict, refundStatus: 'processing', refundedAmount: 0 });
    const back = { state: 'succeeded', channelRefundId: 'R1', amount: 1050 } as const;
    await recordRefundAnswer(api.db, refundId, back, new Date());
    expect(await seen(second)).toMatchObject({
      ...conflict,
      refundStatus: 'succeeded',
      refundedAmount: 1050,
    });
    expect(await seen(first)).toMatchObject({
      ...{ orderUpdate: 'applied', refundReason: null, refundStatus: null, refundedAmount: 0 },
    });
  });

  test('the merchant sees the duplicate and its refund in the payment, in the lists and in the order', async () => {
    const { first, second } = await paidTwice();
    const shown = { id: second.id, refundReason: 'duplicate_payment', refundStatus: 'created' };
    const other = { id: first.id, refundReason: null, refundStatus: null };
    const get = async (path: string) => (await api.call(path, { key })).json;
    expect(await get(`/v1/payments/${second.id}`)).toMatchObject(shown);
    expect((await get(`/v1/payments?orderId=${first.orderId}`)).data).toMatchObject([shown, other]);
    expect((await get(`/v1/orders/${first.orderId}`)).payments).toMatchObject([shown, other]);
    const orders = (await get('/v1/orders?limit=100')).data as { id: string; payments: unknown }[];
    expect(orders.find(({ id }) => id === first.orderId)?.payments).toMatchObject([shown, other]);
  });

  test('a refund that the channel refused is shown as failed until another refund succeeds', async () => {
    const { second, refundId } = await paidTwice();
    await recordRefundAnswer(api.db, refundId, { state: 'failed', reason: 'no' }, new Date());
    expect(await seen(second)).toMatchObject({ refundStatus: 'failed', refundedAmount: 0 });
    const body = { note: 'Once more' };
    const headers = { 'idempotency-key': `again-${second.id}` };
    const again = await api.call(`/v1/payments/${second.id}/refunds`, { key, body, headers });
    await recordRefundAnswer(
      api.db,
      again.json.id,
      { state: 'succeeded', channelRefundId: 'R2', amount: 1050 },
      new Date(),
    );
    expect(await seen(second)).toMatchObject({ refundStatus: 'succeeded', refundedAmount: 1050 });
  });

  test('a refund that the merchant requested is not shown as an automatic refund', async () => {
    const made = await pay(api, key);
    await paid(made.id);
    const headers = { 'idempotency-key': `asked-${made.id}` };
    await api.call(`/v1/payments/${made.id}/refunds`, { key, body: { amount: 50 }, headers });
    expect(await seen(made)).toMatchObject({
      orderUpdate: 'applied',
      refundReason: null,
      refundStatus: null,
    });
  });
});
