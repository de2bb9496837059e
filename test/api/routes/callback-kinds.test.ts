import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { NOTICES_A_MINUTE } from '../../../src/api/routes/callbacks.ts';
import { callbackProof } from '../../../src/client-token.ts';
import { ChannelError, type VerifiedCallback } from '../../../src/domain/channel.ts';
import { matchCallbacks } from '../../../src/ledger/callbacks.ts';
import { removeOld } from '../../../src/ledger/cleanup.ts';
import { KEPT_AN_HOUR } from '../../../src/ledger/ignored.ts';
import { createApiKey, ensureMerchant } from '../../../src/ledger/merchants.ts';
import { recordAnswer, settlePayment } from '../../../src/ledger/payments.ts';
import { recordRefundCallback } from '../../../src/ledger/refund-answers.ts';
import { requestRefund } from '../../../src/ledger/refunds.ts';
import { takeNoticed } from '../../../src/ledger/sweep.ts';
import { SIGNING, signed, signingChannel } from '../../support/signing-channel.ts';
import {
  paidAnswer,
  pay,
  SECRET,
  settle,
  setUp,
  simulatorCallback,
  startTestApi,
  type TestApi,
  testChannels,
} from '../support.ts';

// What a callback can tell besides of a trade, over HTTP: each outcome is stored before it is acknowledged in the channel's
// own way, once however often and wherever it comes.

const signing = signingChannel();
/** What verifying throws, once. */
let trouble: Error | undefined;
const channels = new Map([
  ...testChannels(),
  [
    SIGNING,
    {
      ...signing,
      verifyCallback: async (...given: Parameters<typeof signing.verifyCallback>) => {
        const error = trouble;
        trouble = undefined;
        if (error !== undefined) throw error;
        return await signing.verifyCallback(...given);
      },
    },
  ],
]);
const { api, database } = await setUp({ channels });
let second: TestApi;
let key: string;
let accountId: string;
let other: string;
beforeAll(async () => {
  second = await startTestApi(database.url, { channels });
  const account = async (name: string) => {
    const { merchant } = await ensureMerchant(api.db, name, [SIGNING]);
    const { id } = await api.db.channelAccount.findFirstOrThrow({ where: { merchantId: merchant.id } });
    return { id, merchantId: merchant.id };
  };
  const own = await account('own');
  key = (await createApiKey(api.db, own.merchantId, 'operator')).key;
  accountId = own.id;
  other = (await account('other')).id;
});
afterAll(() => second.close());
beforeEach(() => {
  for (const { workflows } of [api, second]) {
    workflows.down = false;
    workflows.calls.length = 0;
  }
  api.refundWorkflows.calls.length = 0;
});

const newPayment = async () => {
  const made = await pay(api, key, { channel: SIGNING });
  api.workflows.calls.length = 0;
  return made;
};
const row = (id: string) => api.db.payment.findUniqueOrThrow({ where: { id } });
const give = async (id: string, reference = `tr_${randomUUID()}`) => {
  await api.db.payment.update({ where: { id }, data: { reference } });
  return reference;
};
const send = (callback: VerifiedCallback, to = `/callbacks/${SIGNING}/${accountId}`, by: TestApi = api) =>
  by.call(to, signed(callback));
const ofId = () => `n_${randomUUID()}`;
const ownAddress = (id: string, account = accountId) =>
  `/callbacks/${SIGNING}/${account}/${id}/${callbackProof(SECRET, account, id)}`;
const timeline = async (paymentId: string) =>
  (await api.db.timelineEntry.findMany({ where: { paymentId }, orderBy: { id: 'asc' } })).map(
    ({ detail }) => detail,
  );

describe('acknowledged as the channel wants it', () => {
  const to = () => `/callbacks/${SIGNING}/${accountId}`;

  test('stored, ignored and refused; a channel without a way of its own gets 200 and {}', async () => {
    const { id } = await newPayment();
    const about = { outTradeNo: id };
    const answers = [
      await send({ kind: 'trade', notificationId: ofId(), about, answer: paidAnswer() }),
      await send({ kind: 'ignored', notificationId: ofId(), reason: 'an event of the account' }),
      await api.call(to(), { raw: '{}', headers: { 'x-signature': 'wrong' } }),
    ];
    expect(answers.map(({ status, text }) => [status, text])).toEqual([
      [202, 'stored'],
      [202, 'ignored'],
      [200, 'fail'],
    ]);
    expect(answers.every(({ headers }) => headers.get('content-type')?.startsWith('text/plain'))).toBe(true);
    const usual = await api.call('/callbacks/simulator', simulatorCallback('pay_nobody'));
    expect([usual.status, usual.json]).toEqual([200, {}]);
  });
});

