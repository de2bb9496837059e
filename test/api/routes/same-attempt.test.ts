import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { payment } from '../../../src/api/schemas/payment.ts';
import { newPaymentId } from '../../../src/domain/ids.ts';
import { endPayment, recordAnswer } from '../../../src/ledger/payments.ts';
import { newOrderId, StandInWorkflows, settle, setUp, startTestApi, type TestApi } from '../support.ts';

// Tests repeated requests for a live attempt (same order, channel, method). test/system/ending.test.ts tests such
// requests with the whole system.

const { database, api, key } = await setUp();
/** The time of two more instances of the API, which act as two more processes. */
let clock = new Date();
const late = await startTestApi(database.url, { now: () => clock });
const late2 = await startTestApi(database.url, { now: () => clock });
afterAll(() => Promise.all([late.close(), late2.close()]));

/** The channel answers "unpaid". The payment's workflow closes an attempt after a request to cancel it. */
const closes =
  (of: TestApi): StandInWorkflows['onAskChannel'] =>
  async ({ id }) => {
    await recordAnswer(of.db, id, { state: 'unpaid' }, 'query', clock);
    setImmediate(() => void endPayment(of.db, id, 'cancelled', 'a new attempt', clock));
    return true;
  };
beforeEach(() => {
  clock = new Date();
  for (const one of [api, late, late2]) {
    const { onAwaitNextAction } = new StandInWorkflows(one.db);
    Object.assign(one.workflows, { down: false, onAwaitNextAction, onAskChannel: closes(one) });
    one.workflows.calls.length = 0;
  }
});

interface Made {
  readonly id: string;
  readonly orderId: string;
  readonly clientToken: string;
  readonly createdAt: string;
  readonly expiresAt: string;
}
type Body = Record<string, unknown>;
const inline = (change: Body = {}) => ({
  order: { id: newOrderId(), amount: 1050, currency: 'CNY' },
  channel: 'simulator',
  ...change,
});
const post = (body: Body, through: TestApi = api, headers = {}) =>
  through.call('/v1/payments', { key, body, headers });
/** Creates an attempt. @returns the attempt and the body of the request */
async function attempt(change: Body = {}) {
  const body = inline(change);
  const { status, json, text } = await post(body);
  expect(status, text).toBe(201);
  return { body, made: json as Made };
}
const leave = ({ expiresAt }: { expiresAt: string }, ms: number) => {
  clock = new Date(Date.parse(expiresAt) - ms);
};
const row = (id: string) => api.db.payment.findUniqueOrThrow({ where: { id } });
const attemptsOf = (orderId: string) => api.db.payment.count({ where: { orderId } });
const asked = (through = late) => through.workflows.named('askChannel').map(({ paymentId }) => paymentId);

