import { beforeEach, describe, expect, test } from 'vitest';
import { order } from '../../../src/api/schemas/order.ts';
import { endPayment, recordAnswer, recordSilence } from '../../../src/ledger/payments.ts';
import { newKey, newOrderId, pay, type StandInWorkflows, settle, setUp } from '../support.ts';

// Tests which fields of an unpaid order a merchant may change with PATCH /v1/orders/{id}.

const { api, key } = await setUp();

const unpaid: StandInWorkflows['onAskChannel'] = async ({ id }) => {
  await recordAnswer(api.db, id, { state: 'unpaid' }, 'query', new Date());
  return true;
};
const closed = async (id: string): Promise<void> => {
  await endPayment(api.db, id, 'cancelled', 'closed at the channel.', new Date());
};
/** The function that runs for a payment after its cancellation is requested. */
let onCancel = closed;
const originalCancel = api.workflows.cancel.bind(api.workflows);
api.workflows.cancel = async (payment) => {
  await originalCancel(payment);
  await onCancel(payment.id);
};
beforeEach(() => {
  Object.assign(api.workflows, { down: false, onAskChannel: unpaid });
  onCancel = closed;
  api.workflows.calls.length = 0;
});

const patch = (id: string, body: unknown, as = key) =>
  api.call(`/v1/orders/${id}`, { method: 'PATCH', key: as, body });
async function create(changes: object = {}): Promise<string> {
  const id = newOrderId();
  const answer = await api.call('/v1/orders', {
    key,
    body: { id, amount: 1050, currency: 'CNY', ...changes },
  });
  expect(answer.status, answer.text).toBe(201);
  return id;
}
const code = ({ status, json }: Awaited<ReturnType<typeof patch>>) => [status, json.code];
const timeline = async (id: string) => (await api.call(`/v1/payments/${id}/timeline`, { key })).json.data;

test('a change of an order replaces every given field, and leaves every other field unchanged', async () => {
  const id = await create({ subject: 'Two tickets', metadata: { a: 'b' } });
  for (const [change, expiresIn] of [
    [{ amount: 1250 }, null],
    [{ subject: 'Three tickets' }, null],
    [{ metadata: { c: 'd' } }, null],
    [{ expiresInSeconds: 3600 }, 3_600_000],
  ] as const) {
    const before = (await api.call(`/v1/orders/${id}`, { key })).json;
    const { expiresInSeconds: _, ...shown } = change as { expiresInSeconds?: number };
    const answer = await patch(id, change);
    expect(answer.status, answer.text).toBe(200);
    const { expiresAt, ...rest } = order.strict().parse(answer.json);
    const { expiresAt: __, ...unchanged } = before;
    expect(rest).toEqual({ ...unchanged, ...shown });
    // The new `expiresInSeconds` counts from the creation of the order, not from the change.
    if (expiresIn !== null) expect(Date.parse(expiresAt ?? '') - Date.parse(rest.createdAt)).toBe(expiresIn);
    expect((await patch(id, change)).json).toEqual(answer.json);
  }
  expect((await patch(id, {})).json.amount).toBe(1250);
  const { json } = await api.call('/v1/payments', { key, body: { orderId: id, channel: 'simulator' } });
  expect(json.amount).toBe(1250);
});

test.each([
  ['amount', { amount: 0 }],
  ['amount', { amount: null }],
  ['amount', { amount: 1.5 }],
  ['currency', { currency: 'EUR' }],
  ['id', { id: 'another' }],
  ['subject', { subject: '' }],
  ['subject', { subject: 'a\u0000b' }],
  ['metadata', { metadata: null }],
  ['metadata.a', { metadata: { a: 1 } }],
  ['expiresInSeconds', { expiresInSeconds: 4 }],
  ['expiresInSeconds', { expiresInSeconds: null }],
  ['', []],
])('a change of an order with a wrong %s is refused: %j', async (path, body) => {
  const id = await create();
  const before = await api.db.order.findFirstOrThrow({ where: { id } });
  const answer = await patch(id, body);
  expect([...code(answer), answer.json.errors[0].path]).toEqual([422, 'invalid_request', path]);
  expect(await api.db.order.findFirstOrThrow({ where: { id } })).toEqual(before);
});

