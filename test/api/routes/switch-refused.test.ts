import { describe, expect, test } from 'vitest';
import { newPaymentId } from '../../../src/domain/ids.ts';
import { endPayment, recordAnswer, recordSilence, settlePayment } from '../../../src/ledger/payments.ts';
import { paidAnswer, pay, startTestApi, takingOnly, testChannels } from '../support.ts';
import { api, database, key, seen, settle, to } from './switch-support.ts';

// Tests that POST /v1/payments/{id}/switch is refused if the earlier attempt may still be paid, or if nothing is left
// to pay.

describe('reasons to refuse a switch to another channel', () => {
  /** Expects that the switch created nothing, and that its answer shows the payer no data of the merchant. */
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

  test("the order is paid, by the payer's attempt or by another attempt", async () => {
    const one = await pay(api, key);
    const two = (await to(one.id, one.clientToken)).json;
    await settle(two.id);
    await expectRefused({ ...one }, 'order_already_paid');
    await expectRefused({ ...two, orderId: one.orderId }, 'order_already_paid');
    expect((await to(one.id, key)).json.detail).toContain(two.id);
  });

  test('the query shows that the attempt is paid', async () => {
    const old = await pay(api, key);
    api.workflows.onAskChannel = async ({ id }) => {
      await settle(id);
      return true;
    };
    await expectRefused(old, 'order_already_paid');
    expect((await seen(old.id, old.clientToken)).orderUpdate).toBe('applied');
  });

  test('the order has ended', async () => {
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
      'money has arrived that needs a decision',
      async (id: string) => {
        await recordAnswer(api.db, id, paidAnswer({ amount: 7 }), 'query', new Date());
        await settlePayment(api.db, id, new Date());
      },
    ],
  ])('%s, with 409 and Retry-After', async (_name, happens) => {
    const old = await pay(api, key);
    await happens(old.id);
    const answer = await expectRefused(old, 'attempt_unresolved');
    expect(answer.headers.get('retry-after')).toBe('10');
    expect((await seen(old.id, old.clientToken)).switchTo).toEqual([]);
  });

  describe('the channel still decides about the attempt', () => {
    const asked = () => api.workflows.named('askChannel').length;
    /** The channel answers "processing" to every query. The stored answer is `ageMs` old. */
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

    test("a payer's switch is refused because of the recorded answer, without a query of the channel each time", async () => {
      const old = await processing(60_000);
      for (let i = 0; i < 3; i++) await expectRefused(old, 'attempt_unresolved');
      expect(asked()).toBe(1);
      // If the channel does not answer a query, the payer's next request does not query it again. nodrop then queries
      // the channel only on schedule.
      const silent = await processing(60_000);
      await recordSilence(api.db, silent.id, 'no answer', 300_000, new Date());
      await expectRefused(silent, 'attempt_unresolved');
      expect(asked()).toBe(1);
    });

    test("the recorded answer is used for 10 s for a payer's switch, and for 1 s for a merchant's switch", async () => {
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

    test('concurrent switches share one query', async () => {
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
      // Once these later requests are answered, the earlier requests have also arrived.
      for (let i = 0; i < 20; i++) await seen(old.id, key);
      release();
      const statuses = (await Promise.all(answers)).map(({ status }) => status);
      expect(statuses).toEqual([...Array(8).fill(409), 200]);
      expect(asked()).toBe(1);
    });
  });

  test('the caller has a client token, and the order already has twenty attempts', async () => {
    const old = await pay(api, key);
    const { id: _, ...row } = await api.db.payment.findUniqueOrThrow({ where: { id: old.id } });
    const ended = Array.from({ length: 18 }, () => ({ ...row, id: newPaymentId() }));
    await endPayment(api.db, old.id, 'closed', 'expired', new Date());
    for (const data of ended) {
      // biome-ignore lint/suspicious/noExplicitAny: a row as read.
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
    // The live attempt continues, and the merchant may still switch.
    const last = await seen(made.id, made.clientToken);
    expect(last).toMatchObject({ status: 'paying', orderState: 'open', switchTo: [] });
    expect((await to(made.id, made.clientToken, { channel: made.channel })).status).toBe(200);
    await endPayment(api.db, made.id, 'closed', 'expired', new Date());
    await expectRefused(old, 'order_not_payable');
    expect((await to(old.id, key)).status).toBe(201);
  });

  test('the merchant does not have the channel', async () => {
    const old = await pay(api, key);
    await expectRefused(old, 'unknown_channel', { channel: 'alipay' });
  });

  test('the channel does not accept the currency', async () => {
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

  test("the channel rejects the new attempt, and only the merchant sees the channel's reason", async () => {
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
  ])('the body %j is invalid', async (body, path) => {
    const old = await pay(api, key);
    const answer = await to(old.id, old.clientToken, body);
    expect([answer.status, answer.json.errors[0].path]).toEqual([422, path]);
    expect(await api.db.payment.count({ where: { orderId: old.orderId } })).toBe(1);
  });

  test("the caller's client token has expired", async () => {
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
