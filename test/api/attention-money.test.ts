import { describe, expect, test } from 'vitest';
import { ChannelError } from '../../src/domain/channel.ts';
import { automaticRefundId } from '../../src/domain/ids.ts';
import { endPayment, recordAnswer } from '../../src/ledger/payments.ts';
import { recordRefundAnswer, recordRefundSilence } from '../../src/ledger/refund-answers.ts';
import {
  api,
  at,
  expectOver,
  expectShown,
  get,
  givenBack,
  key,
  merchantId,
  paid,
  SILENCE,
} from './attention-support.ts';
import { paidAnswer, pay } from './support.ts';

// Tests attentions about money that waits for a decision or is not refunded. Each attention is shown with a sentence
// and a time, and is cleared when the money is settled. The tests call the ledger as workflows and activities do.
// Other tests check that workflows and activities make these calls.

const resolve = (id: string, action: string) =>
  api.call(`/v1/payments/${id}/resolve`, { key, body: { action, note: 'Checked.' } });
async function refund(id: string, amount?: number) {
  const headers = { 'idempotency-key': `${id}-${Math.random()}` };
  return (await api.call(`/v1/payments/${id}/refunds`, { key, body: { amount }, headers })).json;
}
const refundsOf = async (paymentId: string) => {
  const rows = await api.db.refund.findMany({ where: { paymentId }, orderBy: { createdAt: 'asc' } });
  return rows.map(({ reason, status, amount }) => `${reason} ${status} ${amount}`);
};

describe('money that waits for a decision', () => {
  const mismatch = async () => {
    const { id } = await pay(api, key);
    await paid(id, 900, at(10));
    await expectShown(
      id,
      'amount_mismatch',
      at(10),
      'received CNY 9.00, but the payment was made for CNY 10.50',
    );
    return id as string;
  };
  const late = async () => {
    await api.db.merchant.update({ where: { id: merchantId }, data: { latePayment: 'review' } });
    const { id } = await pay(api, key);
    await endPayment(api.db, id, 'closed', 'unpaid.', at(0));
    await api.db.payment.update({ where: { id }, data: { expiresAt: at(-60) } });
    await paid(id, 1050, at(10));
    await expectShown(id, 'late_payment_review', at(10), 'the merchant wants to decide');
    return id as string;
  };

  test.each([
    ['amount_mismatch', mismatch],
    ['late_payment_review', late],
  ] as const)(
    '%s: the attention cannot be dismissed, and is cleared when an operator accepts the money',
    async (_, waiting) => {
      const id = await waiting();
      expect((await resolve(id, 'dismiss')).json.code).toBe('not_resolvable');
      expect((await resolve(id, 'accept')).json.orderUpdate).toBe('applied');
      await expectOver(id);
    },
  );

  test.each([
    ['amount_mismatch', mismatch],
    ['late_payment_review', late],
  ] as const)(
    '%s: if an operator refunds the money, the attention is cleared once the refund has succeeded',
    async (_, waiting) => {
      const id = await waiting();
      const { json } = await resolve(id, 'refund');
      expect(json).toMatchObject({
        attention: 'order_conflict',
        attentionDetail: 'An operator refunds the payment.',
      });
      await givenBack(automaticRefundId(id), at(20));
      await expectOver(id);
    },
  );

  test.each([
    ['amount_mismatch', mismatch],
    ['late_payment_review', late],
  ] as const)(
    '%s: if the channel refuses the refund, refund_failing is raised, and a later refund clears it',
    async (_, waiting) => {
      const id = await waiting();
      await resolve(id, 'refund');
      const refused = { state: 'failed', reason: 'account closed' } as const;
      await recordRefundAnswer(api.db, automaticRefundId(id), refused, at(20));
      await expectShown(id, 'refund_failing', at(20), 'account closed');
      const again = await refund(id);
      await givenBack(again.id, at(30));
      await expectOver(id);
    },
  );

  test.each([
    ['a merchant refunded it', false],
    ['the channel refunded it', true],
  ])(
    'if the overpaid part has been refunded (%s), an operator can accept or refund the remaining money',
    async (_, external) => {
      const overpaid = async () => {
        const { id } = await pay(api, key);
        await paid(id, 1200, at(10));
        if (external) {
          await recordAnswer(
            api.db,
            id,
            { ...paidAnswer({ amount: 1200 }), refundedAmount: 150 },
            'query',
            at(20),
          );
        } else {
          const { id: refundId } = await refund(id, 150);
          // While the refund is in progress, the amount that remains to be refunded is unknown.
          expect((await resolve(id, 'accept')).json.code).toBe('not_resolvable');
          expect((await resolve(id, 'refund')).json.code).toBe('not_resolvable');
          await givenBack(refundId, at(20));
        }
        await expectShown(
          id,
          'amount_mismatch',
          at(10),
          'received CNY 12.00, but the payment was made for CNY 10.50',
        );
        return id as string;
      };
      const accepted = await overpaid();
      expect((await resolve(accepted, 'accept')).json).toMatchObject({
        orderUpdate: 'applied',
        refundedAmount: 150,
      });
      await expectOver(accepted);
      const { text } = await api.call(`/v1/payments/${accepted}/timeline`, { key });
      expect(text).toContain('an operator accepted CNY 10.50');

      const returned = await overpaid();
      expect((await resolve(returned, 'refund')).json.orderUpdate).toBe('conflict');
      expect(await refundsOf(returned)).toContain('requested created 1050');
      await givenBack(automaticRefundId(returned), at(30));
      await expectOver(returned);
      expect((await get(returned)).refundedAmount).toBe(1200);
    },
  );

  test('if a merchant refunds all of the money, the attention is cleared', async () => {
    const id = await mismatch();
    const { id: refundId } = await refund(id);
    await givenBack(refundId, at(20));
    await expectOver(id);
    expect((await get(id)).orderUpdate).toBe('conflict');
  });
});

