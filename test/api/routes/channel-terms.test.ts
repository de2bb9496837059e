import { afterEach, describe, expect, test } from 'vitest';
import type { ChannelAdapter, MethodDeclaration } from '../../../src/domain/channel.ts';
import {
  endAttempt,
  endPayment,
  recordAnswer,
  recordCreated,
  recordMisconfigured,
  recordNotYet,
} from '../../../src/ledger/payments.ts';
import {
  newOrderId,
  StandInWorkflows,
  settle,
  setUp,
  startTestApi,
  type TestApi,
  testChannels,
} from '../support.ts';

/**
 * Tests that a request that violates the channel's declared limits is refused before anything is stored. If a request
 * is within the limits, the API's answer depends on the channel's answer.
 */

const { database, key } = await setUp();

const PAYER = { id: 'openid-canary-7f3a', ip: '192.0.2.77' };

/** A simulator that declares other limits. */
function limited(changes: Partial<MethodDeclaration>) {
  const channels = new Map(testChannels());
  const adapter = channels.get('simulator') as ChannelAdapter;
  const { declaration } = adapter;
  const methods = [{ ...declaration.methods[0], ...changes }] as const;
  channels.set('simulator', { ...adapter, declaration: { ...declaration, methods } });
  return channels;
}

let api: TestApi;
const start = async (changes: Partial<MethodDeclaration> = {}) => {
  api = await startTestApi(database.url, { channels: limited(changes) });
  return api;
};
afterEach(() => api.close());

const inline = (change: Record<string, unknown> = {}, order: Record<string, unknown> = {}) => ({
  order: { id: newOrderId(), amount: 1050, currency: 'CNY', ...order },
  channel: 'simulator',
  ...change,
});
const post = (body: unknown) => api.call('/v1/payments', { key, body });
const row = (id: string) => api.db.payment.findUniqueOrThrow({ where: { id } });
const nothingMade = async ({ order: { id } }: { order: { id: string } }) => {
  expect(await api.db.payment.count({ where: { orderId: id } })).toBe(0);
  expect(await api.db.order.count({ where: { id } })).toBe(0);
};

describe('reasons to refuse a request for a payment before anything is stored', () => {
  test.each([
    [{ atLeast: 2_000 }, 'must be at least 2000'],
    [{ atMost: 1_000 }, 'must be at most 1000'],
    [{ multipleOf: 100 }, 'must be a multiple of 100'],
  ])("the amount does not meet the channel's limits %j", async (limits, message) => {
    await start({ currencies: { CNY: limits } });
    const body = inline();
    const { status, json } = await post(body);
    expect([status, json.code, json.errors]).toEqual([
      422,
      'amount_not_supported',
      [{ path: 'order.amount', message }],
    ]);
    await nothingMade(body);
    // If the amount of an existing order violates the channel's limits, the request is also refused.
    await api.call('/v1/orders', { key, body: body.order });
    const found = await post({ orderId: body.order.id, channel: 'simulator' });
    expect([found.status, found.json.code]).toEqual([422, 'amount_not_supported']);
    expect(found.json.detail).toContain(message);
  });

  test('the channel does not accept the currency', async () => {
    await start({ currencies: { JPY: {} } });
    const body = inline();
    const { status, json } = await post(body);
    expect([status, json.code]).toEqual([422, 'currency_not_supported']);
    await nothingMade(body);
  });

  test('the requested expiry is longer than the channel allows, although a default expiry would be shortened', async () => {
    await start({ expiry: { atLeastMs: 0, atMostMs: 600_000 } });
    const body = inline({ expiresInSeconds: 601 });
    const { status, json } = await post(body);
    expect([status, json.code, json.errors]).toEqual([
      422,
      'invalid_request',
      [{ path: 'expiresInSeconds', message: 'must be at most 600 for simulator' }],
    ]);
    await nothingMade(body);
    const made = await post(inline());
    expect(Date.parse(made.json.expiresAt) - Date.parse(made.json.createdAt)).toBe(600_000);
  });

  test('payer fields that the method needs are missing, or the IP address is invalid', async () => {
    await start({ needs: ['id', 'ip'] });
    const body = inline({ payer: { id: PAYER.id } });
    const { status, json } = await post(body);
    expect([status, json.code, json.errors]).toEqual([
      422,
      'invalid_request',
      [{ path: 'payer.ip', message: 'simulator needs it for wallet' }],
    ]);
    expect((await post(inline())).json.errors.map(({ path }: { path: string }) => path)).toEqual([
      'payer.id',
      'payer.ip',
    ]);
    const wrong = await post(inline({ payer: { ...PAYER, ip: 'canary.example' } }));
    expect([wrong.status, wrong.json.errors.map(({ path }: { path: string }) => path)]).toEqual([
      422,
      ['payer.ip'],
    ]);
    await nothingMade(body);
    const made = await post(inline({ payer: PAYER }));
    expect(made.status).toBe(201);
    expect((await row(made.json.id)).payer).toEqual(PAYER);
    expect(api.logged()).toContain('/v1/payments');
    expect(api.logged()).not.toMatch(/canary|192\.0\.2/);
  });
});

test('a payer is not offered a channel that does not accept the amount, or that needs payer fields that are missing', async () => {
  const offered = async () => {
    const { json } = await post(inline({ channel: 'simulator2' }));
    const shown = await api.call(`/v1/payments/${json.id}`, { key: json.clientToken });
    return shown.json.switchTo.map(({ channel }: { channel: string }) => channel);
  };
  await start();
  expect(await offered()).toEqual(['simulator']);
  await api.close();
  await start({ currencies: { CNY: { atMost: 1_000 } } });
  expect(await offered()).toEqual([]);
  await api.close();
  await start({ needs: ['id'] });
  expect(await offered()).toEqual([]);
});

