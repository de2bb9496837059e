import { beforeEach, describe, expect, test } from 'vitest';
import { refund, refundPage } from '../../../src/api/schemas/refund.ts';
import { recordAnswer } from '../../../src/ledger/payments.ts';
import { recordRefundAnswer } from '../../../src/ledger/refund-answers.ts';
import { newKey, paidAnswer, pay, settle, setUp, simulatorCallback } from '../support.ts';

// Tests over HTTP who may request a refund, and how often. Tests on the real system cover the requests to the channel.

const { api, key } = await setUp();
const answering = api.workflows.onAskChannel;
beforeEach(() => {
  api.workflows.onAskChannel = answering;
  api.workflows.down = false;
  api.workflows.calls.length = 0;
  api.refundWorkflows.down = false;
  api.refundWorkflows.calls.length = 0;
});

let keys = 0;
const newIdempotencyKey = () => `key-${++keys}`;

/** Creates a settled payment of 1050 minor units. */
async function paid(as = key, amount = 1050) {
  const made = await pay(api, as);
  await settle(api.db, made.id, { amount });
  return made;
}

const ask = (
  id: string,
  body: unknown = {},
  idempotencyKey: string | undefined = newIdempotencyKey(),
  as = key,
) =>
  api.call(`/v1/payments/${id}/refunds`, {
    key: as,
    body,
    headers: idempotencyKey === undefined ? {} : { 'Idempotency-Key': idempotencyKey },
  });
const codeOf = ({ status, json }: { status: number; json: { code: string } }) => [status, json.code];

describe('requesting a refund', () => {
  test('a partial refund is answered 201 in the documented format, and its workflow is started', async () => {
    const payment = await paid();
    const answer = await ask(payment.id, { amount: 300, note: 'One ticket' });
    expect(answer.status).toBe(201);
    const made = refund.strict().parse(answer.json);
    expect(made).toMatchObject({
      paymentId: payment.id,
      amount: 300,
      currency: 'CNY',
      status: 'created',
      reason: 'requested',
      note: 'One ticket',
      settledAt: null,
      temporalUrl: null,
    });
    expect(api.refundWorkflows.calls).toEqual([{ name: 'start', refundId: made.id }]);
    expect((await api.call(`/v1/refunds/${made.id}`, { key })).json).toEqual(made);
    // A request without an amount refunds the whole remaining amount.
    expect((await ask(payment.id)).json).toMatchObject({ amount: 750 });
  });

  test('a refund request is refused if its idempotency key is missing or invalid', async () => {
    const { id } = await paid();
    const without = await api.call(`/v1/payments/${id}/refunds`, { key, body: {} });
    expect(codeOf(without)).toEqual([400, 'idempotency_key_missing']);
    for (const impossible of ['x'.repeat(256), 'a b', 'é'])
      expect(codeOf(await ask(id, {}, impossible))).toEqual([400, 'bad_request']);
    expect(codeOf(await ask(id, {}, ''))).toEqual([400, 'idempotency_key_missing']);
    expect(await api.db.refund.count({ where: { paymentId: id } })).toBe(0);
  });

  test.each([
    [{ amount: 0 }],
    [{ amount: -1 }],
    [{ amount: 1.5 }],
    [{ amount: '1' }],
    [{ amonut: 1 }],
    [[]],
    [{ note: 'One \u202etekcit' }],
    [{ note: '\u2066' }],
    [{ note: ' \u200b' }],
  ])('a refund request with the invalid body %j is refused', async (body) => {
    const { id } = await paid();
    expect(codeOf(await ask(id, body))).toEqual([422, 'invalid_request']);
    expect(await api.db.refund.count({ where: { paymentId: id } })).toBe(0);
  });

  test('a refund is refused if its amount is more than is left, or if nothing is left', async () => {
    const { id } = await paid();
    expect(codeOf(await ask(id, { amount: 1051 }))).toEqual([422, 'refund_exceeds_payment']);
    const first = await ask(id, { amount: 1000 });
    expect(codeOf(await ask(id, { amount: 51 }))).toEqual([422, 'refund_exceeds_payment']);
    await ask(id);
    expect(codeOf(await ask(id))).toEqual([409, 'not_refundable']);
    // If the channel's final answer refuses a refund, the amount of this refund can be requested again.
    const refused = { state: 'failed', reason: 'no' } as const;
    await recordRefundAnswer(api.db, first.json.id, refused, new Date());
    expect((await ask(id)).json).toMatchObject({ amount: 1000 });
  });

  test('a refund is refused if the payment has received no money, or is disputed', async () => {
    const unpaid = await pay(api, key);
    expect(codeOf(await ask(unpaid.id))).toEqual([409, 'not_refundable']);
    const { id } = await paid();
    await api.db.payment.update({
      where: { id },
      data: { attention: 'disputed', attentionSince: new Date() },
    });
    expect(codeOf(await ask(id))).toEqual([409, 'not_refundable']);
  });

  test('a refund that is requested while Temporal is down is stored, and the sweep starts its workflow later', async () => {
    api.refundWorkflows.down = true;
    const { id } = await paid();
    const answer = await ask(id);
    expect([answer.status, answer.json.status]).toEqual([201, 'created']);
  });

  test('the sum of many concurrent refunds never exceeds the received amount', async () => {
    const { id } = await paid();
    const answers = await Promise.all(Array.from({ length: 6 }, () => ask(id, { amount: 300 })));
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 201, 201, 422, 422, 422]);
  });
});

