import { beforeEach, describe, expect, test } from 'vitest';
import { payerPayment, payment, switchedPayment } from '../../../src/api/schemas/payment.ts';
import { newPaymentId } from '../../../src/domain/ids.ts';
import { endPayment, recordAnswer, recordSilence, settlePayment } from '../../../src/ledger/payments.ts';
import {
  newKey,
  newOrderId,
  paidAnswer,
  pay,
  StandInWorkflows,
  settle as settlePaid,
  setUp,
  startTestApi,
  takingOnly,
  testChannels,
} from '../support.ts';

// POST /v1/payments/{id}/switch: another way to pay the same order, for who has the token of an earlier attempt.

const { database, api, key, merchantId } = await setUp();
beforeEach(() => {
  const { onAwaitNextAction } = new StandInWorkflows(api.db);
  Object.assign(api.workflows, { down: false, onAwaitNextAction, onAskChannel: unpaid });
  api.workflows.calls.length = 0;
});

/** The channel says unpaid, and the payment's workflow closes it when it is told to. */
const unpaid: StandInWorkflows['onAskChannel'] = async ({ id }) => {
  await recordAnswer(api.db, id, { state: 'unpaid' }, 'query', new Date());
  setImmediate(() => void endPayment(api.db, id, 'cancelled', 'a new attempt', new Date()));
  return true;
};

const settle = (id: string) => settlePaid(api.db, id);

const to = (id: string, as: string, body: unknown = { channel: 'simulator2' }) =>
  api.call(`/v1/payments/${id}/switch`, { key: as, body });
const seen = async (id: string, as: string) => (await api.call(`/v1/payments/${id}`, { key: as })).json;