test("a change of an unknown order, or of another merchant's order, is answered 404", async () => {
  const id = await create();
  const stranger = await newKey(api.db);
  expect(code(await patch(id, { amount: 1 }, stranger.key))).toEqual([404, 'order_not_found']);
  for (const nobody of ['nobody', '%00', 'x'.repeat(500)])
    expect(code(await patch(nobody, { amount: 1 }))).toEqual([404, 'order_not_found']);
  const methods = await api.call(`/v1/orders/${id}`, { method: 'DELETE', key });
  expect([methods.status, methods.headers.get('allow')]).toEqual([405, 'GET, HEAD, PATCH, OPTIONS']);
});

describe('the amount of an order', () => {
  test('a change of the amount first ends the live attempts on every channel, and later attempts get the new amount', async () => {
    const first = await pay(api, key);
    api.workflows.onAskChannel = async (payment) => {
      await recordSilence(api.db, payment.id, 'no answer', 60_000, new Date());
      return false;
    };
    const second = await pay(api, key, { order: undefined, orderId: first.orderId, channel: 'simulator2' });
    api.workflows.onAskChannel = unpaid;
    api.workflows.calls.length = 0;
    const answer = await patch(first.orderId, { amount: 1250 });
    expect(answer.status, answer.text).toBe(200);
    expect(answer.json).toMatchObject({ amount: 1250, status: 'unpaid' });
    expect(answer.json.payments).toMatchObject([
      { id: second.id, status: 'cancelled', amount: 1050 },
      { id: first.id, status: 'cancelled', amount: 1050 },
    ]);
    const asked = (name: 'askChannel' | 'cancel') =>
      api.workflows
        .named(name)
        .map(({ paymentId }) => paymentId)
        .sort();
    expect([asked('askChannel'), asked('cancel')]).toEqual(Array(2).fill([first.id, second.id].sort()));
    expect((await timeline(first.id)).slice(-4)).toMatchObject([
      { kind: 'query' },
      { detail: 'Cancellation requested by a change of the amount of its order.' },
      { kind: 'transition' },
      { detail: expect.stringContaining('changed from CNY 10.50 to CNY 12.50') },
    ]);
    // The repeated request adds no entry to the timeline and creates no event.
    const said = [await timeline(first.id), await api.db.event.count()];
    api.workflows.calls.length = 0;
    expect((await patch(first.orderId, { amount: 1250 })).json).toEqual(answer.json);
    expect([await timeline(first.id), await api.db.event.count()]).toEqual(said);
    expect(api.workflows.calls).toEqual([]);
    expect((await pay(api, key, { order: undefined, orderId: first.orderId })).amount).toBe(1250);
  });

  test("a change of the amount is refused while an attempt's channel does not answer, and can be repeated when the channel answers again", async () => {
    const { id, orderId } = await pay(api, key);
    for (const silent of [
      async () => false,
      async () => {
        throw new Error('Temporal did not confirm');
      },
    ]) {
      api.workflows.onAskChannel = silent;
      const refused = await patch(orderId, { amount: 1250 });
      expect(code(refused)).toEqual([409, 'attempt_unresolved']);
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
      expect(refused.json.detail).toContain(id);
    }
    // The channel has not answered, so nodrop does not know whether the attempt was paid. The payer can still pay the
    // attempt, and the order keeps its amount.
    expect(await api.db.payment.findUniqueOrThrow({ where: { id } })).toMatchObject({
      status: 'paying',
      cancelRequestedAt: null,
    });
    expect((await api.db.order.findFirstOrThrow({ where: { id: orderId } })).amount).toBe(1050n);
    api.workflows.onAskChannel = unpaid;
    expect((await patch(orderId, { amount: 1250 })).status).toBe(200);
  });

  test('a change of the amount is refused while the channel or an operator must still decide about an attempt', async () => {
    const deciding = await pay(api, key);
    api.workflows.onAskChannel = async ({ id }) => {
      await recordAnswer(api.db, id, { state: 'processing' }, 'query', new Date());
      return true;
    };
    const short = await pay(api, key);
    await settle(api.db, short.id, { amount: 900 });
    for (const { orderId } of [deciding, short]) {
      const refused = await patch(orderId, { amount: 1250 });
      expect(code(refused)).toEqual([409, 'attempt_unresolved']);
      expect(refused.headers.get('retry-after')).not.toBeNull();
    }
  });

  test('a change of the amount is refused when the query shows that an attempt is paid', async () => {
    const { id, orderId } = await pay(api, key);
    api.workflows.onAskChannel = async () => {
      await settle(api.db, id);
      return true;
    };
    expect(code(await patch(orderId, { amount: 1250 }))).toEqual([409, 'order_already_paid']);
    expect(code(await patch(orderId, { subject: 'x' }))).toEqual([409, 'order_already_paid']);
    // A change that sets the present values again is accepted.
    expect((await patch(orderId, { amount: 1050 })).json.status).toBe('succeeded');
  });

  test('a change of the amount is refused if an attempt is paid while nodrop closes it', async () => {
    const { id, orderId } = await pay(api, key);
    onCancel = async () => await settle(api.db, id);
    expect(code(await patch(orderId, { amount: 1250 }))).toEqual([409, 'order_already_paid']);
  });
});

