import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { MethodDeclaration } from '../../../src/domain/channel.ts';
import { claimKey, keepResult, releaseKey } from '../../../src/ledger/idempotency.ts';
import { endPayment } from '../../../src/ledger/payments.ts';
import { eventually } from '../../support/stack.ts';
import { newKey, newOrderId, startTestApi, takingOnly, testChannels } from '../support.ts';
import {
  api,
  database,
  isReplayed,
  key,
  merchantId,
  newPayment,
  other,
  pay,
  send,
} from './idempotency-support.ts';

// Tests a request that repeats the Idempotency-Key of an earlier request, if the earlier request is still in progress,
// had no definite result, or was interrupted because its process died.

describe('reasons to store no result for an Idempotency-Key', () => {
  test('the order exists with other content, and may still be changed', async () => {
    const id = randomUUID();
    const order = { ...newPayment().order, subject: 'Two tickets' };
    const body = newPayment({ order });
    await api.call('/v1/orders', { key, body: { ...order, subject: 'Another' } });
    const first = await pay(body, id);
    expect([first.status, first.json.code, first.json.errors]).toEqual([
      409,
      'order_exists',
      [{ path: 'order.subject', message: 'the order has "Another"' }],
    ]);
    await api.call(`/v1/orders/${order.id}`, { key, method: 'PATCH', body: { subject: order.subject } });
    const again = await pay(body, id);
    expect([again.status, isReplayed(again)]).toEqual([201, null]);
  });

  test('Temporal has not confirmed the request', async () => {
    const [id, body] = [randomUUID(), newPayment()];
    api.workflows.down = true;
    expect((await pay(body, id)).json.code).toBe('temporal_unavailable');
    api.workflows.down = false;
    const again = await pay(body, id);
    // The repeated request returns the payment that the first request created, and continues it.
    expect([again.status, isReplayed(again)]).toEqual([200, null]);
    expect(await api.db.payment.count({ where: { orderId: body.order.id } })).toBe(1);
    expect([(await pay(body, id)).status, isReplayed(await pay(body, id))]).toEqual([200, 'true']);
  });

  test('the channel has not answered yet', async () => {
    const [id, body] = [randomUUID(), newPayment()];
    api.workflows.onAwaitNextAction = async () => false;
    const first = await pay(body, id);
    expect(first.status).toBe(202);
    const again = await pay(body, id, other);
    expect([again.status, again.json.id, isReplayed(again)]).toEqual([200, first.json.id, null]);
  });

  test('a previous attempt has not ended yet', async () => {
    const [id, body] = [randomUUID(), newPayment()];
    const { id: live } = (await api.call('/v1/payments', { key, body })).json;
    await api.db.payment.update({ where: { id: live }, data: { cancelRequestedAt: new Date() } });
    expect((await pay(body, id)).json.code).toBe('attempt_unresolved');
    await endPayment(api.db, live, 'cancelled', 'asked for', new Date());
    expect((await pay(body, id)).status).toBe(201);
  });

  test('the order does not exist yet', async () => {
    const id = randomUUID();
    const body = { orderId: newOrderId(), channel: 'simulator' };
    expect((await pay(body, id)).json.code).toBe('order_not_found');
    await api.call('/v1/orders', { key, body: { id: body.orderId, amount: 1, currency: 'CNY' } });
    const again = await pay(body, id);
    expect([again.status, isReplayed(again)]).toEqual([201, null]);
  });

  test('the channel is not set up yet, or does not accept the currency yet', async () => {
    const channels = new Map(testChannels());
    const takes = (currencies: MethodDeclaration['currencies']) =>
      channels.set('simulator', takingOnly(currencies, testChannels().get('simulator')));
    const own = await startTestApi(database.url, { channels });
    try {
      const [id, body] = [randomUUID(), newPayment()];
      channels.delete('simulator');
      expect((await pay(body, id, own)).json.code).toBe('unknown_channel');
      takes({ JPY: {} });
      expect((await pay(body, id, own)).json.code).toBe('currency_not_supported');
      takes('any');
      const again = await pay(body, id, own);
      expect([again.status, isReplayed(again)]).toEqual([201, null]);
    } finally {
      await own.close();
    }
  });

  test('the request is invalid, and the corrected request may use the same key', async () => {
    const id = randomUUID();
    const wrong = await pay(newPayment({ method: 'teleport' }), id);
    expect([wrong.status, wrong.json.code]).toEqual([422, 'invalid_request']);
    expect((await pay(newPayment({ channel: 1 }), id)).status).toBe(422);
    expect((await pay(newPayment(), id)).status).toBe(201);
  });
});

