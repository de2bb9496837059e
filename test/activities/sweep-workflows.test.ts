import { describe, expect, test, vi } from 'vitest';
import { newDeliveryId, newEventId } from '../../src/domain/ids.ts';
import {
  ago,
  attempts,
  clock,
  DAY,
  db,
  HOUR,
  MINUTE,
  merchantId,
  newPayments,
  payment,
  running,
  started,
  sweep,
  swept,
  temporal,
  told,
  woken,
} from './sweep-support.ts';

// Tests how the sweep repairs workflows that ended abnormally or are stuck. Uses a real database and a fake
// Temporal client.

describe('workflows that ended abnormally', () => {
  test('a workflow whose delivery is pending is restarted, and a workflow whose delivery is done is not restarted', async () => {
    const paid = {
      ...{ status: 'succeeded', channelPaymentId: 't', settledBy: 'query', settledAt: ago(HOUR) },
      ...{ paidAt: ago(HOUR), receivedAmount: 10n, receivedCurrency: 'CNY', channelAnsweredAt: ago(HOUR) },
    };
    const [untold = ''] = await newPayments(1, { ...paid, orderUpdate: 'pending' });
    const [told = ''] = await newPayments(1, { ...paid, orderUpdate: 'applied', orderUpdatedAt: ago(HOUR) });
    temporal.endedAbnormally = [untold, told].map((id) => `payment/${id}`);
    expect(await sweep.sweepAbnormalEnds()).toBe(1);
    expect(woken).toEqual([untold]);
    expect(await swept(untold)).toEqual([
      "The sweep found that the payment's workflow had ended abnormally, and restarted it.",
    ]);
  });

  test('the sweep finds a workflow that needs repair among thousands of workflows that have been repaired or have finished', async () => {
    const repaired = await newPayments(2_400, { nextSweepAt: new Date(clock.now + 4 * MINUTE) });
    const [lost = ''] = await newPayments(1, {});
    temporal.endedAbnormally = [...repaired, lost].map((id) => `payment/${id}`);
    expect(await sweep.sweepAbnormalEnds()).toBe(1);
    expect(woken).toEqual([lost]);
    expect(await swept(lost)).toHaveLength(1);
  });

  test('a sweep begins with the workflows that the previous sweep had no time for', async () => {
    const ids = await newPayments(5, {});
    temporal.endedAbnormally = ids.map((id) => `payment/${id}`);
    let time = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => time);
    temporal.onDescribe = () => {
      time += 15_000;
    };
    expect(await sweep.sweepAbnormalEnds()).toBe(3);
    clock.now += MINUTE;
    expect(await sweep.sweepAbnormalEnds()).toBe(2);
    expect([...woken].sort()).toEqual([...ids].sort());
  });

  test('a workflow is restarted if its late watch is incomplete, for example because the channel did not answer', async () => {
    const ended = { status: 'closed', endedAt: ago(3 * DAY), expiresAt: ago(3 * DAY) };
    const [silent = ''] = await newPayments(1, {
      ...{ ...ended, channelErrorSince: ago(2 * DAY), channelAnsweredAt: ago(3 * DAY) },
    });
    const [unasked = ''] = await newPayments(1, { ...ended, channelAnsweredAt: ago(2 * DAY + HOUR) });
    // The payer can still pay with the next action, because the payment has not expired.
    const [payable = ''] = await newPayments(1, {
      ...ended,
      expiresAt: ago(-DAY),
      channelAnsweredAt: ago(0),
    });
    const [over = ''] = await newPayments(1, { ...ended, channelAnsweredAt: ago(2 * DAY) });
    temporal.endedAbnormally = [silent, unasked, payable, over].map((id) => `payment/${id}`);
    expect(await sweep.sweepAbnormalEnds()).toBe(3);
    expect([...woken].sort()).toEqual([silent, unasked, payable].sort());
  });
});

