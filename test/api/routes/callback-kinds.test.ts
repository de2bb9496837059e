import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { NOTICES_A_MINUTE } from '../../../src/api/routes/callbacks.ts';
import { ChannelError, type VerifiedCallback } from '../../../src/domain/channel.ts';
import { matchCallbacks } from '../../../src/ledger/callbacks.ts';
import { recordAnswer } from '../../../src/ledger/payments.ts';
import { recordRefundCallback } from '../../../src/ledger/refund-answers.ts';
import { requestRefund } from '../../../src/ledger/refunds.ts';
import { removeOld } from '../../../src/ledger/retention.ts';
import { takeNoticed } from '../../../src/ledger/sweep.ts';
import { paidAnswer, settle } from '../support.ts';
import {
  accountId,
  api,
  failure,
  give,
  key,
  newPayment,
  ofId,
  row,
  second,
  send,
  timeline,
} from './callback-kinds-support.ts';

// Tests over HTTP what a callback can report besides a trade. nodrop stores each callback once, however often and at
// whichever URL it arrives. nodrop acknowledges the callback after storing it, in the channel's format.

describe('an internal error', () => {
  const reference = `tr_${randomUUID()}`;
  const callback = {
    kind: 'trade',
    notificationId: ofId(),
    about: { reference },
    answer: paidAnswer(),
  } as const;

  test.each([
    new Error('a bug'),
    // A library throws an error like this if the library's own request is refused.
    Object.assign(new Error('refused'), { status: 401 }),
    new ChannelError('unreachable', 'its keys cannot be read'),
  ])(
    'during verification is answered 503, and the channel therefore sends the callback again (%s)',
    async (error) => {
      failure.next = error;
      const answer = await send(callback);
      expect([answer.status, answer.json.code]).toEqual([503, 'callback_not_stored']);
      expect(answer.headers.get('retry-after')).toBe('2');
      expect(answer.text).not.toContain(error.message);
      expect((await send(callback)).text).toBe('stored');
    },
  );

  test('during storage is answered 503, and the channel therefore sends the callback again', async () => {
    const again = { ...callback, notificationId: ofId() };
    await api.db.$executeRaw`ALTER TABLE callbacks ADD CONSTRAINT no_callbacks CHECK (false) NOT VALID`;
    const answer = await send(again);
    await api.db.$executeRaw`ALTER TABLE callbacks DROP CONSTRAINT no_callbacks`;
    expect([answer.status, answer.json.code]).toEqual([503, 'callback_not_stored']);
    expect((await send(again)).text).toBe('stored');
  });
});

