import { beforeEach, describe, expect, test } from 'vitest';
import { automaticRefundId } from '../../../src/domain/ids.ts';
import { recordAnswer } from '../../../src/ledger/payments.ts';
import { TemporalUnavailable } from '../../../src/temporal/payment-workflows.ts';
import { paidAnswer, pay, settle, setUp } from '../support.ts';

// Tests that nodrop stores an operator's decision before it signals any workflow, and then immediately signals all
// affected workflows.

const { api, key } = await setUp({ role: 'operator' });
beforeEach(() => {
  api.workflows.down = false;
  api.refundWorkflows.down = false;
  api.workflows.onAskChannel = async () => true;
  api.workflows.calls.length = 0;
  api.refundWorkflows.calls.length = 0;
});

/** Creates a payment that received 900 minor units and waits for a decision. */
async function inReview() {
  const made = await pay(api, key);
  await settle(api.db, made.id, { amount: 900 });
  return made;
}

const resolve = (id: string, action: string) =>
  api.call(`/v1/payments/${id}/resolve`, { key, body: { action, note: 'The payer called.' } });

describe("an operator's decision to refund", () => {
  test('stores the refund, and starts its workflow immediately', async () => {
    const { id } = await inReview();
    const answer = await resolve(id, 'refund');
    expect([answer.status, answer.json.orderUpdate]).toEqual([200, 'conflict']);
    const refundId = automaticRefundId(id);
    expect(await api.db.refund.findMany({ where: { paymentId: id } })).toMatchObject([
      { id: refundId, amount: 900n, status: 'created' },
    ]);
    expect(api.refundWorkflows.calls).toEqual([{ name: 'start', refundId }]);
  });

  test('is accepted even if Temporal is down, and the sweep starts the workflow of the stored refund later', async () => {
    const { id } = await inReview();
    api.refundWorkflows.down = true;
    expect((await resolve(id, 'refund')).status).toBe(200);
    expect(await api.db.refund.count({ where: { paymentId: id, status: 'created' } })).toBe(1);
    expect(api.logged()).toContain('a stored refund waits for the sweep');
  });
});

test.each(['\u202eseen', '\u2068', ' ', '\u3164'])(
  'a decision with an invalid note (%j) is refused and has no effect',
  async (note) => {
    const { id } = await inReview();
    const answer = await api.call(`/v1/payments/${id}/resolve`, { key, body: { action: 'refund', note } });
    expect([answer.status, answer.json.errors?.[0].path]).toEqual([422, 'note']);
    expect(await api.db.refund.count({ where: { paymentId: id } })).toBe(0);
  },
);