test('changing the subject or the metadata, or extending the expiry, ends no attempt and queries no channel', async () => {
  const orderId = await create({ expiresInSeconds: 600 });
  const { id } = await pay(api, key, { order: undefined, orderId });
  await recordAnswer(api.db, id, { state: 'processing' }, 'query', new Date());
  api.workflows.calls.length = 0;
  const change = { subject: 'x', metadata: { a: 'b' }, expiresInSeconds: 900, amount: 1050 };
  expect((await patch(orderId, change)).status).toBe(200);
  expect(api.workflows.calls).toEqual([]);
  expect(await api.db.payment.findUniqueOrThrow({ where: { id } })).toMatchObject({
    status: 'paying',
    cancelRequestedAt: null,
  });
  // The order's expiry must not be earlier than the attempt's expiry.
  const shorter = await patch(orderId, { expiresInSeconds: 300 });
  expect(code(shorter)).toEqual([422, 'invalid_request']);
  expect(shorter.json.detail).toMatch(/^expiresInSeconds: must be at least \d+, as payment /);
});

test('a change is refused if the order has ended or is being cancelled', async () => {
  const over = await create();
  await api.call(`/v1/orders/${over}/cancel`, { key, method: 'POST' });
  const { orderId: ending } = await pay(api, key);
  await api.db.order.updateMany({ where: { id: ending }, data: { cancelRequestedAt: new Date() } });
  for (const id of [over, ending])
    for (const change of [{ amount: 1 }, { subject: 'x' }, { metadata: { a: 'b' } }])
      expect(code(await patch(id, change))).toEqual([409, 'order_not_payable']);
});

test('a repeated creation of a changed order is refused if it has the earlier values, and returns the order if it has the current values', async () => {
  const id = await create({ metadata: { a: 'b' } });
  await patch(id, { amount: 1250 });
  const was = { id, amount: 1050, currency: 'CNY', metadata: { a: 'b' } };
  const again = (body: unknown) => api.call('/v1/orders', { key, body });
  expect(code(await again(was))).toEqual([409, 'order_exists']);
  expect((await again({ ...was, amount: 1250 })).status).toBe(200);
  const start = (order: unknown) => api.call('/v1/payments', { key, body: { order, channel: 'simulator' } });
  expect(code(await start(was))).toEqual([409, 'order_exists']);
  expect((await start({ ...was, amount: 1250 })).json.amount).toBe(1250);
});

test("a replayed answer to the creation of an order shows the order's present state", async () => {
  const id = newOrderId();
  const create = { key, body: { id, amount: 1050, currency: 'CNY' }, headers: { 'idempotency-key': id } };
  await api.call('/v1/orders', create);
  await patch(id, { amount: 1250 });
  const replayed = await api.call('/v1/orders', create);
  expect([replayed.status, replayed.json.amount]).toEqual([201, 1250]);
});
