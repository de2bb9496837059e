import { describe, expect, test } from 'vitest';
import { endPayment } from '../../../src/ledger/payments.ts';
import { ACCOUNT, tradeNamed } from '../../simulator/support.ts';
import { pay, simulatorCallback } from '../support.ts';

import { adopting, api, hooks, key, merchantId, own, post, rowsOf, trade, wallet } from './adopt-support.ts';

// Tests over HTTP what happens to a trade that was already paid or had ended when it was adopted, and what happens to a
// trade after its adoption.

describe('adopting a trade that has already been paid, refunded or closed', () => {
  test('records the money of a paid trade, and the payment is settled', async () => {
    const reference = await trade();
    await wallet.pay(reference);
    const answer = await post(adopting(reference));
    expect([answer.status, answer.json.status, answer.json.orderUpdate]).toEqual([
      201,
      'succeeded',
      'applied',
    ]);
    expect(answer.json).toMatchObject({ settledBy: 'query', receivedAmount: 1050, attention: null });
    const order = await api.call(`/v1/orders/${answer.json.orderId}`, { key });
    expect(order.json).toMatchObject({ status: 'succeeded', paidPaymentId: answer.json.id });
    const again = await post({ orderId: answer.json.orderId, channel: 'simulator', adopt: { reference } });
    expect([again.status, again.json.id]).toEqual([200, answer.json.id]);
  });

  test('does not pay the order if the trade was refunded in full', async () => {
    const reference = await trade();
    await wallet.pay(reference);
    const refund = { outRefundNo: 'elsewhere', channelRefundId: null, attempt: 1, amount: 1050 };
    await own.refundTrade(ACCOUNT, tradeNamed(reference), { ...refund, currency: 'CNY', total: 1050 });
    const answer = await post(adopting(reference));
    expect(answer.status).toBe(201);
    const { json } = answer;
    expect(json).toMatchObject({ status: 'succeeded', orderUpdate: 'conflict', refundedAmount: 1050 });
    expect(json).toMatchObject({ attention: null, refundReason: null });
    expect((await api.call(`/v1/orders/${json.orderId}`, { key })).json.status).toBe('unpaid');
  });

  test('gives the payment the status that matches the trade if the trade is closed, declined or still processing', async () => {
    const [closed, declined, deciding] = [await trade(), await trade(), await trade()];
    await own.closeTrade(ACCOUNT, tradeNamed(closed));
    await wallet.pay(declined, 'declined');
    await wallet.pay(deciding, 'processing');
    const statuses = [];
    for (const reference of [closed, declined, deciding])
      statuses.push((await post(adopting(reference))).json.status);
    expect(statuses).toEqual(['closed', 'failed', 'paying']);
    expect((await rowsOf(deciding))[0]?.channelState).toBe('processing');
    // nodrop also watches trades that have ended, because money may still arrive.
    expect(api.workflows.named('wake')).toHaveLength(3);
  });

  test('starts the delivery of the event immediately if the trade is closed and the merchant has an order service', async () => {
    const reference = await trade();
    await own.closeTrade(ACCOUNT, tradeNamed(reference));
    const setOrderService = (orderServiceUrl: string | null) =>
      api.db.merchant.update({ where: { id: merchantId }, data: { orderServiceUrl } });
    await setOrderService('https://shop.example/events');
    try {
      const { json } = await post(adopting(reference));
      expect(json.status).toBe('closed');
      const [delivery] = await api.db.delivery.findMany({ where: { paymentId: json.id } });
      expect(api.deliveryWorkflows.calls).toEqual([{ name: 'start', deliveryId: delivery?.id }]);
    } finally {
      await setOrderService(null);
    }
  });
});