describe('a repeated request when the present attempt has less than 30 s left', () => {
  test('queries and closes that attempt, and creates another attempt', async () => {
    const { body, made } = await attempt({ expiresInSeconds: 600 });
    leave(made, 30_000);
    const same = await post(body, late);
    expect([same.status, same.json.id, asked()]).toEqual([200, made.id, []]);

    leave(made, 29_999);
    const answer = await post(body, late);
    expect(answer.status, answer.text).toBe(201);
    expect(asked()).toEqual([made.id]);
    expect(late.workflows.named('cancel').map(({ paymentId }) => paymentId)).toEqual([made.id]);
    expect(await row(made.id)).toMatchObject({ status: 'cancelled', cancelRequestedAt: clock });
    expect(answer.json.id).not.toBe(made.id);
    expect(answer.json.clientToken).not.toBe(made.clientToken);
    expect(Date.parse(answer.json.expiresAt)).toBe(clock.getTime() + 600_000);
    // When the request is repeated, it returns the new attempt.
    expect((await post(body, late)).json.id).toBe(answer.json.id);
  });

  test('closes and replaces the attempt even if the attempt has expired but is still live', async () => {
    const { body, made } = await attempt();
    leave(made, 0);
    const answer = await post(body, late);
    expect([answer.status, asked(), await attemptsOf(made.orderId)]).toEqual([201, [made.id], 2]);
  });

  test.each([
    ['in live mode while it has 30 s left', 60],
    ['in test mode for half of its time', 5],
  ])('returns an attempt with the shortest expiry %s', async (_, expiresInSeconds) => {
    const { body, made } = await attempt({ expiresInSeconds });
    const whole = expiresInSeconds * 1000;
    for (const left of [whole, (whole * 3) / 4, whole / 2]) {
      leave(made, left);
      expect((await post(body, late)).json.id).toBe(made.id);
    }
    expect(asked()).toEqual([]);
    leave(made, whole / 2 - 1);
    expect((await post(body, late)).json.id).not.toBe(made.id);
  });

  test('returns the same attempt if a new attempt could not expire later, because the order itself expires then', async () => {
    const order = { id: newOrderId(), amount: 1050, currency: 'CNY', expiresInSeconds: 60 };
    const { body, made } = await attempt({ order, expiresInSeconds: 600 });
    for (const left of [29_999, 4_000, 1]) {
      leave(made, left);
      const answer = await post(body, late);
      expect([answer.status, answer.json.id, answer.json.expiresAt]).toEqual([200, made.id, made.expiresAt]);
    }
    expect([asked(), await attemptsOf(made.orderId)]).toEqual([[], 1]);
    leave(made, 0);
    expect((await post(body, late)).json.code).toBe('order_not_payable');
  });

  test('creates an attempt that expires with the order, and a further request returns the new attempt', async () => {
    const order = { id: newOrderId(), amount: 1050, currency: 'CNY', expiresInSeconds: 75 };
    const { body, made } = await attempt({ order, expiresInSeconds: 60 });
    leave(made, 10_000);
    const answer = await post(body, late);
    expect([answer.status, Date.parse(answer.json.expiresAt) - Date.parse(made.createdAt)]).toEqual([
      201, 75_000,
    ]);
    expect((await post(body, late)).json.id).toBe(answer.json.id);
    expect(asked()).toEqual([made.id]);
  });

  test('creates only one new attempt if it is sent concurrently to two processes', async () => {
    const { body, made } = await attempt();
    leave(made, 4_000);
    const answers = await Promise.all([late, late2, late, late2].map((through) => post(body, through)));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 201]);
    const ids = new Set(answers.map(({ json }) => json.id));
    expect([ids.size, ids.has(made.id), await attemptsOf(made.orderId)]).toEqual([1, false, 2]);
  });

  test("also queries and cancels the order's other attempts", async () => {
    const { body, made } = await attempt({ expiresInSeconds: 60 });
    api.workflows.onAskChannel = async () => false;
    const other = (await post({ ...body, channel: 'simulator2', expiresInSeconds: 600 })).json;
    leave(made, 4_000);
    expect((await post(body, late)).status).toBe(201);
    expect(asked().sort()).toEqual([made.id, other.id].sort());
    expect((await row(other.id)).status).toBe('cancelled');
  });

  test('returns the attempt of an earlier request if it has the same Idempotency-Key as that request', async () => {
    const body = inline();
    const headers = { 'idempotency-key': `k-${body.order.id}` };
    const { json: made } = await post(body, api, headers);
    leave(made, 4_000);
    const again = await post(body, late, headers);
    expect([again.status, again.json.id, again.headers.get('idempotency-replayed')]).toEqual([
      201,
      made.id,
      'true',
    ]);
    expect([asked(), await attemptsOf(made.orderId)]).toEqual([[], 1]);
    // With another Idempotency-Key, the same request creates a new attempt.
    const other = await post(body, late, { 'idempotency-key': `l-${body.order.id}` });
    expect([other.status, other.json.id === made.id]).toEqual([201, false]);
  });

  describe('creates no attempt', () => {
    async function refused(happens: (of: { id: string }) => Promise<boolean>, code: string) {
      const { body, made } = await attempt();
      leave(made, 20_000);
      late.workflows.onAskChannel = happens;
      const answer = await post(body, late);
      expect([answer.status, answer.json.code, await attemptsOf(made.orderId)]).toEqual([409, code, 1]);
      if (code === 'attempt_unresolved') expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
      return { body, made };
    }

    test('if the channel does not answer, and the present attempt stays live', async () => {
      const { made } = await refused(async () => false, 'attempt_unresolved');
      expect(await row(made.id)).toMatchObject({ status: 'paying', cancelRequestedAt: null });
    });

    test('while the channel decides about the present attempt', async () => {
      const { made } = await refused(async ({ id }) => {
        await recordAnswer(late.db, id, { state: 'processing' }, 'query', clock);
        return true;
      }, 'attempt_unresolved');
      expect(await row(made.id)).toMatchObject({ status: 'paying', cancelRequestedAt: null });
    });

    test('while the channel has not closed the present attempt yet', async () => {
      const { body, made } = await refused(async ({ id }) => {
        await recordAnswer(late.db, id, { state: 'unpaid' }, 'query', clock);
        return true;
      }, 'attempt_unresolved');
      expect(await row(made.id)).toMatchObject({ status: 'paying', cancelRequestedAt: clock });
      await endPayment(late.db, made.id, 'cancelled', 'a new attempt', clock);
      expect((await post(body, late)).status).toBe(201);
    });

    test('if the present attempt is paid', async () => {
      await refused(async ({ id }) => {
        await settle(late.db, id, {}, clock);
        return true;
      }, 'order_already_paid');
    });
  });
});