describe("a channel that rejects nodrop's credentials", () => {
  const SENTENCE = 'The API key is wrong: set another one.';
  const misconfigured: StandInWorkflows['onAwaitNextAction'] = async ({ id }) => {
    await recordMisconfigured(api.db, id, SENTENCE, new Date());
    return true;
  };

  test('causes a 503 with the reason, and once the credentials are correct, a repeated request continues the payment', async () => {
    await start();
    api.workflows.onAwaitNextAction = misconfigured;
    const body = inline();
    const { status, json, headers } = await post(body);
    expect([status, json.code, headers.get('retry-after')]).toEqual([503, 'channel_misconfigured', '60']);
    expect(json.detail).toContain(SENTENCE);
    const { id } = await api.db.payment.findFirstOrThrow({ where: { orderId: body.order.id } });
    expect(await row(id)).toMatchObject({ status: 'created', attention: 'channel_misconfigured' });

    // On each signal this function records a next action, as the workflow would.
    api.workflows.wake = async (payment) => {
      await recordCreated(
        api.db,
        payment.id,
        { type: 'redirect', url: 'https://wallet.example/' },
        new Date(),
      );
    };
    const repeated = await post(body);
    expect([repeated.status, repeated.json.id, repeated.json.attention]).toEqual([200, id, null]);
  });

  test('causes a 503 for each repeated request, and no further payment is created', async () => {
    await start();
    api.workflows.onAwaitNextAction = misconfigured;
    const body = inline();
    await post(body);
    const { status, json } = await post(body);
    expect([status, json.code]).toEqual([503, 'channel_misconfigured']);
    expect(await api.db.payment.count({ where: { orderId: body.order.id } })).toBe(1);
    expect(api.workflows.named('wake')).toHaveLength(1);
  });

  test('gives no details to a payer who switches to this channel', async () => {
    await start();
    const old = (await post(inline({ channel: 'simulator2' }))).json;
    api.workflows.onAskChannel = async ({ id }) => {
      await endPayment(api.db, id, 'cancelled', 'a new attempt', new Date());
      return true;
    };
    api.workflows.onAwaitNextAction = misconfigured;
    const { status, json, text } = await api.call(`/v1/payments/${old.id}/switch`, {
      key: old.clientToken,
      body: { channel: 'simulator' },
    });
    expect([status, json.code]).toEqual([503, 'channel_misconfigured']);
    expect(text).not.toContain('API key');
  });
});

test('if the channel gives no new next action, a repeated request gets a new attempt', async () => {
  await start();
  const body = inline();
  const first = (await post(body)).json;
  const gone = { type: 'redirect' as const, url: 'https://w', expiresAt: '2020-01-01T00:00:00.000Z' };
  await recordCreated(api.db, first.id, gone, new Date());
  const { onAwaitNextAction } = new StandInWorkflows(api.db);
  api.workflows.onAwaitNextAction = async (payment) => {
    if (payment.id !== first.id) return await onAwaitNextAction(payment);
    await endAttempt(api.db, payment.id, 'The channel gives no new next action', new Date());
    return true;
  };
  api.workflows.onAskChannel = async ({ id }) => {
    await recordAnswer(api.db, id, { state: 'unpaid' }, 'query', new Date());
    setImmediate(() => void endPayment(api.db, id, 'closed', 'unpaid, closed at the channel.', new Date()));
    return true;
  };
  const { status, json } = await post(body);
  expect([status, json.status]).toEqual([201, 'paying']);
  expect(json.id).not.toBe(first.id);
  expect(await row(first.id)).toMatchObject({ status: 'closed', noActionSince: expect.any(Date) });
});

test('if a channel cannot close an attempt yet, new attempts are refused on that channel and accepted on other channels', async () => {
  await start();
  const body = inline();
  const first = (await post(body)).json;
  await api.db.payment.update({ where: { id: first.id }, data: { cancelRequestedAt: new Date() } });
  const until = new Date(Date.now() + 240_000);
  api.workflows.onAskChannel = async ({ id }) => {
    await recordAnswer(api.db, id, { state: 'unpaid' }, 'query', new Date());
    return true;
  };
  api.workflows.cancel = async ({ id }) => void (await recordNotYet(api.db, id, until, new Date()));
  const same = await post(body);
  expect([same.status, same.json.code]).toEqual([409, 'attempt_unresolved']);
  expect(Number(same.headers.get('retry-after'))).toBeGreaterThan(200);
  expect(same.json.detail).toContain(until.toISOString());
  const other = await post({ ...body, channel: 'simulator2' });
  expect([other.status, other.json.status]).toEqual([201, 'paying']);
  expect(await row(first.id)).toMatchObject({ status: 'paying', attention: null });
});

test('if a channel does not support an amount, a partial refund of that amount is refused, but a refund of the whole remaining amount is accepted', async () => {
  await start({ currencies: { CNY: { multipleOf: 100 } } });
  const body = inline({}, { amount: 1100 });
  const { id } = (await post(body)).json;
  await settle(api.db, id, { amount: 1050 });
  const refund = (amount: number) =>
    api.call(`/v1/payments/${id}/refunds`, {
      key,
      body: { amount },
      headers: { 'Idempotency-Key': `${id}-${amount}` },
    });
  const { status, json } = await refund(150);
  expect([status, json.code, json.errors]).toEqual([
    422,
    'amount_not_supported',
    [{ path: 'amount', message: 'must be a multiple of 100' }],
  ]);
  expect(await api.db.refund.count({ where: { paymentId: id } })).toBe(0);
  for (const amount of [900, 150]) expect((await refund(amount)).status).toBe(201);
});