describe('a refund request without an amount', () => {
  /** The channel answers the query of the trade with this refunded amount. */
  const goneBack = (refundedAmount: number) => {
    api.workflows.onAskChannel = async ({ id }) => {
      await recordAnswer(api.db, id, paidAnswer({ refundedAmount }), 'query', new Date());
      return true;
    };
  };
  const asked = () => api.workflows.named('askChannel').length;

  test('refunds only the amount that was not yet refunded at the channel', async () => {
    const { id } = await paid();
    goneBack(300);
    const answer = await ask(id);
    expect([answer.status, answer.json.amount, answer.json.replacedBy]).toEqual([201, 750, null]);
    const { id: other } = await paid();
    goneBack(1050);
    expect(codeOf(await ask(other))).toEqual([409, 'not_refundable']);
  });

  test('queries the channel only once, even if the request is repeated with the same idempotency key', async () => {
    const { id } = await paid();
    const idempotencyKey = newIdempotencyKey();
    const [first, again] = [await ask(id, {}, idempotencyKey), await ask(id, {}, idempotencyKey)];
    expect([first.status, again.status, again.json.id]).toEqual([201, 200, first.json.id]);
    expect(asked()).toBe(1);
    await ask((await paid()).id, { amount: 1050 });
    await ask((await pay(api, key)).id);
    expect(asked()).toBe(1);
  });

  test('does not query the channel if nothing is left in the ledger, or the payment is disputed', async () => {
    const before = asked();
    const { id } = await paid();
    await ask(id, { amount: 1050 });
    expect(codeOf(await ask(id))).toEqual([409, 'not_refundable']);
    const disputed = await paid();
    const data = { attention: 'disputed', attentionSince: new Date() };
    await api.db.payment.update({ where: { id: disputed.id }, data });
    expect(codeOf(await ask(disputed.id))).toEqual([409, 'not_refundable']);
    expect(asked()).toBe(before);
  });

  test('refunds the amount that is left in the ledger if the channel does not answer or Temporal is down', async () => {
    api.workflows.onAskChannel = () => new Promise(() => undefined);
    const silent = await ask((await paid()).id);
    expect([silent.status, silent.json.amount]).toEqual([201, 1050]);
    const { id } = await paid();
    api.workflows.down = true;
    const away = await ask(id);
    expect([away.status, away.json.amount]).toEqual([201, 1050]);
  });
});

