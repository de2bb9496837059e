import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { endPayment, recordAnswer } from '../../../src/ledger/payments.ts';
import { eventually } from '../../support/stack.ts';
import { newKey, newOrderId, type TestApi } from '../support.ts';
import { api, isReplayed, key, merchantId, newPayment, other, pay, send } from './idempotency-support.ts';

// Tests that requests with the same Idempotency-Key together have the effect of one request, even if they go to
// different processes, or if a process dies during a request.

const rowOf = (idempotencyKey: string) =>
  api.db.idempotencyKey.findUniqueOrThrow({ where: { merchantId_key: { merchantId, key: idempotencyKey } } });

describe('the repeated request', () => {
  test('a repeated request gets the same answer, marked as replayed', async () => {
    const [id, body] = [randomUUID(), newPayment()];
    const first = await pay(body, id);
    expect([first.status, isReplayed(first)]).toEqual([201, null]);
    const again = await pay(body, id, other);
    expect([again.status, isReplayed(again)]).toEqual([201, 'true']);
    expect(again.json).toEqual(first.json);
    expect(again.json.clientToken).toMatch(/^ct_/);
    expect(other.workflows.calls).toEqual([]);
    // Without an Idempotency-Key, the repeated request returns the live payment.
    expect((await api.call('/v1/payments', { key, body })).status).toBe(200);

    const order = { id: newOrderId(), amount: 1, currency: 'JPY' };
    const made = await send('/v1/orders', order, `${id}-order`);
    const repeated = await send('/v1/orders', order, `${id}-order`, other);
    expect([made.status, repeated.status, isReplayed(repeated)]).toEqual([201, 201, 'true']);
    expect(repeated.json).toEqual(made.json);
  });

  test('a repeated request is recognised even if its JSON fields are in another order', async () => {
    const [id, body] = [randomUUID(), newPayment()];
    await pay(body, id);
    const { order, channel } = body;
    const turned = { channel, order: { currency: order.currency, amount: order.amount, id: order.id } };
    expect(isReplayed(await pay(turned, id))).toBe('true');
  });

  test("the replayed answer shows the payment's present state, so that no payer is sent to an ended payment", async () => {
    const [id, body] = [randomUUID(), newPayment()];
    const { json: made } = await pay(body, id);
    await endPayment(api.db, made.id, 'closed', 'over', new Date());
    const again = await pay(body, id);
    expect([again.status, again.json.id, again.json.status, again.json.payUrl]).toEqual([
      201,
      made.id,
      'closed',
      null,
    ]);
  });

  test('if the first request was refused, a repeated request gets the same refusal', async () => {
    const id = randomUUID();
    const body = newPayment();
    await api.call('/v1/orders', { key, body: body.order });
    await api.call(`/v1/orders/${body.order.id}/cancel`, { key, body: {} });
    const first = await pay(body, id);
    expect([first.status, first.json.code]).toEqual([409, 'order_not_payable']);
    const again = await pay(body, id);
    expect([again.status, again.json.code, again.json.detail, isReplayed(again)]).toEqual([
      409,
      'order_not_payable',
      first.json.detail,
      'true',
    ]);
  });

  test('if the channel rejected the first request, a repeated request gets the same rejection', async () => {
    const [id, body] = [randomUUID(), newPayment()];
    api.workflows.onAwaitNextAction = async (payment) => {
      await recordAnswer(api.db, payment.id, { state: 'failed', reason: 'no' }, 'query', new Date());
      await endPayment(api.db, payment.id, 'failed', 'no', new Date());
      return true;
    };
    expect((await pay(body, id)).json.code).toBe('channel_rejected');
    const again = await pay(body, id);
    expect([again.status, again.json.code, isReplayed(again)]).toEqual([422, 'channel_rejected', 'true']);
    expect(await api.db.payment.count({ where: { orderId: body.order.id } })).toBe(1);
  });
});