describe('a repeated request with other fields', () => {
  test("replaces returnUrl and metadata, and the payer's return and the cashier page use the new values", async () => {
    const { body, made } = await attempt({
      returnUrl: 'https://shop.example/a',
      metadata: { cart: 'c-1', from: 'web' },
    });
    const stated = { ...body, returnUrl: 'https://shop.example/b', metadata: { cart: 'c-2' } };
    const again = await post(stated);
    expect([again.status, again.json.id]).toEqual([200, made.id]);
    expect(payment.strict().parse(again.json)).toMatchObject({
      returnUrl: 'https://shop.example/b',
      metadata: { cart: 'c-2' },
    });
    expect(await row(made.id)).toMatchObject({
      returnUrl: 'https://shop.example/b',
      metadata: { cart: 'c-2' },
    });
    const at = `${made.id}?token=${made.clientToken}`;
    expect((await api.call(`/return/${at}`)).headers.get('location')).toBe(
      `https://shop.example/b?paymentId=${made.id}`,
    );
    expect((await api.call(`/checkout/${at}`)).text).toContain(
      `data-return-url="https://shop.example/b?paymentId=${made.id}"`,
    );
    const seen = (await api.call(`/v1/payments/${made.id}`, { key: made.clientToken })).json;
    expect(seen.backUrl).toBe(`https://shop.example/b?paymentId=${made.id}`);
  });

  test('does not change an absent field, and writes nothing if all of its fields are unchanged', async () => {
    const { body, made } = await attempt({ returnUrl: 'https://shop.example/a', metadata: { cart: 'c-1' } });
    const before = await row(made.id);
    const written = () => api.db.timelineEntry.count({ where: { paymentId: made.id } });
    const entries = await written();
    const bare = { orderId: made.orderId, channel: 'simulator' };
    for (const request of [bare, body, { ...bare, returnUrl: 'https://shop.example/a' }])
      expect((await post(request)).json).toMatchObject({
        ...{ id: made.id, returnUrl: 'https://shop.example/a', metadata: { cart: 'c-1' } },
      });
    expect(await row(made.id)).toEqual(before);
    expect(await written()).toBe(entries);
    // An empty field is not the same as an absent field: the empty value replaces the stored value.
    for (let i = 0; i < 2; i++)
      expect((await post({ ...bare, metadata: {} })).json).toMatchObject({
        metadata: {},
        returnUrl: 'https://shop.example/a',
      });
    expect(await written()).toBe(entries + 1);
  });

  test('ignores expiresInSeconds, and its answer shows the expiry of the existing attempt', async () => {
    const { body, made } = await attempt({ expiresInSeconds: 600 });
    const again = await post({ ...body, expiresInSeconds: 60 });
    expect([again.status, again.json.expiresAt]).toEqual([200, made.expiresAt]);
  });

  test('is refused and changes nothing if it names another payer', async () => {
    const { body, made } = await attempt({ payer: { id: 'u1', ip: '::1' }, metadata: { cart: 'c-1' } });
    const before = await row(made.id);
    const other = { ...body, payer: { id: 'u2' }, metadata: { cart: 'c-2' } };
    const refused = async (through: TestApi) => {
      const answer = await post(other, through);
      expect([answer.status, answer.json.code, answer.json.errors]).toEqual([
        409,
        'payer_differs',
        [{ path: 'payer.id', message: `payment ${made.id} has another payer` }],
      ]);
      expect(await row(made.id)).toEqual(before);
    };
    await refused(api);
    // A request of another payer does not end the attempt.
    leave(made, 4_000);
    await refused(late);
    expect(asked()).toEqual([]);
    await endPayment(api.db, made.id, 'cancelled', 'unpaid.', new Date());
    const made2 = await post(other);
    expect([made2.status, made2.json.payer]).toEqual([201, { id: 'u2' }]);
  });

  test('keeps the first payer.ip and ignores another payer.ip', async () => {
    const { body, made } = await attempt({ payer: { id: 'u1', ip: '::1' } });
    for (const payer of [{ id: 'u1', ip: '192.0.2.1' }, { ip: '192.0.2.1' }, undefined]) {
      const again = await post({ ...body, payer });
      expect([again.status, again.json.id, again.json.payer]).toEqual([
        200,
        made.id,
        { id: 'u1', ip: '::1' },
      ]);
    }
  });

  test('sets the payer only if no earlier request named a payer', async () => {
    const { body, made } = await attempt({ payer: { ip: '::1' } });
    const named = await post({ ...body, payer: { id: 'u1' } });
    expect([named.status, named.json.id, named.json.payer]).toEqual([200, made.id, { id: 'u1', ip: '::1' }]);
    expect((await post({ ...body, payer: { id: 'u2' } })).json.code).toBe('payer_differs');
    const { body: without } = await attempt();
    expect((await post(without)).json.payer).toBeNull();
    expect((await post({ ...without, payer: { id: 'u3' } })).json.payer).toEqual({ id: 'u3' });
  });

  test('does not change the payer after nodrop has requested the trade, even if the payment has no payer id', async () => {
    const { body, made } = await attempt({ payer: { ip: '::1' } });
    await api.db.payment.update({ where: { id: made.id }, data: { createAskedAt: new Date() } });
    const again = await post({ ...body, payer: { id: 'u1' }, metadata: { cart: 'c-2' } });
    expect([again.status, again.json.id, again.json.metadata]).toEqual([200, made.id, { cart: 'c-2' }]);
    expect((await row(made.id)).payer).toEqual({ ip: '::1' });
  });

  test('if two concurrent requests name different payers, only one request succeeds and the other is refused', async () => {
    const { body, made } = await attempt();
    const answers = await Promise.all(
      ['u1', 'u2'].map((id, i) => post({ ...body, payer: { id } }, i === 0 ? api : late)),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409]);
    const winner = answers.find(({ status }) => status === 200)?.json;
    expect((await row(made.id)).payer).toEqual(winner.payer);
  });
});