test('if a failed refund was replaced, its idempotency key still returns the failed refund, and the answer names the replacement', async () => {
  const { id } = await paid();
  const idempotencyKey = newIdempotencyKey();
  const first = await ask(id, { note: 'Returned' }, idempotencyKey);
  const refused = { state: 'failed', reason: 'more than is left' } as const;
  const trade = paidAnswer({ refundedAmount: 300 });
  // The repeated answer has no effect. The remaining amount is refunded once.
  for (let i = 0; i < 2; i++) await recordRefundAnswer(api.db, first.json.id, refused, new Date(), trade);
  const again = await ask(id, { note: 'Returned' }, idempotencyKey);
  expect([again.status, again.json.id, again.json.status]).toEqual([200, first.json.id, 'failed']);
  const { data } = refundPage.parse((await api.call(`/v1/payments/${id}/refunds`, { key })).json);
  expect(data).toHaveLength(3);
  const rest = await api.call(`/v1/refunds/${again.json.replacedBy}`, { key });
  expect(refund.strict().parse(rest.json)).toMatchObject({
    ...{ amount: 750, status: 'created', reason: 'requested', note: 'Returned', replacedBy: null },
  });
  // A refund of the whole amount is already in progress.
  expect(codeOf(await ask(id))).toEqual([409, 'not_refundable']);
});

test('if a payment of a wrong amount is refunded in full, no decision is left to make, and the order can be paid again', async () => {
  const payment = await paid(key, 900);
  const shown = async () => (await api.call(`/v1/payments/${payment.id}`, { key })).json;
  expect(await shown()).toMatchObject({ orderUpdate: 'review', attention: 'amount_mismatch' });
  const parts = [await ask(payment.id, { amount: 400 }), await ask(payment.id)];
  expect(parts.map(({ json }) => json.amount)).toEqual([400, 500]);
  const give = (n: number) =>
    recordRefundAnswer(
      api.db,
      parts[n]?.json.id,
      { state: 'succeeded', channelRefundId: `r${n}`, amount: parts[n]?.json.amount },
      new Date(),
    );
  await give(0);
  expect(await shown()).toMatchObject({ attention: 'amount_mismatch', refundedAmount: 400 });
  for (const n of [1, 1, 0]) await give(n);
  expect(await shown()).toMatchObject({ orderUpdate: 'conflict', attention: null, refundedAmount: 900 });
  const order = await api.call(`/v1/orders/${payment.orderId}`, { key });
  expect(order.json).toMatchObject({ status: 'unpaid', paidPaymentId: null });
});

describe('the idempotency key of a refund', () => {
  test('always returns the same refund if it is repeated with the same content', async () => {
    const { id } = await paid();
    const idempotencyKey = newIdempotencyKey();
    const first = await ask(id, { amount: 1050, note: 'x' }, idempotencyKey);
    const done = { state: 'succeeded', channelRefundId: 'r1', amount: 1050 } as const;
    await recordRefundAnswer(api.db, first.json.id, done, new Date());
    api.refundWorkflows.calls.length = 0;
    const again = await ask(id, { note: 'x', amount: 1050 }, idempotencyKey);
    expect([again.status, again.json.id, again.json.status]).toEqual([200, first.json.id, 'succeeded']);
    expect(api.refundWorkflows.calls).toEqual([]);
  });

  test('is refused if it is repeated with other content or for another payment', async () => {
    const [one, other] = [await paid(), await paid()];
    const idempotencyKey = newIdempotencyKey();
    await ask(one.id, { amount: 500 }, idempotencyKey);
    for (const [id, body, paths] of [
      [one.id, { amount: 501 }, ['amount']],
      [one.id, {}, ['amount']],
      [one.id, { amount: 500, note: 'x' }, ['note']],
      [other.id, { amount: 500 }, ['id']],
      [other.id, { note: 'x' }, ['id', 'amount', 'note']],
    ] as const) {
      const answer = await ask(id, body, idempotencyKey);
      expect(codeOf(answer)).toEqual([422, 'idempotency_key_reused']);
      expect(answer.json.errors.map(({ path }: { path: string }) => path)).toEqual(paths);
    }
    const all = newIdempotencyKey();
    expect((await ask(other.id, {}, all)).status).toBe(201);
    expect((await ask(other.id, {}, all)).status).toBe(200);
    expect(codeOf(await ask(other.id, { amount: 1050 }, all))).toEqual([422, 'idempotency_key_reused']);
  });

  test('creates only one refund if many requests use it concurrently, even for two payments', async () => {
    const [one, other] = [await paid(), await paid()];
    const same = newIdempotencyKey();
    const answers = await Promise.all(Array.from({ length: 5 }, () => ask(one.id, { amount: 100 }, same)));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 200, 201]);
    expect(new Set(answers.map(({ json }) => json.id)).size).toBe(1);
    const shared = newIdempotencyKey();
    const mixed = await Promise.all([one, other].map(({ id }) => ask(id, { amount: 100 }, shared)));
    expect(mixed.map(({ status }) => status).sort()).toEqual([201, 422]);
  });

  test('creates another refund if another merchant uses the same key', async () => {
    const stranger = await newKey(api.db);
    const idempotencyKey = newIdempotencyKey();
    await ask((await paid()).id, {}, idempotencyKey);
    const theirs = await ask((await paid(stranger.key)).id, {}, idempotencyKey, stranger.key);
    expect(theirs.status).toBe(201);
  });
});