describe('a request with an Idempotency-Key that is in progress', () => {
  test('the same request is answered "in progress" while the first request runs', async () => {
    const [id, body] = [randomUUID(), newPayment()];
    const create = api.workflows.onAwaitNextAction;
    let go = () => {};
    const held = new Promise<void>((resolve) => {
      go = resolve;
    });
    api.workflows.onAwaitNextAction = async (payment) => {
      await held;
      return await create(payment);
    };
    const first = pay(body, id);
    await eventually(() => api.workflows.named('start').length > 0);
    const meanwhile = await pay(body, id, other);
    expect([meanwhile.status, meanwhile.json.code]).toEqual([409, 'idempotency_key_in_progress']);
    expect(Number(meanwhile.headers.get('retry-after'))).toBeGreaterThan(0);
    go();
    expect((await first).status).toBe(201);
    expect(isReplayed(await pay(body, id, other))).toBe('true');
  });

  test('if many concurrent requests arrive at two processes, one request runs, and the others get the same answer or "in progress"', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ second: fc.boolean(), delayMs: fc.integer({ min: 0, max: 40 }) }), {
          minLength: 2,
          maxLength: 12,
        }),
        async (requests) => {
          const [id, body] = [randomUUID(), newPayment()];
          const answers = await Promise.all(
            requests.map(async ({ second, delayMs }) => {
              await new Promise((resolve) => setTimeout(resolve, delayMs));
              return await pay(body, id, second ? other : api);
            }),
          );
          const ended = answers.filter(({ status }) => status !== 409);
          expect(ended.length).toBeGreaterThan(0);
          for (const answer of ended) {
            expect(answer.status).toBe(201);
            expect(answer.json).toEqual(ended[0]?.json);
          }
          expect(ended.filter((answer) => isReplayed(answer) === null)).toHaveLength(1);
          for (const answer of answers.filter(({ status }) => status === 409))
            expect(answer.json.code).toBe('idempotency_key_in_progress');
          expect(await api.db.payment.count({ where: { orderId: body.order.id } })).toBe(1);
          const last = await pay(body, id);
          expect([last.status, isReplayed(last)]).toEqual([201, 'true']);
        },
      ),
      { numRuns: 25 },
    );
  });
});

describe('an Idempotency-Key of a request whose process died', () => {
  /**
   * Stores an Idempotency-Key as if its process had been killed during the request: the request has begun and has no
   * result.
   */
  async function begin(id: string, body: object, at: Date): Promise<void> {
    const stranger = await newKey(api.db);
    await send('/v1/payments', body, id, api, stranger.key);
    const { requestHash } = await api.db.idempotencyKey.findFirstOrThrow({ where: { key: id } });
    const request = { merchantId, key: id, route: 'POST /v1/payments', requestHash, fields: {} };
    expect((await claimKey(api.db, request, at)).kind).toBe('ours');
  }

  test.each([
    ['before it did its work', false],
    ['after its payment was created', true],
  ])(
    'if the process died %s, a repeated request is answered "in progress" until the lease ends, and then runs again',
    async (_, made) => {
      const [id, body] = [randomUUID(), newPayment()];
      const first = made ? await api.call('/v1/payments', { key, body }) : undefined;
      const began = Date.now();
      await begin(id, body, new Date(began));
      let sinceMs = 59_900;
      const after = await startTestApi(database.url, { now: () => new Date(began + sinceMs) });
      try {
        const early = await pay(body, id, after);
        expect([early.status, early.json.code]).toEqual([409, 'idempotency_key_in_progress']);
        sinceMs = 60_100;
        const again = await pay(body, id, after);
        expect([again.status, isReplayed(again)]).toEqual([made ? 200 : 201, null]);
        if (first !== undefined) expect(again.json.id).toBe(first.json.id);
        expect(isReplayed(await pay(body, id, after))).toBe('true');
        expect(await api.db.payment.count({ where: { merchantId, orderId: body.order.id } })).toBe(1);
      } finally {
        await after.close();
      }
    },
  );

  test('a process that has lost its lease of the key does not overwrite the result of the process that took the lease', async () => {
    const request = {
      merchantId,
      key: randomUUID(),
      route: 'POST /v1/payments',
      requestHash: 'x',
      fields: {},
    };
    const at = Date.now();
    const slow = await claimKey(api.db, request, new Date(at));
    const next = await claimKey(api.db, request, new Date(at + 60_000));
    if (slow.kind !== 'ours' || next.kind !== 'ours') throw new Error(`${slow.kind} ${next.kind}`);
    await keepResult(api.db, slow.lease, { status: 201, made: 'pay_slow' });
    await releaseKey(api.db, slow.lease);
    expect((await claimKey(api.db, request, new Date(at + 60_001))).kind).toBe('in_progress');
    await keepResult(api.db, next.lease, { status: 201, made: 'pay_next' });
    await releaseKey(api.db, next.lease);
    expect(await claimKey(api.db, request, new Date(at + 60_002))).toEqual({
      kind: 'done',
      result: { status: 201, made: 'pay_next' },
    });
  });

  test('exactly one of several waiting requests takes over the key from a process that died', async () => {
    const request = {
      merchantId,
      key: randomUUID(),
      route: 'POST /v1/payments',
      requestHash: 'x',
      fields: {},
    };
    const at = Date.now();
    await claimKey(api.db, request, new Date(at));
    const claims = await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        claimKey((i % 2 ? api : other).db, request, new Date(at + 60_000 + i)),
      ),
    );
    expect(claims.map(({ kind }) => kind).sort()).toEqual([...Array(7).fill('in_progress'), 'ours']);
  });
});