test('an Idempotency-Key that is used again with another body or route is refused, and the request has no effect', async () => {
  const [id, bare] = [randomUUID(), newPayment()];
  const body = { ...bare, metadata: { cart: 'c-1', from: 'web' } };
  await pay(body, id);
  const before = await api.db.payment.count();
  for (const [changed, paths] of [
    [{ ...body, order: { ...body.order, id: newOrderId() } }, ['order.id']],
    [{ ...body, metadata: { cart: 'c-2', from: 'web' } }, ['metadata.cart']],
    [{ ...body, metadata: { cart: 'c-1', to: 'app' } }, ['metadata.from', 'metadata.to']],
    [bare, ['metadata.cart', 'metadata.from']],
    [{ ...body, channel: 'simulator2' }, ['channel']],
    [{ ...body, returnUrl: 'https://shop.example/' }, ['returnUrl']],
    [{ orderId: body.order.id, channel: body.channel, metadata: body.metadata }, ['order.amount']],
  ] as const) {
    const answer = await pay(changed, id);
    expect([answer.status, answer.json.code]).toEqual([422, 'idempotency_key_reused']);
    const named = answer.json.errors.map(({ path }: { path: string }) => path);
    expect(named).toEqual(expect.arrayContaining([...paths]));
    if (!('orderId' in changed)) expect(named).toHaveLength(paths.length);
  }
  const route = await send('/v1/orders', body.order, id);
  expect([route.status, route.json.code, route.json.errors]).toEqual([
    422,
    'idempotency_key_reused',
    undefined,
  ]);
  expect(route.json.detail).toContain('POST /v1/payments');
  expect(await api.db.payment.count()).toBe(before);
});

test('if the fields of the first request were not stored, another body with the same key is refused without naming the fields that differ', async () => {
  const [id, body] = [randomUUID(), newPayment()];
  await pay(body, id);
  await api.db.idempotencyKey.updateMany({ where: { key: id }, data: { requestFields: {} } });
  const answer = await pay({ ...body, channel: 'simulator2' }, id);
  expect([answer.json.code, answer.json.errors]).toEqual(['idempotency_key_reused', undefined]);
});

test('another body with the same key is refused even if no result was stored for the first request', async () => {
  const id = randomUUID();
  api.workflows.down = true;
  await pay(newPayment(), id);
  api.workflows.down = false;
  expect((await pay(newPayment(), id)).json.code).toBe('idempotency_key_reused');
});

describe('the Idempotency-Key of a channel switch', () => {
  const to = (channel: string) => ({ channel });
  const live = async () => (await api.call('/v1/payments', { key, body: newPayment() })).json;
  /** Ends the previous attempt, as the attempt's workflow does. */
  const closing = (one: TestApi) => {
    one.workflows.onAskChannel = async ({ id }) => {
      await recordAnswer(api.db, id, { state: 'unpaid' }, 'query', new Date());
      await endPayment(api.db, id, 'cancelled', 'a new attempt', new Date());
      return true;
    };
  };

  test('a repeated switch gets the same answer, and a switch to another channel with the same key is refused', async () => {
    closing(api);
    const [id, old] = [randomUUID(), await live()];
    const path = `/v1/payments/${old.id}/switch`;
    const first = await send(path, to('simulator2'), id);
    expect([first.status, isReplayed(first)]).toEqual([201, null]);
    await endPayment(api.db, first.json.id, 'closed', 'over', new Date());
    const again = await send(path, to('simulator2'), id, other);
    expect([again.status, again.json.id, again.json.status, isReplayed(again)]).toEqual([
      201,
      first.json.id,
      'closed',
      'true',
    ]);
    expect(again.json.clientToken).toBe(first.json.clientToken);
    for (const [at, body, field] of [
      [path, to('simulator'), 'channel'],
      [`/v1/payments/${(await live()).id}/switch`, to('simulator2'), 'id'],
    ] as const) {
      const { code, errors } = (await send(at, body, id)).json;
      expect([code, errors]).toMatchObject(['idempotency_key_reused', [{ path: field }]]);
    }
    expect(await api.db.payment.count({ where: { orderId: old.orderId } })).toBe(2);
  });

  test('a repeated switch is answered "in progress" while the first switch runs', async () => {
    const [id, old] = [randomUUID(), await live()];
    let go = () => {};
    const held = new Promise<void>((resolve) => {
      go = resolve;
    });
    closing(api);
    const ask = api.workflows.onAskChannel;
    api.workflows.onAskChannel = async (payment) => {
      await held;
      return await ask(payment);
    };
    const path = `/v1/payments/${old.id}/switch`;
    const first = send(path, to('simulator2'), id);
    await eventually(() => api.workflows.named('askChannel').length > 0);
    const meanwhile = await send(path, to('simulator2'), id, other);
    expect([meanwhile.status, meanwhile.json.code]).toEqual([409, 'idempotency_key_in_progress']);
    go();
    expect((await first).status).toBe(201);
  });

  test('the Idempotency-Key of a switch is ignored if the caller has a client token', async () => {
    const [id, old] = [randomUUID(), await live()];
    const path = `/v1/payments/${old.id}/switch`;
    for (const header of [id, id, 'a b'])
      expect((await send(path, to('simulator'), header, api, old.clientToken)).json.id).toBe(old.id);
    expect(await api.db.idempotencyKey.count({ where: { key: id } })).toBe(0);
  });
});