describe('an adopted payment', () => {
  test('while the payment is live, its payer cannot switch to another channel, because nodrop cannot close the trade', async () => {
    const { json } = await post(adopting(await trade()));
    const row = await api.db.payment.findUniqueOrThrow({ where: { id: json.id } });
    const token = json.clientToken;
    const seen = await api.call(`/v1/payments/${row.id}`, { key: token });
    expect(seen.json).toMatchObject({ status: 'paying', orderState: 'undecided', switchTo: [] });
    const body = { channel: 'simulator', method: 'wallet' };
    const refused = await api.call(`/v1/payments/${row.id}/switch`, { key: token, body });
    expect([refused.status, refused.json.code]).toEqual([409, 'attempt_unresolved']);
    expect(await api.db.payment.count({ where: { orderId: row.orderId } })).toBe(1);
  });

  test('a repeated adoption of a payment that has ended settles money that arrived after the end', async () => {
    const reference = await trade();
    const body = adopting(reference);
    const { json } = await post(body);
    await endPayment(api.db, json.id, 'closed', 'its time is over.', new Date());
    const open = await post(body);
    expect([open.status, open.json.status]).toEqual([200, 'closed']);
    await wallet.pay(reference);
    const paid = await post(body);
    expect([paid.status, paid.json.status, paid.json.orderUpdate]).toEqual([200, 'succeeded', 'applied']);
  });

  test("a callback to the account's URL finds the adopted payment if it contains the trade's own number", async () => {
    const reference = await trade();
    const { json } = await post(adopting(reference));
    const { id: accountId } = await api.db.channelAccount.findFirstOrThrow({
      where: { merchantId, channel: 'simulator' },
    });
    const answer = await api.call(`/callbacks/simulator/${accountId}`, simulatorCallback(reference));
    expect(answer.status).toBe(200);
    expect(await api.db.callback.findFirst({ where: { outTradeNo: reference } })).toMatchObject({
      paymentId: json.id,
    });
    expect((await rowsOf(reference))[0]?.channelAnswer).toMatchObject({ state: 'paid', by: 'callback' });
  });

  test('a callback of an event that nodrop ignores is treated as a notice only if it names the trade of an adopted payment', async () => {
    const reference = await trade();
    const { json } = await post(adopting(reference));
    const { id: plain } = await pay(api, key);
    const { id: accountId } = await api.db.channelAccount.findFirstOrThrow({
      where: { merchantId, channel: 'simulator' },
    });
    // The adoption has set this time. nodrop would not schedule another query shortly after it, so the test clears the
    // time.
    await api.db.payment.update({ where: { id: json.id }, data: { lastQueryDueAt: null } });
    for (const [i, about] of [{ reference }, { reference: 'shop-else' }, { outTradeNo: plain }].entries()) {
      hooks.callback = {
        kind: 'ignored',
        notificationId: `foreign-${i}`,
        reason: 'no out-trade-no of nodrop',
        about,
      };
      expect((await api.call(`/callbacks/simulator/${accountId}`, simulatorCallback(plain))).status).toBe(
        200,
      );
    }
    expect(api.workflows.named('notice').map(({ paymentId }) => paymentId)).toEqual([json.id]);
    const ignored = await api.db.ignoredCallback.findMany({ where: { channelAccountId: accountId } });
    expect(ignored.map(({ notificationId }) => notificationId).sort()).toEqual(['foreign-1', 'foreign-2']);
  });

  test('a callback that arrived before the adoption is matched to the adopted payment', async () => {
    const reference = await trade();
    const { id: accountId } = await api.db.channelAccount.findFirstOrThrow({
      where: { merchantId, channel: 'simulator' },
    });
    await api.call(`/callbacks/simulator/${accountId}`, simulatorCallback(reference));
    const { json } = await post(adopting(reference));
    expect(await api.db.callback.findFirst({ where: { outTradeNo: reference } })).toMatchObject({
      paymentId: json.id,
    });
  });

  test('after an adoption, a request without `adopt` or with another trade creates another payment of the order', async () => {
    const [first, second] = [await trade(), await trade()];
    const { json } = await post(adopting(first));
    const other = await post({ orderId: json.orderId, channel: 'simulator', adopt: { reference: second } });
    expect(other.status).toBe(201);
    expect(other.json.id).not.toBe(json.id);
    const plain = await post({ orderId: json.orderId, channel: 'simulator' });
    expect([plain.status, plain.json.adopted]).toEqual([201, null]);
    expect([json.id, other.json.id]).not.toContain(plain.json.id);
  });
});