describe("an operator's decision to accept the money", () => {
  /**
   * Creates a payment whose money waits for a decision. Also creates another attempt at the same order, as if it had
   * been created before the money arrived.
   */
  async function withAnother() {
    const { id, orderId } = await inReview();
    const row = await api.db.payment.findUniqueOrThrow({ where: { id } });
    const other = await api.db.payment.create({
      data: {
        ...{ id: `pay_${id.slice(5, -1)}x`, merchantId: row.merchantId, orderId, channel: 'simulator2' },
        ...{ channelAccountId: row.channelAccountId, method: 'wallet', clientTokenHash: 'x' },
        ...{ amount: row.amount, currency: row.currency, expiresAt: row.expiresAt, status: 'paying' },
      },
    });
    api.workflows.calls.length = 0;
    return { id, orderId, other: other.id };
  }
  const cancelAskedFor = async (id: string) =>
    (await api.db.payment.findUniqueOrThrow({ where: { id } })).cancelRequestedAt !== null;

  test("marks the order as paid, and cancels the order's other attempts immediately", async () => {
    const { id, orderId, other } = await withAnother();
    const answer = await resolve(id, 'accept');
    expect([answer.status, answer.json.orderUpdate, answer.json.attention]).toEqual([200, 'applied', null]);
    expect((await api.call(`/v1/orders/${orderId}`, { key })).json).toMatchObject({
      status: 'succeeded',
      paidPaymentId: id,
    });
    expect(api.workflows.calls).toMatchObject([
      { name: 'askChannel', paymentId: id, args: [8000] },
      { name: 'cancel', paymentId: other, args: [2000] },
    ]);
    expect(await cancelAskedFor(other)).toBe(true);
    expect((await api.call(`/v1/payments/${other}/timeline`, { key })).text).toContain(`was paid by ${id}`);
  });

  test('is accepted even if Temporal fails before other attempts are cancelled, because their cancellation is recorded for the sweep', async () => {
    const { id, other } = await withAnother();
    api.workflows.onAskChannel = async () => {
      api.workflows.down = true;
      return true;
    };
    expect((await resolve(id, 'accept')).status).toBe(200);
    expect(await cancelAskedFor(other)).toBe(true);
  });

  test("causes an immediate refund of another attempt's money if that money also waits for a decision", async () => {
    const { id, orderId, other } = await withAnother();
    const data = {
      ...{ status: 'succeeded', orderUpdate: 'review', orderUpdatedAt: new Date(), settledBy: 'query' },
      ...{ settledAt: new Date(), paidAt: new Date(), channelPaymentId: 'trx2' },
      ...{ receivedAmount: 800n, receivedCurrency: 'CNY' },
      ...{ attention: 'amount_mismatch', attentionSince: new Date(), attentionDetail: 'x' },
    };
    await api.db.payment.update({ where: { id: other }, data });
    expect((await resolve(id, 'accept')).status).toBe(200);
    const { payments } = (await api.call(`/v1/orders/${orderId}`, { key })).json;
    const seen = (payments as { id: string }[]).find((each) => each.id === other);
    expect(seen).toMatchObject({
      ...{ orderUpdate: 'conflict', attention: 'order_conflict' },
      ...{ refundReason: 'duplicate_payment', refundStatus: 'created' },
    });
    expect(api.refundWorkflows.calls).toEqual([{ name: 'start', refundId: automaticRefundId(other) }]);
  });

  // nodrop does not watch for refunds while money waits for a decision. So it queries the channel before it accepts the
  // money.
  describe('after a query of the channel', () => {
    const undecided = { orderUpdate: 'review', attention: 'amount_mismatch' };

    test('accepts only the amount that is left if a part was refunded at the channel and no callback arrived', async () => {
      const { id } = await inReview();
      api.workflows.onAskChannel = async () => {
        await recordAnswer(api.db, id, paidAnswer({ amount: 900, refundedAmount: 400 }), 'query', new Date());
        return true;
      };
      expect((await resolve(id, 'accept')).json).toMatchObject({
        ...{ orderUpdate: 'applied', receivedAmount: 900, refundedAmount: 400 },
      });
      const { text } = await api.call(`/v1/payments/${id}/timeline`, { key });
      expect(text).toContain('an operator accepted CNY 5.00');
    });

    test('is refused with 409, and the order stays unpaid, if all of the money was refunded at the channel', async () => {
      const { id, orderId } = await inReview();
      api.workflows.onAskChannel = async () => {
        await recordAnswer(
          api.db,
          id,
          { ...paidAnswer({ amount: 900 }), state: 'refunded' },
          'query',
          new Date(),
        );
        return true;
      };
      const answer = await resolve(id, 'accept');
      expect([answer.status, answer.json.code]).toEqual([409, 'not_resolvable']);
      expect((await api.call(`/v1/orders/${orderId}`, { key })).json.status).toBe('unpaid');
    });

    test.each([
      ['without an answer', async () => false],
      ['slower than the timeout', async () => Promise.reject(new TemporalUnavailable('no answer in time'))],
    ])('is answered 504 and has no effect if the query is %s', async (_, onAskChannel) => {
      const { id } = await inReview();
      api.workflows.onAskChannel = onAskChannel;
      const answer = await resolve(id, 'accept');
      expect([answer.status, answer.json.code]).toEqual([504, 'channel_unreachable']);
      expect((await api.call(`/v1/payments/${id}`, { key })).json).toMatchObject(undecided);
    });

    test('is refused with 503 and has no effect if the channel cannot be queried because Temporal is down', async () => {
      const { id } = await inReview();
      api.workflows.down = true;
      const answer = await resolve(id, 'accept');
      expect([answer.status, answer.json.code]).toEqual([503, 'temporal_unavailable']);
      expect((await api.call(`/v1/payments/${id}`, { key })).json).toMatchObject(undecided);
    });
  });
});
