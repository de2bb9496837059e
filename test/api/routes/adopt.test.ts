import { describe, expect, test } from 'vitest';
import { payment } from '../../../src/api/schemas/payment.ts';
import { ChannelError } from '../../../src/domain/channel.ts';
import { newPaymentId } from '../../../src/domain/ids.ts';
import { recordAnswer, settlePayment } from '../../../src/ledger/payments.ts';
import { ACCOUNT, newTrade, tradeNamed } from '../../simulator/support.ts';
import { newKey, newOrderId, pay, startTestApi } from '../support.ts';

import {
  adapter,
  adopting,
  api,
  channels,
  database,
  hooks,
  key,
  own,
  post,
  rowsOf,
  trade,
  wallet,
} from './adopt-support.ts';

// Tests the adoption, over HTTP, of trades that the merchant's own code has created.

describe('adopting a trade', () => {
  test('the adoption of an unpaid trade is answered 201 without a next action, and nodrop watches the trade and creates no trade', async () => {
    const reference = await trade();
    const answer = await post(adopting(reference));
    expect(answer.status).toBe(201);
    const made = payment.strict().parse(answer.json);
    expect(made).toMatchObject({
      ...{ status: 'paying', adopted: { reference, own: false }, amount: 1050, currency: 'CNY' },
      ...{ nextAction: null, payUrl: null, method: 'wallet' },
    });
    expect(api.workflows.named('wake').map(({ paymentId }) => paymentId)).toEqual([made.id]);
    expect([...api.workflows.named('start'), ...api.workflows.named('awaitNextAction')]).toEqual([]);
    const order = await api.call(`/v1/orders/${made.orderId}`, { key });
    expect(order.json.status).toBe('paying');
    const trades = (await wallet.ledger()).filter(({ outTradeNo }) =>
      [reference, made.id].includes(outTradeNo),
    );
    expect(trades).toMatchObject([{ outTradeNo: reference, createdCount: 1 }]);
    // If the process died at this moment, the sweep would start the workflow.
    expect((await rowsOf(reference))[0]?.noticedAt).not.toBeNull();
  });

  test('a repeated adoption is answered 200 with the same payment, even if Temporal was unavailable at first', async () => {
    const reference = await trade();
    const body = adopting(reference);
    api.workflows.down = true;
    const refused = await post(body);
    expect([refused.status, refused.json.code]).toEqual([503, 'temporal_unavailable']);
    api.workflows.down = false;
    api.workflows.calls.length = 0;
    hooks.onRead = async () => {
      throw new Error('the trade must not be read again');
    };
    const again = await post({ ...body, adopt: { reference, own: true } });
    expect([again.status, again.json.adopted]).toEqual([200, { reference, own: false }]);
    expect(api.workflows.named('wake')).toHaveLength(1);
    expect(await rowsOf(reference)).toHaveLength(1);
    const byId = await post({ orderId: body.order.id, channel: 'simulator', adopt: { reference } });
    expect([byId.status, byId.json.id]).toEqual([200, again.json.id]);
  });

  test('concurrent requests on two API processes create only one payment, whether or not the order already exists', async () => {
    const second = await startTestApi(database.url, { channels });
    try {
      for (let round = 0; round < 20; round++) {
        const reference = await trade();
        const body = adopting(reference);
        if (round % 2 === 1) await api.call('/v1/orders', { key, body: body.order });
        const answers = await Promise.all([api, second, api, second].map((at) => post(body, key, at)));
        expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 201]);
        expect(new Set(answers.map(({ json }) => json.id)).size).toBe(1);
      }
    } finally {
      await second.close();
    }
  });

  test('if another request adopts and settles a paid trade during an adoption, the adoption is answered 200 with the same payment', async () => {
    const reference = await trade();
    await wallet.pay(reference);
    const body = adopting(reference);
    let first: Awaited<ReturnType<typeof post>> | undefined;
    hooks.onRead = async () => {
      first = await post(body);
    };
    const second = await post(body);
    expect([first?.status, first?.json.status]).toEqual([201, 'succeeded']);
    expect([second.status, second.json.id]).toEqual([200, first?.json.id]);
  });

  test('a trade that another order has adopted is refused with 409, even if two orders adopt it at the same time', async () => {
    const reference = await trade();
    expect((await post(adopting(reference))).status).toBe(201);
    const other = adopting(reference);
    const refused = await post(other);
    expect([refused.status, refused.json.code]).toEqual([409, 'adopt_taken']);
    expect((await api.call(`/v1/orders/${other.order.id}`, { key })).status).toBe(404);
    for (let round = 0; round < 4; round++) {
      const wanted = await trade();
      const answers = await Promise.all([adopting(wanted), adopting(wanted)].map((body) => post(body)));
      expect(answers.map(({ status }) => status).sort()).toEqual([201, 409]);
      expect(answers.find(({ status }) => status === 409)?.json.code).toBe('adopt_taken');
      expect(await rowsOf(wanted)).toHaveLength(1);
    }
  });

  test('if two accounts can query the same trade, its money pays only one order, and a second adoption of the paid trade is refused with 409', async () => {
    const stranger = await newKey(api.db);
    const [before, after] = [await trade(), await trade()];
    // The reference alone proves nothing, because another account may have a trade with the same reference.
    const first = await post(adopting(before));
    const second = await post(adopting(before), stranger.key);
    expect([first.status, second.status]).toEqual([201, 201]);
    await wallet.pay(before);
    await wallet.pay(after);
    const settled = [];
    for (const [{ json }, as] of [
      [first, key],
      [second, stranger.key],
    ] as const) {
      const row = await api.db.payment.findUniqueOrThrow({ where: { id: json.id } });
      const found = await own.queryTrade(ACCOUNT, tradeNamed(before));
      await recordAnswer(api.db, row.id, found, 'query', new Date());
      await settlePayment(api.db, row.id, new Date());
      settled.push((await api.call(`/v1/payments/${row.id}`, { key: as })).json.orderUpdate);
    }
    expect(settled).toEqual(['applied', 'review']);
    expect((await post(adopting(after))).json.orderUpdate).toBe('applied');
    const refused = await post(adopting(after), stranger.key);
    expect([refused.status, refused.json.code]).toEqual([409, 'adopt_taken']);
  });

  test("if a channel's references are unique over all accounts, a trade that another account has adopted is refused with 409", async () => {
    const { adoption } = own.declaration;
    if (adoption === undefined) throw new Error('the simulator has trades that can be adopted');
    const declaration = { ...adapter.declaration, adoption: { ...adoption, isGlobal: true as const } };
    const global = await startTestApi(database.url, {
      channels: new Map([['simulator', { ...adapter, declaration }]]),
    });
    try {
      const reference = await trade();
      const stranger = await newKey(api.db);
      expect((await post(adopting(reference), key, global)).status).toBe(201);
      const refused = await post(adopting(reference), stranger.key, global);
      expect([refused.status, refused.json.code]).toEqual([409, 'adopt_taken']);
    } finally {
      await global.close();
    }
  });

  test('a trade that nodrop has created is refused with 409', async () => {
    const { id } = await pay(api, key);
    await own.createTrade(ACCOUNT, newTrade({ outTradeNo: id }));
    const refused = await post(adopting(id));
    expect([refused.status, refused.json.code]).toEqual([409, 'adopt_taken']);
    const stranger = await newKey(api.db);
    expect((await post(adopting(id), stranger.key)).json.code).toBe('adopt_taken');
    // The id of a nodrop payment is refused even if the payment's row was lost.
    expect((await post(adopting(newPaymentId()), stranger.key)).json.code).toBe('adopt_taken');
  });

  test('if the order has another amount or currency than the trade, the answer is 409 and no payment is stored or watched', async () => {
    const reference = await trade(1051);
    for (const order of [
      { id: newOrderId(), amount: 1050, currency: 'CNY' },
      { id: newOrderId(), amount: 1051, currency: 'EUR' },
    ]) {
      const refused = await post(adopting(reference, { order }));
      expect([refused.status, refused.json.code]).toEqual([409, 'adopt_mismatch']);
      expect(refused.json.detail).toContain('is for CNY 10.51');
      expect((await api.call(`/v1/orders/${order.id}`, { key })).status).toBe(404);
    }
    const order = { id: newOrderId(), amount: 1050, currency: 'CNY' };
    await api.call('/v1/orders', { key, body: order });
    const byId = await post({ orderId: order.id, channel: 'simulator', adopt: { reference } });
    expect([byId.status, byId.json.code]).toEqual([409, 'adopt_mismatch']);
    expect(await rowsOf(reference)).toEqual([]);
    expect(api.workflows.calls).toEqual([]);
  });

  test('a repeated adoption is refused with 409 if its order has another amount than before', async () => {
    const body = adopting(await trade());
    expect((await post(body)).status).toBe(201);
    const refused = await post({ ...body, order: { ...body.order, amount: 1051 } });
    expect([refused.status, refused.json.code]).toEqual([409, 'order_exists']);
    expect(refused.json.errors).toMatchObject([{ path: 'order.amount' }]);
  });

  test('a trade that the channel does not know, or an invalid reference, is refused with 422', async () => {
    const unknown = await post(adopting('shop-nothing'));
    expect([unknown.status, unknown.json.code]).toEqual([422, 'adopt_unknown']);
    const nonsense = await post(adopting('no such name'));
    expect([nonsense.status, nonsense.json.code]).toEqual([422, 'invalid_request']);
    expect(nonsense.json.errors).toMatchObject([{ path: 'adopt.reference' }]);
    const elsewhere = await post(adopting('shop-1', { channel: 'simulator2' }));
    expect([elsewhere.status, elsewhere.json.code]).toEqual([422, 'invalid_request']);
    expect((await post(adopting('shop-1', { channel: 'nowhere' }))).json.code).toBe('unknown_channel');
    expect((await post(adopting('shop-1', { account: 'another' }))).json.code).toBe('unknown_account');
    expect((await post({ ...adopting('shop-1'), order: undefined, orderId: 'none' })).json.code).toBe(
      'order_not_found',
    );
  });

  test.each([
    ['unreachable', 504, 'channel_unreachable', '5'],
    ['garbage', 504, 'channel_unreachable', '5'],
    ['rate_limited', 504, 'channel_unreachable', '7'],
    ['misconfigured', 503, 'channel_misconfigured', '60'],
  ] as const)(
    "if the channel's error is %s, the answer is %i and nothing is stored, so that the repeated request succeeds",
    async (kind, status, code, after) => {
      const reference = await trade();
      const body = adopting(reference);
      hooks.onRead = async () => {
        throw new ChannelError(kind, 'trouble', kind === 'rate_limited' ? { retryAfterMs: 6_001 } : {});
      };
      const refused = await post(body);
      expect([refused.status, refused.json.code, refused.headers.get('retry-after')]).toEqual([
        status,
        code,
        after,
      ]);
      expect(await rowsOf(reference)).toEqual([]);
      expect((await api.call(`/v1/orders/${body.order.id}`, { key })).status).toBe(404);
      expect((await post(body)).status).toBe(201);
    },
  );

  test("adoptions beyond a quarter of the channel's rate limit per second are refused with 503 and Retry-After", async () => {
    const at = new Date();
    const busy = await startTestApi(database.url, { channels: new Map([['simulator', own]]), now: () => at });
    try {
      const references = Array.from({ length: 60 }, (_, i) => `shop-many-${i}`);
      const answers = await Promise.all(references.map((reference) => post(adopting(reference), key, busy)));
      // Only 25 trades are looked up, a quarter of the channel's limit of 100.
      expect(answers.filter(({ json }) => json.code === 'adopt_unknown')).toHaveLength(25);
      const others = answers.filter(({ json }) => json.code !== 'adopt_unknown');
      expect(new Set(others.map(({ json }) => json.code))).toEqual(new Set(['too_busy']));
      expect(others[0]?.headers.get('retry-after')).toBe('1');
    } finally {
      await busy.close();
    }
  });
});