describe('a notice', () => {
  const notice = (id: string): VerifiedCallback => ({
    kind: 'notice',
    notificationId: ofId(),
    about: { outTradeNo: id },
  });
  const noticed = () => [...api.workflows.named('notice'), ...second.workflows.named('notice')];

  test('a notice is stored before it is acknowledged, and makes nodrop query the channel', async () => {
    const { id } = await newPayment();
    expect((await send(notice(id))).text).toBe('stored');
    expect(noticed().map(({ paymentId }) => paymentId)).toEqual([id]);
    expect((await row(id)).noticedAt).not.toBeNull();
  });

  test('several notices within 10 s cause one immediate query, and one later query by the sweep', async () => {
    const { id } = await newPayment();
    const answers = await Promise.all([
      send(notice(id)),
      send(notice(id), undefined, second),
      send(notice(id)),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([202, 202, 202]);
    expect(noticed()).toHaveLength(1);
    // Two sweeps run at the same time. Only one of them gets the payment.
    const at = new Date(Date.now() + 20_000);
    const taken = await Promise.all([takeNoticed(api.db, at), takeNoticed(second.db, at)]);
    expect(taken.flat().filter((payment) => payment.id === id)).toHaveLength(1);
  });

  test('remains pending for the sweep while Temporal is down, until the channel answers a query that started after the notice', async () => {
    const { id } = await newPayment();
    api.workflows.down = true;
    expect((await send(notice(id))).status).toBe(202);
    const before = await row(id);
    const minute = (n: number) => new Date(Date.now() + n * 60_000);
    const isTaken = async (at: Date) => (await takeNoticed(api.db, at)).some((payment) => payment.id === id);
    expect(await isTaken(minute(1))).toBe(true);
    // Another notice arrives while the query runs. The answer to the query may be older than this notice.
    await send(notice(id));
    await recordAnswer(api.db, id, { state: 'unpaid' }, 'query', minute(1), before.noticedAt);
    const again = await row(id);
    expect(again.noticedAt).not.toBeNull();
    expect(await isTaken(minute(2))).toBe(true);
    await recordAnswer(api.db, id, { state: 'unpaid' }, 'query', minute(2), again.noticedAt);
    expect((await row(id)).noticedAt).toBeNull();
    expect(await isTaken(minute(60))).toBe(false);
  });

  test('after a notice the sweep keeps querying a channel that does not answer, at growing intervals', async () => {
    const { id } = await newPayment();
    await send(notice(id));
    const from = Date.now();
    const asked: number[] = [];
    for (let minute = 1; minute <= 600; minute++) {
      const taken = await takeNoticed(api.db, new Date(from + minute * 60_000));
      if (taken.some((payment) => payment.id === id)) asked.push(minute);
    }
    expect(asked.slice(0, 6)).toEqual([1, 3, 7, 15, 31, 63]);
    expect(asked.at(-1)).toBeGreaterThan(540);
    expect(asked.length).toBeLessThan(20);
  });

  test('unsigned notices about a payment cause a limited number of queries, and further unsigned notices are ignored', async () => {
    const { id } = await newPayment();
    await api.db.payment.update({ where: { id }, data: { unverifiedQueries: 19 } });
    expect((await send(notice(id))).text).toBe('stored');
    await api.db.payment.update({ where: { id }, data: { noticedAt: null, lastQueryDueAt: null } });
    expect((await send(notice(id))).text).toBe('ignored');
    expect(await row(id)).toMatchObject({ noticedAt: null, unverifiedQueries: 20 });
  });

  test('a signed notice is never ignored, however many signed or unsigned notices arrive', async () => {
    const { id } = await newPayment();
    await api.db.payment.update({ where: { id }, data: { unverifiedQueries: 20 } });
    const answers = await Promise.all(
      Array.from({ length: NOTICES_A_MINUTE + 1 }, () =>
        send({ ...notice(id), isProven: true } as VerifiedCallback),
      ),
    );
    expect(new Set(answers.map(({ text }) => text))).toEqual(new Set(['stored']));
    const { noticedAt, unverifiedQueries } = await row(id);
    expect([noticedAt === null, unverifiedQueries]).toEqual([false, 20]);
    expect(await timeline(id)).toContain('The channel sent a signed notice: nodrop queries the channel.');
  });

  test('a notice about an unknown trade is matched later, and an unsigned notice beyond the limit per hour is not acknowledged', async () => {
    const { id } = await newPayment();
    const reference = `tr_${randomUUID()}`;
    await send({ kind: 'notice', notificationId: ofId(), about: { reference } });
    await give(id, reference);
    expect(await matchCallbacks(api.db, new Date())).toBe(1);
    const hour = new Date(Math.floor(Date.now() / 3_600_000) * 3_600_000);
    const of = { channelAccountId: accountId, kind: 'notice' };
    const data = [hour, new Date(hour.getTime() + 3_600_000)].map((at) => ({ ...of, hour: at, count: 100 }));
    await api.db.callbackCount.deleteMany({ where: of });
    await api.db.callbackCount.createMany({ data });
    const about = { reference: `tr_${randomUUID()}` };
    const refused = await send({ kind: 'notice', notificationId: ofId(), about });
    expect([refused.status, refused.json.code]).toEqual([429, 'too_many_requests']);
    // nodrop acknowledges the signed notice, because the channel would otherwise send it again for days.
    const notificationId = ofId();
    expect((await send({ kind: 'notice', notificationId, about, isProven: true })).text).toBe('ignored');
    expect(await api.db.ignoredCallback.count({ where: { notificationId } })).toBe(1);
    expect(await api.db.callback.count({ where: about })).toBe(0);
    await api.db.callbackCount.deleteMany({ where: of });
    expect((await send({ kind: 'notice', notificationId: ofId(), about })).status).toBe(202);
    await removeOld(api.db, new Date(Date.now() + 71 * 3_600_000));
    expect(await api.db.callback.count({ where: about })).toBe(1);
    await removeOld(api.db, new Date(Date.now() + 73 * 3_600_000));
    expect(await api.db.callback.count({ where: about })).toBe(0);
  });
});

describe('a refund', () => {
  const paid = async () => {
    const { id } = await newPayment();
    await settle(api.db, id);
    const asked = { amount: 50, note: undefined, idempotencyKey: randomUUID() };
    const { refund } = await requestRefund(api.db, id, asked, new Date());
    const data = { askedAt: new Date(), channelRefundId: `rf_${randomUUID()}` };
    await api.db.refund.update({ where: { id: refund.id }, data });
    return { id, refundId: refund.id, channelRefundId: data.channelRefundId };
  };
  const succeeded = (channelRefundId: string) =>
    ({ state: 'succeeded', channelRefundId, amount: 50 }) as const;

  test.each(['ours', "the channel's"])(
    "that nodrop requested is found by its number (%s), and the refund's workflow is signalled once",
    async (whose) => {
      const { id, refundId, channelRefundId } = await paid();
      const named = whose === 'ours' ? { outRefundNo: refundId } : { channelRefundId };
      const callback: VerifiedCallback = {
        kind: 'refund',
        notificationId: ofId(),
        about: { outTradeNo: id },
        refund: { ...named, answer: succeeded(channelRefundId) },
      };
      const answers = [await send(callback), await send(callback)];
      expect(answers.map(({ text }) => text)).toEqual(['stored', 'stored']);
      expect(api.refundWorkflows.calls).toEqual([{ name: 'deliverCallback', refundId }]);
      expect(api.workflows.calls).toEqual([]);
      const [stored] = await api.db.callback.findMany({ where: { paymentId: id, kind: 'refund' } });
      const after = await recordRefundCallback(api.db, refundId, stored?.id ?? '', new Date());
      expect(after.status).toBe('succeeded');
    },
  );

  test('a callback about a refund that nodrop did not request makes nodrop query the trade, even if the payment is settled', async () => {
    const { id } = await paid();
    await send({
      kind: 'refund',
      notificationId: ofId(),
      about: { outTradeNo: id },
      refund: { channelRefundId: 'made_elsewhere', answer: succeeded('made_elsewhere') },
    });
    expect(api.workflows.calls).toEqual([{ name: 'notice', paymentId: id, args: [2000] }]);
    expect((await row(id)).noticedAt).not.toBeNull();
  });
});

describe('a dispute', () => {
  const dispute = { id: 'dp_1', amount: 1050, currency: 'CNY', state: 'open', reason: 'fraud' } as const;
  const disputeOf = (id: string, changes: object = {}): VerifiedCallback => ({
    kind: 'dispute',
    notificationId: ofId(),
    about: { outTradeNo: id },
    dispute: { ...dispute, respondBy: '2026-12-24T00:00:00Z', ...changes },
  });

  test('a dispute that arrives on two processes at the same time is shown once, with its amount and deadline', async () => {
    const { id } = await newPayment();
    await settle(api.db, id);
    const callback = disputeOf(id);
    const answers = await Promise.all([send(callback), send(callback, undefined, second), send(callback)]);
    expect(answers.map(({ text }) => text)).toEqual(['stored', 'stored', 'stored']);
    const shown = (await api.call(`/v1/payments/${id}`, { key })).json;
    expect(shown).toMatchObject({
      attention: 'disputed',
      attentionDetail:
        'Dispute dp_1 of CNY 10.50 (fraud) is open: answer it at the channel before 2026-12-24T00:00:00Z.',
      disputes: [{ id: 'dp_1', state: 'open', respondBy: '2026-12-24T00:00:00Z', decidedAt: null }],
      refundedAmount: 0,
    });
    const noted = (await timeline(id)).filter((detail) => detail.startsWith('Dispute dp_1'));
    expect(noted).toHaveLength(1);
    expect((await api.call(`/v1/payments/${id}/timeline`, { key })).text).toContain('Dispute dp_1');
  });

  test.each(['paying', 'closed'])(
    'raises an attention and makes nodrop query the channel, even if the payment has the status %s',
    async (status) => {
      const { id } = await newPayment();
      if (status === 'closed')
        await api.db.payment.update({ where: { id }, data: { status, endedAt: new Date() } });
      expect((await send(disputeOf(id))).status).toBe(202);
      expect(await row(id)).toMatchObject({ attention: 'disputed', status });
      expect(api.workflows.named('notice')).toHaveLength(1);
    },
  );

  test('a dispute is not lost if it arrives while its payment is unknown or while Temporal is down', async () => {
    const { id } = await newPayment();
    await settle(api.db, id);
    const reference = `tr_${randomUUID()}`;
    api.workflows.down = true;
    const callback = { ...disputeOf(id), about: { reference } } as VerifiedCallback;
    await send(callback);
    await give(id, reference);
    expect(await matchCallbacks(api.db, new Date())).toBe(1);
    api.workflows.down = false;
    // The repeated callback raises the attention. For a stored callback, the sweep would raise it.
    await send(callback);
    expect(await row(id)).toMatchObject({ attention: 'disputed' });
  });

  test('blocks refunds while it is open, even after an operator has dismissed its attention', async () => {
    const { id } = await newPayment();
    await settle(api.db, id);
    await send(disputeOf(id));
    await api.call(`/v1/payments/${id}/resolve`, { key, body: { action: 'dismiss', note: 'seen' } });
    expect((await row(id)).attention).toBeNull();
    const ask = () =>
      api.call(`/v1/payments/${id}/refunds`, {
        key,
        body: { amount: 50 },
        headers: { 'idempotency-key': randomUUID() },
      });
    expect((await ask()).json.code).toBe('not_refundable');
    // A repeated callback does not raise the attention again. The end of the dispute clears the attention.
    await send(disputeOf(id));
    expect((await row(id)).attention).toBeNull();
    await send(disputeOf(id, { state: 'won' }));
    expect((await ask()).status).toBe(201);
  });
});
