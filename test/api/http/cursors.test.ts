import { expect, test } from 'vitest';
import { recordAnswer, settlePayment } from '../../../src/ledger/payments.ts';
import { newKey, newOrderId, pay, setUp, simulatorCallback } from '../support.ts';

// Tests that a cursor of one list is not valid in another list.

const { api } = await setUp();

test('a cursor is accepted only by the list that issued it', async () => {
  const { key, merchantId } = await newKey(api.db, 'operator');
  const [{ id }] = [await pay(api, key), await pay(api, key)];
  const answer = {
    state: 'paid',
    channelPaymentId: 'T1',
    amount: 1050,
    currency: 'CNY',
    paidAt: new Date().toISOString(),
  } as const;
  await recordAnswer(api.db, id, answer, 'query', new Date());
  await settlePayment(api.db, id, new Date());
  for (const idempotencyKey of [newOrderId(), newOrderId()]) {
    await api.call(`/v1/payments/${id}/refunds`, {
      key,
      body: { amount: 1 },
      headers: { 'idempotency-key': idempotencyKey },
    });
  }
  const account = await api.db.channelAccount.findFirstOrThrow({
    where: { merchantId, channel: 'simulator' },
  });
  for (const name of ['foreign_1', 'foreign_2'])
    await api.call(`/callbacks/simulator/${account.id}`, simulatorCallback(name));

  const lists = [
    '/v1/orders?',
    '/v1/payments?',
    '/v1/callbacks?unmatched=true&',
    `/v1/payments/${id}/refunds?`,
    `/v1/payments/${id}/timeline?`,
    `/v1/payments/${id}/deliveries?`,
    '/v1/deliveries?',
  ];
  const given = new Map<string, string>();
  for (const list of lists.slice(0, -2)) {
    const { json } = await api.call(`${list}limit=1`, { key });
    expect([list, json.nextCursor]).toEqual([list, expect.any(String)]);
    given.set(list, json.nextCursor);
  }
  given.set('/v1/events', (await api.call('/v1/events', { key })).json.nextCursor);
  for (const list of lists) {
    for (const [from, cursor] of given) {
      const { status, json } = await api.call(`${list}limit=1&cursor=${cursor}`, { key });
      expect([list, from, status, json.errors?.[0].path]).toEqual(
        list === from ? [list, from, 200, undefined] : [list, from, 422, 'cursor'],
      );
    }
  }
});