describe('a channel switch', () => {
  const to = (of: Made, channel: string, through = api, as = of.clientToken) =>
    through.call(`/v1/payments/${of.id}/switch`, { key: as, body: { channel } });
  /** Creates two live attempts at one order. The first stays live, because a query of its channel gets no answer. */
  async function twoLive(first: Body, second: Body) {
    const { body, made } = await attempt(first);
    api.workflows.onAskChannel = async () => false;
    const { order: _, ...request } = body;
    const answer = await post({ ...request, orderId: made.orderId, channel: 'simulator2', ...second });
    expect(answer.status, answer.text).toBe(201);
    return { a: made, b: answer.json as Made };
  }

  test("a switch to an attempt that is already live does not change that attempt's terms", async () => {
    const terms = { returnUrl: 'https://shop.example/b', metadata: { cart: 'b' } };
    const { a, b } = await twoLive(
      { returnUrl: 'https://shop.example/a', metadata: { cart: 'a' }, payer: { id: 'u1' } },
      { ...terms, payer: undefined },
    );
    const before = await row(b.id);
    for (const as of [a.clientToken, key]) {
      const answer = await to(a, 'simulator2', api, as);
      expect([answer.status, answer.json.id]).toEqual([200, b.id]);
    }
    expect(await row(b.id)).toEqual(before);
    expect(before).toMatchObject(terms);
  });

  test('a switch does not return the attempt of another payer', async () => {
    const { a, b } = await twoLive({ payer: { id: 'u1' } }, { payer: { id: 'u2' } });
    const answer = await to(a, 'simulator2');
    expect([answer.status, answer.json.code]).toEqual([409, 'payer_differs']);
    expect(answer.text).not.toContain(b.id);
    expect((await to(a, 'simulator2', api, key)).json.errors).toMatchObject([{ path: 'payer.id' }]);
    expect((await row(b.id)).status).toBe('paying');
  });

  test('if the attempt has less than 30 s left, a switch to its own channel creates a new attempt with the same terms', async () => {
    const { made } = await attempt({ returnUrl: 'https://shop.example/a', payer: { id: 'u1' } });
    leave(made, 4_000);
    const answer = await to(made, 'simulator', late);
    expect([answer.status, asked(), (await row(made.id)).status]).toEqual([201, [made.id], 'cancelled']);
    expect(answer.json.clientToken).not.toBe(made.clientToken);
    expect(await row(answer.json.id)).toMatchObject({
      returnUrl: 'https://shop.example/a',
      payer: { id: 'u1' },
    });
  });

  test('a switch is refused without a query if the ledger shows that the channel still decides about the attempt', async () => {
    const { made } = await attempt();
    leave(made, 4_000);
    await recordAnswer(api.db, made.id, { state: 'processing' }, 'query', clock);
    const answer = await to(made, 'simulator', late);
    expect([answer.status, answer.json.code, asked()]).toEqual([409, 'attempt_unresolved', []]);
  });

  test("if the order has reached its maximum number of attempts, a switch returns the payer's attempt, even shortly before its expiry", async () => {
    const { made } = await attempt();
    const { id: _, ...old } = await row(made.id);
    for (let i = 0; i < 19; i++) {
      const ended = { ...old, id: newPaymentId(), status: 'closed', endedAt: new Date() };
      // biome-ignore lint/suspicious/noExplicitAny: a row as read.
      await api.db.payment.create({ data: ended as any });
    }
    leave(made, 4_000);
    const answer = await to(made, 'simulator', late);
    expect([answer.status, answer.json.id, asked()]).toEqual([200, made.id, []]);
    leave(made, 0);
    expect((await to(made, 'simulator', late)).json.code).toBe('attempt_unresolved');
    expect(asked()).toEqual([]);
  });
});