test('each merchant has its own Idempotency-Keys, and all API keys of one merchant share them', async () => {
  const [id, body] = [randomUUID(), newPayment()];
  const mine = await pay(body, id);
  const stranger = await newKey(api.db);
  const theirs = await send('/v1/payments', body, id, api, stranger.key);
  expect([theirs.status, isReplayed(theirs)]).toEqual([201, null]);
  expect(theirs.json.id).not.toBe(mine.json.id);
  // Both API keys belong to the same merchant, so this is a repetition of the first request.
  const { key: second } = await newKey(
    api.db,
    'operator',
    (await api.db.merchant.findUniqueOrThrow({ where: { id: merchantId } })).name,
  );
  const again = await send('/v1/payments', body, id, api, second);
  expect([again.status, again.json.id, isReplayed(again)]).toEqual([201, mine.json.id, 'true']);
});

test.each(['', ' ', 'a b', 'ключ', 'x'.repeat(256), 'a\tb'])(
  'the Idempotency-Key %j is rejected',
  async (bad) => {
    // The key is sent as bytes, because fetch accepts only Latin-1 in headers.
    const answer = await send('/v1/payments', newPayment(), Buffer.from(bad).toString('latin1'));
    // Spaces at the ends of a header are not part of its value.
    expect([answer.status, answer.json.code]).toEqual([400, 'bad_request']);
    expect(answer.json.detail).toContain('Idempotency-Key');
  },
);

test('an Idempotency-Key may contain every visible ASCII character, and have up to 255 characters', async () => {
  const id = String.fromCharCode(...Array.from({ length: 94 }, (_, i) => 33 + i)).padEnd(255, 'x');
  const body = newPayment();
  expect((await pay(body, id)).status).toBe(201);
  expect(isReplayed(await pay(body, id))).toBe('true');
});

test('the answer that is stored for an Idempotency-Key contains no token and no payment URL', async () => {
  const id = randomUUID();
  const { json } = await pay(newPayment({ payer: { ip: '192.0.2.7' } }), id);
  const kept = JSON.stringify(await rowOf(id));
  expect(kept).toContain(json.id);
  for (const secret of [json.clientToken, json.payUrl, '192.0.2.7']) expect(kept).not.toContain(secret);
});

test('the OpenAPI document describes the header Idempotency-Key', async () => {
  const { paths } = (await api.call('/openapi.json')).json;
  for (const path of ['/v1/orders', '/v1/payments', '/v1/payments/{id}/switch']) {
    const { parameters, responses } = paths[path].post;
    const headers = parameters.filter((one: { in: string }) => one.in === 'header');
    expect(headers).toMatchObject([{ in: 'header', name: 'idempotency-key', required: false }]);
    expect(Object.keys(responses[201].headers)).toEqual(['idempotency-replayed']);
    expect(responses[409].content['application/problem+json'].examples).toHaveProperty(
      'idempotency_key_in_progress',
    );
    expect(responses[422].content['application/problem+json'].examples).toHaveProperty(
      'idempotency_key_reused',
    );
  }
});