describe('trouble of our own', () => {
  const reference = `tr_${randomUUID()}`;
  const callback = {
    kind: 'trade',
    notificationId: ofId(),
    about: { reference },
    answer: paidAnswer(),
  } as const;

  test.each([
    new Error('a mistake'),
    // As libraries throw them of what they have asked.
    Object.assign(new Error('refused'), { status: 401 }),
    new ChannelError('unreachable', 'its keys cannot be read'),
  ])('while it is verified: 503, and the channel sends it again (%s)', async (error) => {
    trouble = error;
    const answer = await send(callback);
    expect([answer.status, answer.json.code]).toEqual([503, 'callback_not_stored']);
    expect(answer.headers.get('retry-after')).toBe('2');
    expect(answer.text).not.toContain(error.message);
    expect((await send(callback)).text).toBe('stored');
  });

  test('while it is stored: the same', async () => {
    const again = { ...callback, notificationId: ofId() };
    await api.db.$executeRaw`ALTER TABLE callbacks ADD CONSTRAINT no_callbacks CHECK (false) NOT VALID`;
    const answer = await send(again);
    await api.db.$executeRaw`ALTER TABLE callbacks DROP CONSTRAINT no_callbacks`;
    expect([answer.status, answer.json.code]).toEqual([503, 'callback_not_stored']);
    expect((await send(again)).text).toBe('stored');
  });
});

describe('ignored', () => {
  test('is acknowledged, and kept for a week', async () => {
    const notificationId = ofId();
    const callback = { kind: 'ignored', notificationId, reason: 'none of ours' } as const;
    const answers = await Promise.all([send(callback), send(callback, undefined, second), send(callback)]);
    expect(answers.map(({ text }) => text)).toEqual(['ignored', 'ignored', 'ignored']);
    const kept = () => api.db.ignoredCallback.findMany({ where: { notificationId } });
    expect(await kept()).toMatchObject([{ channelAccountId: accountId, reason: 'none of ours' }]);
    await removeOld(api.db, new Date(Date.now() + 6 * 86_400_000));
    expect(await kept()).toHaveLength(1);
    await removeOld(api.db, new Date(Date.now() + 8 * 86_400_000));
    expect(await kept()).toEqual([]);
    expect(await api.db.callbackCount.count()).toBe(0);
  });

  test('a flood fills no disk: all are acknowledged and counted, the first of an hour kept', async () => {
    const to = `/callbacks/${SIGNING}/${other}`;
    const count = KEPT_AN_HOUR + 20;
    const answers = await Promise.all(
      Array.from({ length: count }, (_, i) =>
        send({ kind: 'ignored', notificationId: `flood_${i}`, reason: 'x' }, to, i % 2 ? api : second),
      ),
    );
    expect(answers.every(({ status }) => status === 202)).toBe(true);
    const counts = await api.db.callbackCount.findMany({ where: { channelAccountId: other } });
    expect(counts.reduce((sum, counted) => sum + counted.count, 0)).toBe(count);
    const kept = await api.db.ignoredCallback.count({ where: { channelAccountId: other } });
    expect(kept).toBe(counts.reduce((sum, counted) => sum + Math.min(counted.count, KEPT_AN_HOUR), 0));
  });
});

describe('by the channel’s own id', () => {
  test('the trade is paid, of this account alone', async () => {
    const { id } = await newPayment();
    const reference = await give(id);
    const about = { reference };
    const callback = { kind: 'trade', notificationId: ofId(), about, answer: paidAnswer() } as const;
    expect((await send(callback, `/callbacks/${SIGNING}/${other}`)).status).toBe(202);
    expect((await row(id)).channelAnswer).toBeNull();
    expect((await send(callback)).status).toBe(202);
    expect((await settlePayment(api.db, id, new Date())).snapshot.orderUpdate).toBe('applied');
  });

  test('before the create’s answer: kept, and matched by the next sweep once the reference is stored', async () => {
    const { id } = await newPayment();
    const reference = `tr_${randomUUID()}`;
    const about = { reference };
    const callback = { kind: 'trade', notificationId: ofId(), about, answer: paidAnswer() } as const;
    expect((await send(callback)).text).toBe('stored');
    const stored = () => api.db.callback.findFirstOrThrow({ where: { reference } });
    expect(await stored()).toMatchObject({ paymentId: null, kind: 'trade', outTradeNo: '' });
    const listed = await api.call('/v1/callbacks?unmatched=true', { key });
    expect(listed.json.data[0]).toMatchObject({ kind: 'trade', outTradeNo: '', reference, state: 'paid' });
    // It has been tried for an hour in vain, and would be tried in another.
    const later = new Date(Date.now() + 3_600_000);
    await matchCallbacks(api.db, later);
    const next = new Date(later.getTime() + 60_000);
    expect((await stored()).nextSweepAt?.getTime()).toBeGreaterThan(next.getTime());
    await give(id, reference);
    expect(await matchCallbacks(api.db, next)).toBe(1);
    expect(await stored()).toMatchObject({ paymentId: id });
    expect((await row(id)).channelAnswer).toMatchObject({ state: 'paid' });
  });
});