describe('reading refunds', () => {
  test('the refunds of a payment are listed newest first, in pages', async () => {
    const { id } = await paid();
    const made = [];
    for (const amount of [1, 2, 3]) made.unshift((await ask(id, { amount })).json.id);
    const path = `/v1/payments/${id}/refunds`;
    const first = refundPage.parse((await api.call(`${path}?limit=2`, { key })).json);
    const rest = refundPage.parse(
      (await api.call(`${path}?limit=2&cursor=${first.nextCursor}`, { key })).json,
    );
    expect([...first.data, ...rest.data].map((one) => one.id)).toEqual(made);
    expect(rest.nextCursor).toBeNull();
  });

  test("an operator sees the link to a refund's workflow", async () => {
    const operator = await newKey(api.db, 'operator');
    const made = await ask((await paid(operator.key)).id, {}, newIdempotencyKey(), operator.key);
    expect(made.json.temporalUrl).toContain(encodeURIComponent(`refund/${made.json.id}`));
  });

  test("a merchant can neither read nor request refunds of another merchant's payment", async () => {
    const payment = await paid();
    const made = await ask(payment.id, { amount: 1 });
    const stranger = await newKey(api.db, 'operator');
    const paths = [
      ['POST', `/v1/payments/${payment.id}/refunds`],
      ['GET', `/v1/payments/${payment.id}/refunds`],
      ['GET', `/v1/refunds/${made.json.id}`],
    ] as const;
    for (const [as, status, code] of [
      [undefined, 401, 'unauthorized'],
      ['sk_wrong', 401, 'unauthorized'],
      [stranger.key, 404, undefined],
      [payment.clientToken, 403, 'forbidden'],
    ] as const) {
      for (const [method, path] of paths) {
        const answer = await api.call(path, {
          method,
          headers: { 'Idempotency-Key': newIdempotencyKey() },
          ...(as === undefined ? {} : { key: as }),
          ...(method === 'POST' ? { body: {} } : {}),
        });
        expect(answer.status, `${method} ${path} with ${as}`).toBe(status);
        if (code !== undefined) expect(answer.json.code).toBe(code);
      }
    }
    expect(await api.db.refund.count({ where: { paymentId: payment.id } })).toBe(1);
    expect(codeOf(await api.call('/v1/refunds/re_nobody', { key }))).toEqual([404, 'refund_not_found']);
    expect(codeOf(await api.call('/v1/refunds/%00', { key }))).toEqual([404, 'refund_not_found']);
  });
});

test("a callback about a refund is forwarded to the refund's workflow if nodrop requested the refund, and otherwise to the payment's workflow", async () => {
  const { id } = await paid();
  const made = await ask(id, { amount: 300 });
  api.refundWorkflows.calls.length = 0;
  api.workflows.calls.length = 0;
  const report = (outRefundNo: string) => {
    const callback = simulatorCallback(
      id,
      `msg_${outRefundNo}`,
      { refunded: 300, outRefundNo, refundAmount: 300, refundId: 'simr_1' },
      'refund.succeeded',
    );
    return api.call('/callbacks/simulator', { ...callback, method: 'POST' });
  };
  expect((await report(made.json.id)).status).toBe(200);
  expect(api.refundWorkflows.calls).toEqual([{ name: 'deliverCallback', refundId: made.json.id }]);
  expect(api.workflows.calls).toEqual([]);
  expect((await report('elsewhere')).status).toBe(200);
  expect(api.workflows.named('deliverCallback')[0]?.args[0]).toMatchObject({ refundedAmount: 300 });
});