describe('the attention refund_failing', () => {
  async function twice() {
    const first = await pay(api, key);
    api.workflows.onAskChannel = async () => false;
    const { id } = await pay(api, key, { order: undefined, orderId: first.orderId, channel: 'simulator2' });
    await paid(first.id);
    await paid(id);
    return { id: id as string, refundId: automaticRefundId(id) };
  }

  test("is raised if the channel does not answer about a refund for an hour, and cleared by the channel's next answer", async () => {
    const { id } = await pay(api, key);
    await paid(id);
    const { id: refundId } = await refund(id, 500);
    await recordRefundSilence(api.db, refundId, SILENCE, at(100));
    await expectOver(id);
    await recordRefundSilence(api.db, refundId, SILENCE, at(3700));
    await expectShown(id, 'refund_failing', at(3700), `since ${at(100).toISOString()}`);
    await recordRefundSilence(api.db, refundId, SILENCE, at(9000));
    await expectShown(id, 'refund_failing', at(3700), `since ${at(100).toISOString()}`);
    await givenBack(refundId, at(9001));
    await expectOver(id);
  });

  test("is raised immediately, with the channel's reason, if a person must act on the refund, and cleared when the refund makes progress", async () => {
    const { id } = await pay(api, key);
    await paid(id);
    const { id: refundId } = await refund(id, 500);
    const answer = {
      state: 'needs_person',
      reason: 'The card is blocked.',
      channelRefundId: 'chr_1',
    } as const;
    await recordRefundAnswer(api.db, refundId, answer, at(100));
    await expectShown(id, 'refund_failing', at(100), 'The card is blocked.');
    await recordRefundAnswer(api.db, refundId, { state: 'processing' }, at(200));
    await expectOver(id);
  });

  test("is raised with the channel's reason if the channel's balance is too low for an hour, and cleared when the refund succeeds", async () => {
    const { id, refundId } = await twice();
    const refusal = new ChannelError('not_now', 'BALANCE_TOO_LOW: no money');
    for (const second of [100, 3600]) await recordRefundSilence(api.db, refundId, refusal, at(second));
    await expectShown(id, 'order_conflict', at(0), 'must be refunded');
    await recordRefundSilence(api.db, refundId, refusal, at(3700));
    await expectShown(id, 'refund_failing', at(3700), 'BALANCE_TOO_LOW: no money');
    await givenBack(refundId, at(3800));
    await expectOver(id);
  });

  test('if the channel first does not answer and then refuses the refund, the attention shows the refusal and keeps its original time', async () => {
    const { id, refundId } = await twice();
    await recordRefundSilence(api.db, refundId, SILENCE, at(100));
    await recordRefundSilence(api.db, refundId, SILENCE, at(3700));
    await expectShown(id, 'refund_failing', at(3700), 'nodrop keeps querying the channel');
    const refused = { state: 'failed', reason: 'account closed' } as const;
    await recordRefundAnswer(api.db, refundId, refused, at(4000));
    await expectShown(id, 'refund_failing', at(3700), 'account closed');
    const again = await refund(id);
    await givenBack(again.id, at(5000));
    await expectOver(id);
  });

  test('is not raised for a refund in process until a week has passed', async () => {
    const { id } = await pay(api, key);
    await paid(id);
    const { id: refundId } = await refund(id, 500);
    const { createdAt } = await api.db.refund.findUniqueOrThrow({ where: { id: refundId } });
    const later = (ms: number) => new Date(createdAt.getTime() + ms);
    const [HOUR, DAY] = [3_600_000, 86_400_000];
    const inProcess = (ms: number) =>
      recordRefundAnswer(api.db, refundId, { state: 'processing' }, later(ms));
    const silence = (ms: number) => recordRefundSilence(api.db, refundId, SILENCE, later(ms));
    for (const ms of [HOUR, 2 * DAY]) await inProcess(ms);
    // The attention is raised after one hour of silence, counted from the first time the channel did not answer. An
    // answer ends the silence.
    for (const ms of [2 * DAY + HOUR, 2 * DAY + 1.5 * HOUR]) await silence(ms);
    await expectOver(id);
    await silence(2 * DAY + 2 * HOUR);
    await expectShown(id, 'refund_failing', later(2 * DAY + 2 * HOUR), 'No definite answer');
    for (const ms of [3 * DAY, 7 * DAY - HOUR]) await inProcess(ms);
    await expectOver(id);
    await inProcess(7 * DAY);
    await expectShown(id, 'refund_failing', later(7 * DAY), 'still processing');
    await givenBack(refundId, later(8 * DAY));
    await expectOver(id);
  });

  test('is raised if the channel reports for an hour that it does not know the refund', async () => {
    const { id } = await pay(api, key);
    await paid(id);
    const { id: refundId } = await refund(id, 500);
    for (const seconds of [100, 3700])
      await recordRefundAnswer(api.db, refundId, { state: 'unknown_refund' }, at(seconds));
    await expectShown(id, 'refund_failing', at(3700), `since ${at(100).toISOString()}`);
  });

  test('is not raised if the channel refuses a requested refund, because the requester must act', async () => {
    const { id } = await pay(api, key);
    await paid(id);
    const { id: refundId } = await refund(id, 500);
    await recordRefundAnswer(api.db, refundId, { state: 'failed', reason: 'no' }, at(100));
    await expectOver(id);
  });

  const refusedOnce = async () => {
    const { id, refundId } = await twice();
    await recordRefundAnswer(api.db, refundId, refused('no funds'), at(100));
    await expectShown(id, 'refund_failing', at(100), 'no funds');
    return id;
  };
  const refused = (reason: string) => ({ state: 'failed', reason }) as const;

  test.each(['retry', 'refund'] as const)(
    'after a refusal, an operator can repeat the refund with the action %s',
    async (action) => {
      const id = await refusedOnce();
      expect((await resolve(id, 'accept')).status).toBe(409);
      // nodrop still holds the money, so the attention cannot be dismissed.
      expect((await resolve(id, 'dismiss')).json.code).toBe('not_resolvable');
      api.refundWorkflows.calls.length = 0;
      expect(await resolve(id, action)).toMatchObject({
        status: 200,
        json: { refundReason: 'duplicate_payment', refundStatus: 'created', attention: 'order_conflict' },
      });
      const second = automaticRefundId(id, 2);
      expect(await refundsOf(id)).toEqual([
        'duplicate_payment failed 1050',
        'duplicate_payment created 1050',
      ]);
      expect(api.refundWorkflows.calls).toEqual([{ name: 'start', refundId: second }]);
      await expectShown(id, 'order_conflict', at(100), 'is being refunded');
      expect((await resolve(id, 'refund')).status).toBe(409);
      expect((await resolve(id, 'dismiss')).status).toBe(409);
      expect((await resolve(id, 'retry')).status).toBe(200);
      expect(await refundsOf(id)).toHaveLength(2);
      // The channel refuses the second refund for another reason. The third refund succeeds.
      await recordRefundAnswer(api.db, second, refused('account closed'), at(200));
      await expectShown(id, 'refund_failing', at(200), 'account closed');
      expect((await resolve(id, action)).status).toBe(200);
      await givenBack(automaticRefundId(id, 3), at(300));
      await expectOver(id);
      expect(await get(id)).toMatchObject({ refundedAmount: 1050, refundStatus: 'succeeded' });
      expect((await resolve(id, 'refund')).status).toBe(409);
      expect((await resolve(id, 'dismiss')).status).toBe(200);
    },
  );

  test("if a merchant refunds a part after the channel has refused the full refund, an operator's retry refunds the amount that is left", async () => {
    const id = await refusedOnce();
    const { id: part } = await refund(id, 50);
    await givenBack(part, at(150));
    await expectShown(id, 'refund_failing', at(100), 'no funds');
    await resolve(id, 'retry');
    expect((await refundsOf(id)).at(-1)).toBe('duplicate_payment created 1000');
    await givenBack(automaticRefundId(id, 2), at(200));
    await expectOver(id);
  });

  test('an operator can dismiss the attention if the channel does not answer about the refund of a paid order', async () => {
    const { id } = await pay(api, key);
    await paid(id);
    const { id: refundId } = await refund(id, 500);
    await recordRefundSilence(api.db, refundId, SILENCE, at(100));
    await recordRefundSilence(api.db, refundId, SILENCE, at(3700));
    await expectShown(id, 'refund_failing', at(3700), 'No definite answer');
    expect((await resolve(id, 'dismiss')).status).toBe(200);
    await expectOver(id);
  });
});

describe('the attention refund_reversed', () => {
  test('is raised if a refund fails after it had succeeded, and cleared when all of the money is refunded again', async () => {
    const { id } = await pay(api, key);
    await paid(id);
    const { id: refundId } = await refund(id, 500);
    await givenBack(refundId, at(20));
    await expectOver(id);
    await recordRefundAnswer(api.db, refundId, { state: 'failed', reason: 'Account closed.' }, at(30));
    await expectShown(id, 'refund_reversed', at(30), 'Account closed.');
    expect(await get(id)).toMatchObject({ refundedAmount: 0, orderUpdate: 'applied' });
    const all = await refund(id);
    await givenBack(all.id, at(40));
    await expectOver(id);
  });
});