describe('by the channel’s id of what was paid alone', () => {
  const dispute = { id: 'dp_paid', amount: 1050, currency: 'CNY', state: 'open' } as const;
  const disputed = (channelPaymentId: string): VerifiedCallback => ({
    ...{ kind: 'dispute', notificationId: ofId(), dispute },
    about: { channelPaymentId },
  });
  const stored = (channelPaymentId: string) =>
    api.db.callback.findFirstOrThrow({ where: { channelPaymentId, channelAccountId: accountId } });

  test('a settled payment is found, of this account alone', async () => {
    const { id } = await newPayment();
    const channelPaymentId = `pi_${randomUUID()}`;
    await settle(api.db, id, { channelPaymentId });
    const callback = disputed(channelPaymentId);
    expect((await send(callback, `/callbacks/${SIGNING}/${other}`)).status).toBe(202);
    expect((await row(id)).attention).toBeNull();
    expect((await send(callback)).status).toBe(202);
    expect((await row(id)).attention).toBe('disputed');
    // News of two payments under one notification id are two callbacks.
    await send({ ...callback, about: { channelPaymentId: `pi_${randomUUID()}` } } as VerifiedCallback);
    const { notificationId } = callback;
    expect(await api.db.callback.count({ where: { notificationId, channelAccountId: accountId } })).toBe(2);
  });

  test('before the payment is settled: kept, and matched by the next sweep after that', async () => {
    const { id } = await newPayment();
    const channelPaymentId = `pi_${randomUUID()}`;
    await send({
      ...{ kind: 'refund', notificationId: ofId(), about: { channelPaymentId } },
      refund: {
        channelRefundId: 're_1',
        answer: { state: 'succeeded', channelRefundId: 're_1', amount: 50 },
      },
    });
    expect(await stored(channelPaymentId)).toMatchObject({
      paymentId: null,
      outTradeNo: '',
      reference: null,
    });
    const listed = await api.call('/v1/callbacks?unmatched=true', { key });
    expect(listed.json.data[0]).toMatchObject({ kind: 'refund', channelPaymentId, state: 'succeeded' });
    // It has been tried for an hour in vain, and would be tried in another.
    const later = new Date(Date.now() + 3_600_000);
    await matchCallbacks(api.db, later);
    const next = new Date(later.getTime() + 60_000);
    expect((await stored(channelPaymentId)).nextSweepAt?.getTime()).toBeGreaterThan(next.getTime());
    await settle(api.db, id, { channelPaymentId });
    expect(await matchCallbacks(api.db, next)).toBe(1);
    expect(await stored(channelPaymentId)).toMatchObject({ paymentId: id });
  });

  test('of two payments it is neither’s', async () => {
    const channelPaymentId = `pi_${randomUUID()}`;
    for (const { id } of [await newPayment(), await newPayment()])
      await settle(api.db, id, { channelPaymentId });
    await send(disputed(channelPaymentId));
    expect(await stored(channelPaymentId)).toMatchObject({ paymentId: null });
    await matchCallbacks(api.db, new Date());
    expect(await stored(channelPaymentId)).toMatchObject({ paymentId: null });
  });
});

