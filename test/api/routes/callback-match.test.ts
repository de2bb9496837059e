import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { NOTICES_A_MINUTE } from '../../../src/api/routes/callbacks.ts';
import { callbackProof } from '../../../src/client-token.ts';
import type { VerifiedCallback } from '../../../src/domain/channel.ts';
import { matchCallbacks } from '../../../src/ledger/callbacks.ts';
import { KEPT_AN_HOUR } from '../../../src/ledger/ignored-callbacks.ts';
import { settlePayment } from '../../../src/ledger/payments.ts';
import { removeOld } from '../../../src/ledger/retention.ts';
import { SIGNING, signed } from '../../support/signing-channel.ts';
import { paidAnswer, SECRET, settle, simulatorCallback } from '../support.ts';
import {
  accountId,
  api,
  give,
  key,
  newPayment,
  ofId,
  other,
  row,
  second,
  send,
  timeline,
} from './callback-kinds-support.ts';

// Tests that nodrop finds the payment of a callback by the channel's own id or by the payment's own callback URL.
// nodrop acknowledges the callback in the channel's format.

const ownAddress = (id: string, account = accountId) =>
  `/callbacks/${SIGNING}/${account}/${id}/${callbackProof(SECRET, account, id)}`;

describe('the answer to a callback', () => {
  const to = () => `/callbacks/${SIGNING}/${accountId}`;

  test("has the channel's own format, or is 200 with {} if the channel does not define a format", async () => {
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

describe('an ignored callback', () => {
  test('an ignored callback is acknowledged, and its record is kept for a week', async () => {
    const notificationId = ofId();
    const callback = { kind: 'ignored', notificationId, reason: 'not about a payment' } as const;
    const answers = await Promise.all([send(callback), send(callback, undefined, second), send(callback)]);
    expect(answers.map(({ text }) => text)).toEqual(['ignored', 'ignored', 'ignored']);
    const kept = () => api.db.ignoredCallback.findMany({ where: { notificationId } });
    expect(await kept()).toMatchObject([{ channelAccountId: accountId, reason: 'not about a payment' }]);
    await removeOld(api.db, new Date(Date.now() + 6 * 86_400_000));
    expect(await kept()).toHaveLength(1);
    await removeOld(api.db, new Date(Date.now() + 8 * 86_400_000));
    expect(await kept()).toEqual([]);
    expect(await api.db.callbackCount.count()).toBe(0);
  });

  test('every ignored callback is acknowledged and counted, but only a limited number per hour is stored', async () => {
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

describe("a callback that names only the channel's own id of the trade", () => {
  test('is matched to a trade of its own account, but not to a trade of another account', async () => {
    const { id } = await newPayment();
    const reference = await give(id);
    const about = { reference };
    const callback = { kind: 'trade', notificationId: ofId(), about, answer: paidAnswer() } as const;
    expect((await send(callback, `/callbacks/${SIGNING}/${other}`)).status).toBe(202);
    expect((await row(id)).channelAnswer).toBeNull();
    expect((await send(callback)).status).toBe(202);
    expect((await settlePayment(api.db, id, new Date())).snapshot.orderUpdate).toBe('applied');
  });

  test('is stored if it arrives before the answer to the create call, and matched once the reference is known', async () => {
    const { id } = await newPayment();
    const reference = `tr_${randomUUID()}`;
    const about = { reference };
    const callback = { kind: 'trade', notificationId: ofId(), about, answer: paidAnswer() } as const;
    expect((await send(callback)).text).toBe('stored');
    const stored = () => api.db.callback.findFirstOrThrow({ where: { reference } });
    expect(await stored()).toMatchObject({ paymentId: null, kind: 'trade', outTradeNo: '' });
    const listed = await api.call('/v1/callbacks?unmatched=true', { key });
    expect(listed.json.data[0]).toMatchObject({ kind: 'trade', outTradeNo: '', reference, state: 'paid' });
    // The sweep has tried for an hour to match the callback. So it would wait for another hour before its next attempt.
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

describe("a callback that names only the channel's payment id", () => {
  const dispute = { id: 'dp_paid', amount: 1050, currency: 'CNY', state: 'open' } as const;
  const disputed = (channelPaymentId: string): VerifiedCallback => ({
    ...{ kind: 'dispute', notificationId: ofId(), dispute },
    about: { channelPaymentId },
  });
  const stored = (channelPaymentId: string) =>
    api.db.callback.findFirstOrThrow({ where: { channelPaymentId, channelAccountId: accountId } });

  test('is matched to a settled payment of its own account, but not to a payment of another account', async () => {
    const { id } = await newPayment();
    const channelPaymentId = `pi_${randomUUID()}`;
    await settle(api.db, id, { channelPaymentId });
    const callback = disputed(channelPaymentId);
    expect((await send(callback, `/callbacks/${SIGNING}/${other}`)).status).toBe(202);
    expect((await row(id)).attention).toBeNull();
    expect((await send(callback)).status).toBe(202);
    expect((await row(id)).attention).toBe('disputed');
    // Callbacks about two payments are stored separately, even if they have the same notification id.
    await send({ ...callback, about: { channelPaymentId: `pi_${randomUUID()}` } } as VerifiedCallback);
    const { notificationId } = callback;
    expect(await api.db.callback.count({ where: { notificationId, channelAccountId: accountId } })).toBe(2);
  });

  test('is stored if it arrives before the payment is settled, and matched after the payment is settled', async () => {
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
    // The sweep has tried for an hour to match the callback. So it would wait for another hour before its next attempt.
    const later = new Date(Date.now() + 3_600_000);
    await matchCallbacks(api.db, later);
    const next = new Date(later.getTime() + 60_000);
    expect((await stored(channelPaymentId)).nextSweepAt?.getTime()).toBeGreaterThan(next.getTime());
    await settle(api.db, id, { channelPaymentId });
    expect(await matchCallbacks(api.db, next)).toBe(1);
    expect(await stored(channelPaymentId)).toMatchObject({ paymentId: id });
  });

  test('is matched to no payment if two payments have the same channel id', async () => {
    const channelPaymentId = `pi_${randomUUID()}`;
    for (const { id } of [await newPayment(), await newPayment()])
      await settle(api.db, id, { channelPaymentId });
    await send(disputed(channelPaymentId));
    expect(await stored(channelPaymentId)).toMatchObject({ paymentId: null });
    await matchCallbacks(api.db, new Date());
    expect(await stored(channelPaymentId)).toMatchObject({ paymentId: null });
  });
});

describe("a callback to the payment's own callback URL", () => {
  const forged = { raw: '{"forged":true}', headers: { 'x-signature': 'wrong' } };

  test('is stored like a callback to any other URL if it is verified', async () => {
    const { id } = await newPayment();
    const about = { outTradeNo: id };
    await send({ kind: 'trade', notificationId: ofId(), about, answer: paidAnswer() }, ownAddress(id));
    expect((await settlePayment(api.db, id, new Date())).snapshot.orderUpdate).toBe('applied');
  });

  test.each(['paying', 'closed', 'succeeded'])(
    'is treated as a notice if it cannot be verified, even if the payment has the status %s',
    async (status) => {
      const { id } = await newPayment();
      if (status === 'closed')
        await api.db.payment.update({ where: { id }, data: { status, endedAt: new Date() } });
      if (status === 'succeeded') await settle(api.db, id);
      await api.db.payment.update({ where: { id }, data: { unverifiedQueries: 20 } });
      const answer = await api.call(ownAddress(id), forged);
      expect([answer.status, answer.text]).toEqual([202, 'unreadable']);
      expect(api.workflows.calls).toEqual([{ name: 'notice', paymentId: id, args: [2000] }]);
      const { noticedAt, unverifiedQueries } = await row(id);
      expect([noticedAt === null, unverifiedQueries]).toEqual([false, 20]);
      expect(await timeline(id)).toContain(
        "The channel sent a notice to the payment's own URL: nodrop queries the channel.",
      );
    },
  );

  test('is treated as a notice about the payment if it is signed but malformed, or if it is a notice about an unknown trade', async () => {
    const { id } = await newPayment();
    const nonsense = signed({ kind: 'nonsense' } as unknown as VerifiedCallback);
    expect((await api.call(ownAddress(id), nonsense)).text).toBe('unreadable');
    await api.db.payment.update({ where: { id }, data: { noticedAt: null } });
    const about = { reference: 'not_known_yet' };
    await send({ kind: 'notice', notificationId: ofId(), about }, ownAddress(id));
    expect((await row(id)).noticedAt).not.toBeNull();
    expect(await api.db.callback.count({ where: about })).toBe(0);
  });

  test("is treated as a callback to the account's URL if the URL's proof is wrong", async () => {
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

  test("is accepted only if it is signed once the URL's rate limit is reached", async () => {
    const { id } = await newPayment();
    const answers = await Promise.all(
      Array.from({ length: NOTICES_A_MINUTE + 5 }, () => second.call(ownAddress(id), forged)),
    );
    const statuses = answers.map(({ status }) => status);
    expect(statuses).toContain(202);
    // If no answer is 429, a new minute began during the requests. Then every answer must be 202.
    if (!statuses.includes(429)) expect(statuses.every((status) => status === 202)).toBe(true);
    const more = await Promise.all(
      Array.from({ length: NOTICES_A_MINUTE + 5 }, () => second.call(ownAddress(id), forged)),
    );
    expect([...answers, ...more].map(({ status }) => status)).toContain(429);
    const about = { outTradeNo: id };
    const signedOne = { kind: 'trade', notificationId: ofId(), about, answer: paidAnswer() } as const;
    expect((await send(signedOne, ownAddress(id), second)).status).toBe(202);
  });

  test("does not write the URL's proof to any log line", async () => {
    const { id } = await newPayment();
    await api.call(ownAddress(id), forged);
    expect(api.logged()).toContain(id);
    expect(api.logged()).not.toContain(callbackProof(SECRET, accountId, id));
  });
});