describe('workflows that are stuck', () => {
  const settled = {
    ...{ status: 'succeeded', channelPaymentId: 't', settledBy: 'query', receivedAmount: 10n },
    receivedCurrency: 'CNY',
  };
  /** Creates a paid payment with an overdue delivery. */
  async function newOverdue(type: string, orderUpdate: string): Promise<{ id: string; delivery: string }> {
    const orderUpdatedAt = orderUpdate === 'pending' ? null : ago(0);
    const times = { settledAt: ago(MINUTE), paidAt: ago(MINUTE), orderUpdatedAt };
    const [id = ''] = await newPayments(1, { ...settled, ...times, orderUpdate });
    const eventId = newEventId();
    const event = { id: eventId, merchantId, paymentId: id, type, version: 1, data: {} };
    await db.event.create({ data: event });
    const delivery = newDeliveryId();
    const row = { id: delivery, eventId, merchantId, paymentId: id, createdAt: ago(3 * MINUTE) };
    await db.delivery.create({ data: row });
    return { id, delivery };
  }
  const stuck = (workflowId: string, attempt = 6) => {
    running.add(workflowId);
    attempts.set(workflowId, attempt);
  };
  const later = () => {
    clock.now += 6 * MINUTE;
  };

  test('if a payment is stuck and its delivery is overdue, an attention is raised, and the workflow of the delivery delivers the event', async () => {
    const { id, delivery } = await newOverdue('payment.succeeded', 'pending');
    stuck(`payment/${id}`, 5);
    await sweep.sweepDeliveries();
    expect([woken, told, (await payment(id)).attention]).toEqual([[id], [], null]);
    later();
    stuck(`payment/${id}`);
    await sweep.sweepDeliveries();
    expect([woken, told]).toEqual([[id], [delivery]]);
    expect(await payment(id)).toMatchObject({
      attention: 'workflow_stuck',
      attentionDetail: expect.stringContaining(`payment/${id}`),
    });
    // From now on, the sweep signals the workflow of the delivery instead of the workflow of the payment.
    later();
    await sweep.sweepDeliveries();
    expect([woken, told]).toEqual([[id], [delivery, delivery]]);
  });

  test("if a stuck workflow has a pending task, the sweep signals it only once about an event, because each signal resets the server's attempt count", async () => {
    const { id } = await newOverdue('payment.succeeded', 'pending');
    stuck(`payment/${id}`, 1);
    await sweep.sweepDeliveries();
    later();
    await sweep.sweepDeliveries();
    expect(woken).toEqual([id]);
  });

  test("if the workflow of a delivery or refund is stuck, the payment has the attention workflow_stuck until none of the payment's workflows is stuck", async () => {
    const { id, delivery } = await newOverdue('refund.succeeded', 'applied');
    const refund = { merchantId, paymentId: id, amount: 1n, currency: 'CNY', reason: 'requested' };
    await db.refund.create({ data: { ...refund, id: 're_stuck', createdAt: ago(HOUR) } });
    stuck(`delivery/${delivery}`);
    stuck('refund/re_stuck');
    await sweep.sweepDeliveries();
    expect(await payment(id)).toMatchObject({
      attention: 'workflow_stuck',
      attentionDetail: expect.stringContaining(`delivery/${delivery}`),
    });
    attempts.delete(`delivery/${delivery}`);
    expect(await sweep.sweepStuck()).toBe(0);
    // A signal resets the attempt count. So a low count does not show that the workflow has recovered.
    stuck('refund/re_stuck', 1);
    expect(await sweep.sweepStuck()).toBe(0);
    attempts.delete('refund/re_stuck');
    expect(await sweep.sweepStuck()).toBe(1);
    expect(await payment(id)).toMatchObject({ attention: null });

    stuck('refund/re_stuck');
    expect(await sweep.sweepRefunds()).toBe(0);
    expect(started).toEqual([]);
    expect(await payment(id)).toMatchObject({
      attention: 'workflow_stuck',
      attentionDetail: expect.stringContaining('refund/re_stuck'),
    });
  });

  test("after the sweep has settled a payment, it signals the payment's workflow once, and then checks that workflow until its state is known", async () => {
    const money = { state: 'paid', channelPaymentId: 't', amount: 10, currency: 'CNY', by: 'callback' };
    const [stays = '', ends = ''] = await newPayments(2, {
      channelAnswer: { ...money, paidAt: ago(0).toISOString() },
      ...{ channelAnsweredAt: ago(2 * MINUTE), cancelRequestedAt: ago(2 * MINUTE) },
    });
    for (const id of [stays, ends]) stuck(`payment/${id}`, 1);
    expect(await sweep.sweepPayments()).toBe(2);
    later();
    expect(await sweep.sweepPayments()).toBe(0);
    expect([...woken].sort()).toEqual([stays, ends].sort());
    expect(await payment(stays)).toMatchObject({ status: 'succeeded', attention: null });

    stuck(`payment/${stays}`);
    running.delete(`payment/${ends}`);
    later();
    expect(await sweep.sweepPayments()).toBe(0);
    expect(await payment(stays)).toMatchObject({ status: 'succeeded', attention: 'workflow_stuck' });
    expect(await payment(ends)).toMatchObject({ attention: null, workflowBusySince: null });
    expect(await swept(ends)).toEqual(['The sweep settled the money on record.']);

    attempts.delete(`payment/${stays}`);
    later();
    await sweep.sweepPayments();
    expect(await payment(stays)).toMatchObject({ workflowBusySince: null });
    expect(woken).toHaveLength(2);
  });

  test('if an operator dismisses workflow_stuck, it is raised again only after the workflow has recovered and become stuck again', async () => {
    const [id = ''] = await newPayments(1, { expiresAt: ago(HOUR) });
    stuck(`payment/${id}`);
    const sweeps = async () => {
      later();
      await sweep.sweepPayments();
      return (await payment(id)).attention;
    };
    const hide = { attention: null, attentionSince: null, attentionDetail: null };
    expect(await sweeps()).toBe('workflow_stuck');
    await db.payment.update({ where: { id }, data: hide });
    expect(await sweeps()).toBe(null);
    await db.payment.update({
      where: { id },
      data: { attention: 'workflow_stuck', attentionSince: ago(0), attentionDetail: 'x' },
    });
    attempts.clear();
    expect(await sweep.sweepStuck()).toBe(1);
    stuck(`payment/${id}`);
    expect(await sweeps()).toBe('workflow_stuck');
  });

  test.each([
    ['channel_unreachable', 'workflow_stuck'],
    ['channel_undecided', 'channel_undecided'],
    ['disputed', 'disputed'],
    ['order_update_failing', 'order_update_failing'],
  ])(
    'if the workflow of a payment with the attention %s becomes stuck, the attention of the payment is then %s',
    async (before, after) => {
      const shown = { attention: before, attentionSince: ago(HOUR), attentionDetail: 'x' };
      const [id = ''] = await newPayments(1, { ...shown, expiresAt: ago(HOUR) });
      stuck(`payment/${id}`);
      await sweep.sweepPayments();
      expect((await payment(id)).attention).toBe(after);
    },
  );
});