describe('a payer switches', () => {
  test('to another channel: a new attempt with a token of its own, and the old one is closed', async () => {
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
    // Neither opens the other's.
    expect((await api.call(`/v1/payments/${old.id}`, { key: made.clientToken })).status).toBe(401);
    expect((await api.call(`/v1/payments/${made.id}`, { key: old.clientToken })).status).toBe(401);
  });

  test('twice, at once or again: one new attempt', async () => {
    const old = await pay(api, key);
    const answers = await Promise.all([1, 2, 3].map(() => to(old.id, old.clientToken)));
    answers.push(await to(old.id, old.clientToken));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 201]);
    expect(new Set(answers.map(({ json }) => `${json.id} ${json.clientToken}`)).size).toBe(1);
    expect(await api.db.payment.count({ where: { orderId: old.orderId } })).toBe(2);
  });

  test('there and back, and again after an attempt has ended by itself', async () => {
    const first = await pay(api, key);
    const second = (await to(first.id, first.clientToken)).json;
    const third = await to(second.id, second.clientToken, { channel: 'simulator', method: 'wallet' });
    expect([third.status, third.json.channel]).toEqual([201, 'simulator']);
    await endPayment(api.db, third.json.id, 'closed', 'expired', new Date());
    const fourth = await to(third.json.id, third.json.clientToken, { channel: 'simulator' });
    expect(fourth.status).toBe(201);
    expect(new Set([first.id, second.id, third.json.id, fourth.json.id]).size).toBe(4);
  });

  test('to the way it has: the same attempt, with the same token', async () => {
    const old = await pay(api, key);
    const answer = await to(old.id, old.clientToken, { channel: 'simulator' });
    expect([answer.status, answer.json.id, answer.json.clientToken]).toEqual([200, old.id, old.clientToken]);
  });

  test('while the channel takes its time: 202, and the new attempt goes on', async () => {
    const old = await pay(api, key);
    api.workflows.onAwaitNextAction = async () => false;
    const answer = await to(old.id, old.clientToken);
    expect([answer.status, answer.json.status, answer.json.payUrl]).toEqual([202, 'created', null]);
    expect((await seen(answer.json.id, answer.json.clientToken)).status).toBe('created');
  });

  test('when Temporal is away: 503, and the same again later', async () => {
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

test('a merchant switches: the answer is what creating answers', async () => {
  const old = await pay(api, key);
  const answer = await to(old.id, key);
  expect(answer.status).toBe(201);
  expect(payment.strict().parse(answer.json)).toMatchObject({ orderId: old.orderId, channel: 'simulator2' });
  expect(answer.json.checkoutUrl).toContain(answer.json.clientToken);
});

describe('refused', () => {
  /** Nothing was made, and nothing of the merchant's was said to the payer. */
  async function expectRefused(
    old: { id: string; orderId: string; clientToken: string },
    code: string,
    body?: object,
  ) {
    const count = await api.db.payment.count({ where: { orderId: old.orderId } });
    const answer = await to(old.id, old.clientToken, body);
    expect([answer.status, answer.json.code]).toEqual([
      code.startsWith('order') || code.startsWith('attempt') ? 409 : 422,
      code,
    ]);
    expect(answer.json.detail).not.toContain(old.orderId);
    expect(answer.json.detail).not.toMatch(/pay_/);
    expect(await api.db.payment.count({ where: { orderId: old.orderId } })).toBe(count);
    return answer;
  }

  test('the order is paid, by this attempt or by another', async () => {
    const one = await pay(api, key);
    const two = (await to(one.id, one.clientToken)).json;
    await settle(two.id);
    await expectRefused({ ...one }, 'order_already_paid');
    await expectRefused({ ...two, orderId: one.orderId }, 'order_already_paid');
    expect((await to(one.id, key)).json.detail).toContain(two.id);
  });

  test('the channel says at the question that it is paid', async () => {
    const old = await pay(api, key);
    api.workflows.onAskChannel = async ({ id }) => {
      await settle(id);
      return true;
    };
    await expectRefused(old, 'order_already_paid');
    expect((await seen(old.id, old.clientToken)).orderUpdate).toBe('applied');
  });

  test('the order is over', async () => {
    const old = await pay(api, key);
    await endPayment(api.db, old.id, 'closed', 'expired', new Date());
    await api.db.order.updateMany({ where: { id: old.orderId }, data: { status: 'cancelled' } });
    await expectRefused(old, 'order_not_payable');
  });

  test.each([
    [
      'the payer has acted and the channel has not decided',
      async (id: string) => {
        api.workflows.onAskChannel = async () => {
          await recordAnswer(api.db, id, { state: 'processing' }, 'query', new Date());
          return true;
        };
      },
    ],
    [
      'money came in that a person must decide on',
      async (id: string) => {
        await recordAnswer(api.db, id, paidAnswer({ amount: 7 }), 'query', new Date());
        await settlePayment(api.db, id, new Date());
      },
    ],
  ])('%s: come again later', async (_name, happens) => {
    const old = await pay(api, key);
    await happens(old.id);
    const answer = await expectRefused(old, 'attempt_unresolved');
    expect(answer.headers.get('retry-after')).toBe('10');
    expect((await seen(old.id, old.clientToken)).switchTo).toEqual([]);
  });

  describe('while the channel decides', () => {
    const asked = () => api.workflows.named('askChannel').length;
    /** What the channel says of it, now and whenever it is asked; the row is as old as that. */
    async function processing(ageMs: number) {
      const old = await pay(api, key);
      const decides = (at = Date.now()) =>
        recordAnswer(api.db, old.id, { state: 'processing' }, 'query', new Date(at));
      api.workflows.onAskChannel = async () => {
        await decides();
        return true;
      };
      await decides(Date.now() - ageMs);
      return old;
    }

    test('a payer learns it from the row, and the channel is not asked each time', async () => {
      const old = await processing(60_000);
      for (let i = 0; i < 3; i++) await expectRefused(old, 'attempt_unresolved');
      expect(asked()).toBe(1);
      // Also while it says nothing: it is asked on schedule.
      const silent = await processing(60_000);
      await recordSilence(api.db, silent.id, 'no answer', 300_000, new Date());
      await expectRefused(silent, 'attempt_unresolved');
      expect(asked()).toBe(1);
    });

    test('its word counts for 10 s to a payer, and for 1 s to a merchant', async () => {
      const clock = Date.now();
      const own = await startTestApi(database.url, { now: () => new Date(clock) });
      try {
        for (const [as, ageMs, questions] of [
          ['payer', 9_999, 0],
          ['payer', 10_000, 1],
          ['merchant', 999, 0],
          ['merchant', 1_000, 1],
        ] as const) {
          const old = await pay(api, key);
          await recordAnswer(api.db, old.id, { state: 'processing' }, 'query', new Date(clock - ageMs));
          own.workflows.calls.length = 0;
          const answer = await own.call(`/v1/payments/${old.id}/switch`, {
            key: as === 'payer' ? old.clientToken : key,
            body: { channel: 'simulator2' },
          });
          expect(answer.json.code).toBe('attempt_unresolved');
          expect([as, ageMs, own.workflows.named('askChannel').length]).toEqual([as, ageMs, questions]);
        }
      } finally {
        await own.close();
      }
    });

    test('many at once share one question', async () => {
      const old = await processing(60_000);
      const ask = api.workflows.onAskChannel;
      let release = () => {};
      const held = new Promise<void>((resolve) => {
        release = resolve;
      });
      api.workflows.onAskChannel = async (row) => {
        await held;
        return await ask(row);
      };
      const answers = Array.from({ length: 8 }, (_, i) => to(old.id, i % 2 ? key : old.clientToken));
      answers.push(api.call(`/v1/payments/${old.id}/query`, { key, method: 'POST' }));
      // Later requests that have been answered: the earlier ones are in.
      for (let i = 0; i < 20; i++) await seen(old.id, key);
      release();
      const statuses = (await Promise.all(answers)).map(({ status }) => status);
      expect(statuses).toEqual([...Array(8).fill(409), 200]);
      expect(asked()).toBe(1);
    });
  });

  test('the order has had twenty attempts: to whoever has a token, also at the same time', async () => {
    const old = await pay(api, key);
    const { id: _, ...row } = await api.db.payment.findUniqueOrThrow({ where: { id: old.id } });
    const ended = Array.from({ length: 18 }, () => ({ ...row, id: newPaymentId() }));
    await endPayment(api.db, old.id, 'closed', 'expired', new Date());
    for (const data of ended) {
      // biome-ignore lint/suspicious/noExplicitAny: a row as it was read.
      await api.db.payment.create({ data: data as any });
      await endPayment(api.db, data.id, 'closed', 'expired', new Date());
    }
    expect((await seen(old.id, old.clientToken)).switchTo).toHaveLength(2);
    const answers = await Promise.all(
      ['simulator', 'simulator2'].map((channel) => to(old.id, old.clientToken, { channel })),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 409]);
    const made = answers.find(({ status }) => status === 201)?.json;
    await expectRefused(old, 'order_not_payable', {
      channel: made.channel === 'simulator' ? 'simulator2' : 'simulator',
    });
    // What is live goes on, and the merchant may.
    const last = await seen(made.id, made.clientToken);
    expect(last).toMatchObject({ status: 'paying', orderState: 'open', switchTo: [] });
    expect((await to(made.id, made.clientToken, { channel: made.channel })).status).toBe(200);
    await endPayment(api.db, made.id, 'closed', 'expired', new Date());
    await expectRefused(old, 'order_not_payable');
    expect((await to(old.id, key)).status).toBe(201);
  });

  test('there is no such channel for this merchant', async () => {
    const old = await pay(api, key);
    await expectRefused(old, 'unknown_channel', { channel: 'alipay' });
  });

  test('the channel does not take the currency', async () => {
    const channels = new Map(testChannels());
    channels.set('simulator2', takingOnly({ JPY: {} }, channels.get('simulator2')));
    const narrow = await startTestApi(database.url, { channels });
    try {
      const old = await pay(narrow, key);
      const path = `/v1/payments/${old.id}`;
      const answer = await narrow.call(`${path}/switch`, {
        key: old.clientToken,
        body: { channel: 'simulator2' },
      });
      expect([answer.status, answer.json.code]).toEqual([422, 'currency_not_supported']);
      expect((await narrow.call(path, { key: old.clientToken })).json.switchTo).toEqual([]);
    } finally {
      await narrow.close();
    }
  });

  test('the channel refuses the new attempt, in its own words only to the merchant', async () => {
    const refusing = async ({ id }: { id: string }) => {
      await recordAnswer(api.db, id, { state: 'failed', reason: 'account blocked' }, 'query', new Date());
      await endPayment(api.db, id, 'failed', 'refused', new Date());
      return true;
    };
    const old = await pay(api, key);
    api.workflows.onAwaitNextAction = refusing;
    const payer = await to(old.id, old.clientToken);
    expect([payer.status, payer.json.code]).toEqual([422, 'channel_rejected']);
    expect(payer.text).not.toContain('account blocked');
    const merchant = await to(old.id, key);
    expect(merchant.json.detail).toContain('account blocked');
  });

  test.each([
    [{}, 'channel'],
    [{ channel: '' }, 'channel'],
    [{ channel: 7 }, 'channel'],
    [{ channel: 'simulator2', method: 'cash' }, 'method'],
    [{ channel: 'simulator2', amount: 1 }, 'amount'],
    [{ channel: 'simulator2', orderId: 'other' }, 'orderId'],
  ])('%j is not valid', async (body, path) => {
    const old = await pay(api, key);
    const answer = await to(old.id, old.clientToken, body);
    expect([answer.status, answer.json.errors[0].path]).toEqual([422, path]);
    expect(await api.db.payment.count({ where: { orderId: old.orderId } })).toBe(1);
  });

  test('an expired token', async () => {
    const old = await pay(api, key);
    const end = Date.parse(old.expiresAt) + 24 * 3_600_000;
    let now = new Date(end - 1);
    const late = await startTestApi(database.url, { now: () => now });
    try {
      await endPayment(api.db, old.id, 'closed', 'expired', new Date());
      const ask = () =>
        late.call(`/v1/payments/${old.id}/switch`, { key: old.clientToken, body: { channel: 'simulator2' } });
      expect((await ask()).status).toBe(201);
      now = new Date(end);
      expect((await ask()).status).toBe(401);
    } finally {
      await late.close();
    }
  });
});

describe('what there is to switch to', () => {
  test('is every channel of the merchant’s, but for the way that is live', async () => {
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

  test('is nothing once the order is paid, cancelled or past its end', async () => {
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

  test('may call what a client token opens, without credentials', async () => {
    for (const path of PAYERS) {
      const { status, headers } = await preflight(`/v1/payments/pay_1${path}`);
      expect([status, headers.get('access-control-allow-origin')]).toEqual([204, '*']);
      expect(headers.get('access-control-allow-credentials')).toBeNull();
      expect(headers.get('access-control-allow-headers')).toBe(
        'Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Request-Id',
      );
    }
  });

  test('may call nothing else', async () => {
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