describe('a notice', () => {
  const notice = (id: string): VerifiedCallback => ({
    kind: 'notice',
    notificationId: ofId(),
    about: { outTradeNo: id },
  });
  const noticed = () => [...api.workflows.named('notice'), ...second.workflows.named('notice')];

  test('is on record before it is acknowledged, and has the channel asked', async () => {
    const { id } = await newPayment();
    expect((await send(notice(id))).text).toBe('stored');
    expect(noticed().map(({ paymentId }) => paymentId)).toEqual([id]);
    expect((await row(id)).noticedAt).not.toBeNull();
  });

  test('within 10 s of another, on two processes: one query at once, the sweep has the other made', async () => {
    const { id } = await newPayment();
    const answers = await Promise.all([
      send(notice(id)),
      send(notice(id), undefined, second),
      send(notice(id)),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([202, 202, 202]);
    expect(noticed()).toHaveLength(1);
    // Each payment is taken once, whoever sweeps.
    const at = new Date(Date.now() + 20_000);
    const taken = await Promise.all([takeNoticed(api.db, at), takeNoticed(second.db, at)]);
    expect(taken.flat().filter((payment) => payment.id === id)).toHaveLength(1);
  });

  test('while Temporal is down it waits for the sweep, until the channel has answered a query from after it', async () => {
    const { id } = await newPayment();
    api.workflows.down = true;
    expect((await send(notice(id))).status).toBe(202);
    const before = await row(id);
    const minute = (n: number) => new Date(Date.now() + n * 60_000);
    const isTaken = async (at: Date) => (await takeNoticed(api.db, at)).some((payment) => payment.id === id);
    expect(await isTaken(minute(1))).toBe(true);
    // Another one comes while the channel is being asked: its answer may be from before that.
    await send(notice(id));
    await recordAnswer(api.db, id, { state: 'unpaid' }, 'query', minute(1), before.noticedAt);
    const again = await row(id);
    expect(again.noticedAt).not.toBeNull();
    expect(await isTaken(minute(2))).toBe(true);
    await recordAnswer(api.db, id, { state: 'unpaid' }, 'query', minute(2), again.noticedAt);
    expect((await row(id)).noticedAt).toBeNull();
    expect(await isTaken(minute(60))).toBe(false);
  });

  test('the channel stays silent: the sweep asks ever less often, and never stops', async () => {
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

  test('that proves nothing makes a few queries in the payment’s life; then it is only kept for a person', async () => {
    const { id } = await newPayment();
    await api.db.payment.update({ where: { id }, data: { unverifiedQueries: 19 } });
    expect((await send(notice(id))).text).toBe('stored');
    await api.db.payment.update({ where: { id }, data: { noticedAt: null, lastQueryDueAt: null } });
    expect((await send(notice(id))).text).toBe('ignored');
    expect(await row(id)).toMatchObject({ noticedAt: null, unverifiedQueries: 20 });
  });

  test('that its channel has signed counts in full, however often, and whatever strangers have sent', async () => {
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
    expect(await timeline(id)).toContain('The channel has news, signed: it is asked.');
  });

  test('of a trade that is not known yet is kept for 72 h, so many an hour; beyond that it is not acknowledged', async () => {
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
    // Signed, it would come again for days.
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

describe('at the payment’s own address', () => {
  const forged = { raw: '{"forged":true}', headers: { 'x-signature': 'wrong' } };

  test('a usual callback is stored as anywhere', async () => {
    const { id } = await newPayment();
    const about = { outTradeNo: id };
    await send({ kind: 'trade', notificationId: ofId(), about, answer: paidAnswer() }, ownAddress(id));
    expect((await settlePayment(api.db, id, new Date())).snapshot.orderUpdate).toBe('applied');
  });

  test.each(['paying', 'closed', 'succeeded'])(
    'what cannot be verified is a notice, of a payment that is %s too',
    async (status) => {
      const { id } = await newPayment();
      if (status === 'closed')
        await api.db.payment.update({ where: { id }, data: { status, endedAt: new Date() } });
      if (status === 'succeeded') await settle(api.db, id);
      await api.db.payment.update({ where: { id }, data: { unverifiedQueries: 20 } });
      const answer = await api.call(ownAddress(id), forged);
      expect([answer.status, answer.text]).toEqual([202, 'stored']);
      expect(api.workflows.calls).toEqual([{ name: 'notice', paymentId: id, args: [2000] }]);
      const { noticedAt, unverifiedQueries } = await row(id);
      expect([noticedAt === null, unverifiedQueries]).toEqual([false, 20]);
      expect(await timeline(id)).toContain(
        "The channel has news, sent to the payment's own address: it is asked.",
      );
    },
  );

  test('so is signed nonsense, and an unsigned notice that names nothing that is known', async () => {
    const { id } = await newPayment();
    const nonsense = signed({ kind: 'nonsense' } as unknown as VerifiedCallback);
    expect((await api.call(ownAddress(id), nonsense)).text).toBe('stored');
    await api.db.payment.update({ where: { id }, data: { noticedAt: null } });
    const about = { reference: 'not_known_yet' };
    await send({ kind: 'notice', notificationId: ofId(), about }, ownAddress(id));
    expect((await row(id)).noticedAt).not.toBeNull();
    expect(await api.db.callback.count({ where: about })).toBe(0);
  });

  test('with a wrong proof it is a callback like any other', async () => {
    const [{ id }, { id: otherId }] = [await newPayment(), await newPayment()];
    const proof = callbackProof(SECRET, accountId, id);
    for (const wrong of [
      `${accountId}/${id}/wrong`,
      `${accountId}/${id}/${proof.slice(1)}`,
      `${accountId}/${otherId}/${proof}`,
      `${other}/${id}/${proof}`,
    ]) {
      const answer = await api.call(`/callbacks/${SIGNING}/${wrong}`, forged);
      expect([answer.status, answer.text]).toEqual([200, 'fail']);
    }
    expect(api.workflows.calls).toEqual([]);
    expect((await row(id)).noticedAt).toBeNull();
    const about = { outTradeNo: id };
    const signedOne = { kind: 'trade', notificationId: ofId(), about, answer: paidAnswer() } as const;
    await send(signedOne, `/callbacks/${SIGNING}/${accountId}/${id}/wrong`);
    expect((await row(id)).channelAnswer).toMatchObject({ state: 'paid' });
  });

  test('its rate is its bound: beyond it nothing is acknowledged, and what is signed is taken all the same', async () => {
    const { id } = await newPayment();
    const answers = await Promise.all(
      Array.from({ length: NOTICES_A_MINUTE + 5 }, () => second.call(ownAddress(id), forged)),
    );
    const statuses = answers.map(({ status }) => status);
    expect(statuses).toContain(202);
    // A minute may have begun meanwhile.
    if (!statuses.includes(429)) expect(statuses.every((status) => status === 202)).toBe(true);
    const more = await Promise.all(
      Array.from({ length: NOTICES_A_MINUTE + 5 }, () => second.call(ownAddress(id), forged)),
    );
    expect([...answers, ...more].map(({ status }) => status)).toContain(429);
    const about = { outTradeNo: id };
    const signedOne = { kind: 'trade', notificationId: ofId(), about, answer: paidAnswer() } as const;
    expect((await send(signedOne, ownAddress(id), second)).status).toBe(202);
  });

  test('the proof is in no log', async () => {
    const { id } = await newPayment();
    await api.call(ownAddress(id), forged);
    expect(api.logged()).toContain(id);
    expect(api.logged()).not.toContain(callbackProof(SECRET, accountId, id));
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

  test.each(['ours', "the channel's"])('of ours, by %s number: its workflow is told, once', async (whose) => {
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
  });

  test('of nobody here: the trade is asked about, of a settled payment too', async () => {
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
  const told = (id: string, changes: object = {}): VerifiedCallback => ({
    kind: 'dispute',
    notificationId: ofId(),
    about: { outTradeNo: id },
    dispute: { ...dispute, respondBy: '2026-12-24T00:00:00Z', ...changes },
  });

  test('is shown with its amount and deadline, once, from two processes at once', async () => {
    const { id } = await newPayment();
    await settle(api.db, id);
    const callback = told(id);
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
    'of a payment that is %s: shown, and the channel is asked',
    async (status) => {
      const { id } = await newPayment();
      if (status === 'closed')
        await api.db.payment.update({ where: { id }, data: { status, endedAt: new Date() } });
      expect((await send(told(id))).status).toBe(202);
      expect(await row(id)).toMatchObject({ attention: 'disputed', status });
      expect(api.workflows.named('notice')).toHaveLength(1);
    },
  );

  test('before its payment, and while Temporal is down: nothing of it is lost', async () => {
    const { id } = await newPayment();
    await settle(api.db, id);
    const reference = `tr_${randomUUID()}`;
    api.workflows.down = true;
    const callback = { ...told(id), about: { reference } } as VerifiedCallback;
    await send(callback);
    await give(id, reference);
    expect(await matchCallbacks(api.db, new Date())).toBe(1);
    api.workflows.down = false;
    // What the sweep does of a callback that is stored, its repetition does.
    await send(callback);
    expect(await row(id)).toMatchObject({ attention: 'disputed' });
  });

  test('no refund can be asked for while it is open, also once a person has seen it', async () => {
    const { id } = await newPayment();
    await settle(api.db, id);
    await send(told(id));
    await api.call(`/v1/payments/${id}/resolve`, { key, body: { action: 'dismiss', note: 'seen' } });
    expect((await row(id)).attention).toBeNull();
    const ask = () =>
      api.call(`/v1/payments/${id}/refunds`, {
        key,
        body: { amount: 50 },
        headers: { 'idempotency-key': randomUUID() },
      });
    expect((await ask()).json.code).toBe('not_refundable');
    // The repetition shows it no second time; its end ends it.
    await send(told(id));
    expect((await row(id)).attention).toBeNull();
    await send(told(id, { state: 'won' }));
    expect((await ask()).status).toBe(201);
  });
});
