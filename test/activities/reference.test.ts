import { beforeEach, describe, expect, test } from 'vitest';
import { declarationOf } from '../../src/channels/simulator/adapter.ts';
import { requireDecided } from '../../src/cli/recover-lost.ts';
import { ChannelError } from '../../src/domain/channel.ts';
import { Prisma } from '../../src/generated/prisma/client.ts';
import { recordAnswer, settlePayment } from '../../src/ledger/payments.ts';
import { requestRefund } from '../../src/ledger/refunds.ts';
import { CREATE_ATTEMPT_MS } from '../../src/workflows/activity-options.ts';
import { ReferenceChannel } from '../support/reference-channel.ts';
import { createSimulatorAdapter } from '../support/simulator-adapter.ts';
import { runActivities, useLedger } from './support.ts';

/**
 * A channel that is asked by its own id of a trade: when its create, whose answer may be lost, is repeated, when the trade is
 * looked for, and what a refusal says.
 */

const AT = Date.UTC(2026, 10, 27);
const HORIZON_MS = 24 * 3_600_000;
const LOST = new ChannelError('unreachable', 'no answer in time');
const REFUSED = new ChannelError('rejected', 'the number is used');
const PAID = { channelPaymentId: 'p', amount: 1000, currency: 'CNY', paidAt: new Date(AT).toISOString() };

const ledger = useLedger();
const rest = createSimulatorAdapter({
  name: 'simulator',
  baseUrl: 'http://127.0.0.1:9',
  secret: `whsec_${Buffer.alloc(32).toString('base64')}`,
});

let clock: number;
let channel: ReferenceChannel;
let act: ReturnType<typeof runActivities>;
beforeEach(() => {
  clock = AT;
  channel = new ReferenceChannel(declarationOf('simulator'), {
    repeatableForMs: { create: HORIZON_MS, refund: HORIZON_MS },
  });
  const channels = new Map([['simulator', channel.adapter(rest)]]);
  act = runActivities({ db: ledger.db, channels, clock: () => clock });
});

const row = (id: string) => ledger.db.payment.findUniqueOrThrow({ where: { id } });
const longLived = () => ledger.newPayment(AT, { expiresInMs: 3 * HORIZON_MS });

/** Its first create was accepted, or never came, and nobody knows. */
async function unknownCreate(isAccepted: boolean) {
  const payment = await longLived();
  if (isAccepted) channel.answerIsLost = LOST;
  else channel.failure = LOST;
  expect(await act.create(payment.id)).toHaveProperty('error');
  channel.answerIsLost = undefined;
  channel.failure = undefined;
  channel.calls.length = 0;
  expect(await row(payment.id)).toMatchObject({
    status: 'created',
    reference: null,
    createAskedAt: new Date(AT),
  });
  return payment;
}

test('the reference is stored with the action, and passed to every later call', async () => {
  const { id } = await longLived();
  await act.create(id);
  const reference = channel.of(id)?.id;
  expect(await row(id)).toMatchObject({
    status: 'paying',
    reference,
    referenceData: { kept: true },
    nextAction: { url: `https://wallet.example/${reference}` },
  });
  await act.ask(id);
  await act.close(id);
  expect(channel.calls).toEqual(['create', `query ${reference}`, `close ${reference}`]);
});

test('that a trade is asked for is on record before the request goes out', async () => {
  const { id } = await longLived();
  const seen: unknown[] = [];
  const adapter = channel.adapter(rest);
  const spied = {
    ...adapter,
    createTrade: async (...args: Parameters<typeof adapter.createTrade>) => {
      seen.push((await row(id)).createAskedAt);
      return await adapter.createTrade(...args);
    },
  };
  const { create } = runActivities({
    db: ledger.db,
    channels: new Map([['simulator', spied]]),
    clock: () => clock,
  });
  await create(id);
  expect(seen).toEqual([new Date(AT)]);
});

describe('a create whose answer is lost', () => {
  test('is repeated as the same request within the horizon', async () => {
    const { id } = await unknownCreate(true);
    clock = AT + HORIZON_MS - 120_000;
    await act.create(id);
    expect(channel.calls).toEqual(['create']);
    expect(channel.created[1]).toEqual(channel.created[0]);
    expect(channel.trades).toHaveLength(1);
    expect((await row(id)).reference).toBe(channel.of(id)?.id);
  });

  test('past the horizon it is looked for, and its trade renewed under the reference', async () => {
    const { id } = await unknownCreate(true);
    channel.keysAreForgotten = true;
    clock = AT + HORIZON_MS;
    await act.create(id);
    const reference = channel.of(id)?.id;
    expect(channel.calls).toEqual(['find', `create ${reference}`]);
    expect(channel.trades).toHaveLength(1);
    expect(await row(id)).toMatchObject({ status: 'paying', reference });
  });

  test('past the horizon, when it never came: it is not created any more, and ends as an unknown trade', async () => {
    const { id } = await unknownCreate(false);
    clock = AT + HORIZON_MS;
    expect(await act.create(id)).toMatchObject({ cancelRequested: true, noAction: true });
    await act.askBeforeEnd(id);
    expect(await act.close(id)).toMatchObject({ closed: 'unknown_trade' });
    // By the create and the query before the close, which needs no listing of its own.
    expect(channel.calls).toEqual(['find', 'find']);
    expect(await row(id)).toMatchObject({ status: 'closed', channelState: 'unknown_trade' });
  });

  test.each([
    ['a query', 'ask', 'query'],
    ['a close', 'close', 'close'],
  ] as const)('%s looks for it first, stores what it finds, and never creates', async (_, activity, call) => {
    const { id } = await unknownCreate(true);
    await act[activity](id);
    const reference = channel.of(id)?.id;
    expect(channel.calls).toEqual(['find', `${call} ${reference}`]);
    expect((await row(id)).reference).toBe(reference);
  });

  test('another payment’s trade is none of its own', async () => {
    const other = await longLived();
    await act.create(other.id);
    const { id } = await unknownCreate(false);
    channel.trades.push({ id: channel.of(other.id)?.id ?? '', outTradeNo: id, answer: { state: 'unpaid' } });
    expect(await act.ask(id)).toMatchObject({ answered: false });
    expect((await row(id)).reference).toBeNull();
  });
});

describe('a refund of a trade whose reference is not on record', () => {
  /** Paid by a callback that names our number; the create's answer was lost. */
  async function paidUnreferenced(isThere: boolean) {
    const { id } = await unknownCreate(isThere);
    const answer = { state: 'paid', ...PAID } as const;
    const trade = channel.of(id);
    if (trade !== undefined) trade.answer = answer;
    await recordAnswer(ledger.db, id, answer, 'callback', new Date(clock));
    await settlePayment(ledger.db, id, new Date(clock));
    const request = { amount: 50, note: undefined, idempotencyKey: `key-${id}` };
    const { refund } = await requestRefund(ledger.db, id, request, new Date(clock));
    expect((await row(id)).reference).toBeNull();
    const reference = trade?.id;
    const forget = () =>
      ledger.db.payment.update({ where: { id }, data: { reference: null, referenceData: Prisma.DbNull } });
    return { id, refund, reference, forget };
  }
  const refundRow = (id: string) => ledger.db.refund.findUniqueOrThrow({ where: { id } });

  test('looks for it once, stores what it finds, and is asked for and about by it', async () => {
    const { id, refund, reference, forget } = await paidUnreferenced(true);
    expect(await act.refund(refund.id)).toMatchObject({ status: 'succeeded' });
    expect((await row(id)).reference).toBe(reference);
    const [query, refundQuery] = [`query ${reference}`, `query refund ${reference}`];
    expect(channel.calls).toEqual(['find', query, refundQuery, `refund ${reference}`, query]);
    for (const [activity, calls] of [
      ['lookAgainAtRefund', [refundQuery, query]],
      ['askTradeOfRefund', [query]],
    ] as const) {
      await forget();
      channel.calls.length = 0;
      expect((await act[activity](refund.id)) ?? {}).not.toHaveProperty('error');
      expect(channel.calls).toEqual(['find', ...calls]);
    }
  });

  test('in process: a query looks for it too', async () => {
    const { id, refund, reference } = await paidUnreferenced(true);
    channel.refunds.set(refund.id, 50);
    await ledger.db.refund.update({
      where: { id: refund.id },
      data: { status: 'processing', askedAt: new Date(clock) },
    });
    expect(await act.queryRefund(refund.id)).toMatchObject({
      snapshot: { status: 'succeeded' },
      known: true,
    });
    expect(channel.calls).toEqual(['find', `query refund ${reference}`, `query ${reference}`]);
    expect((await row(id)).reference).toBe(reference);
  });

  test('that no listing has: nothing is known of the refund, and the channel is not asked for it', async () => {
    const { refund } = await paidUnreferenced(false);
    expect(await act.refund(refund.id)).toMatchObject({
      error: { type: 'Channel.unreachable', nonRetryable: false },
    });
    expect(channel.calls).toEqual(['find']);
    expect(await refundRow(refund.id)).toMatchObject({
      ...{ status: 'created', askedAt: null, unknownSince: new Date(clock) },
      failure: expect.stringContaining('does not list the trade of payment'),
    });
  });

  test('whose row is lost: recovery looks for it, and lets it be when no listing has it', async () => {
    const { id, reference } = await paidUnreferenced(true);
    await requireDecided(ledger.db, channel.adapter(rest), await row(id), 're_lost');
    expect(channel.calls).toEqual(['find', ...Array(9).fill(`query refund ${reference}`)]);
    expect((await row(id)).reference).toBe(reference);
    const absent = await paidUnreferenced(false);
    await expect(
      requireDecided(ledger.db, channel.adapter(rest), await row(absent.id), 're_lost'),
    ).rejects.toThrow('simulator does not say what became of it: its workflow stays');
  });
});

describe('a refusal', () => {
  test('fails the payment when nothing was unknown before it', async () => {
    const { id } = await longLived();
    channel.failure = REFUSED;
    await act.create(id);
    expect(channel.calls).toEqual(['create']);
    expect(await row(id)).toMatchObject({ status: 'failed' });
  });

  test('that comes so late that another attempt may have begun: not failed while the trade is there', async () => {
    const { id } = await longLived();
    const adapter = channel.adapter(rest);
    const slow = {
      ...adapter,
      createTrade: async (...given: Parameters<typeof adapter.createTrade>) => {
        // The other attempt's.
        await adapter.createTrade(...given);
        clock += CREATE_ATTEMPT_MS;
        throw REFUSED;
      },
    };
    const { create } = runActivities({
      db: ledger.db,
      channels: new Map([['simulator', slow]]),
      clock: () => clock,
    });
    expect(await create(id)).toMatchObject({ status: 'created', cancelRequested: true, noAction: true });
  });

  test('after an unknown outcome, with the trade there: not failed; no second trade is made, and the attempt is closed', async () => {
    const { id } = await unknownCreate(true);
    channel.ofExisting = REFUSED;
    expect(await act.create(id)).toMatchObject({ status: 'created', cancelRequested: true, noAction: true });
    await act.close(id);
    expect(await row(id)).toMatchObject({ status: 'closed' });
    expect(channel.trades).toMatchObject([{ answer: { state: 'closed' } }]);
  });

  test('after an unknown outcome, with the trade paid: the money is on record', async () => {
    const { id } = await unknownCreate(true);
    const trade = channel.of(id);
    if (trade === undefined) throw new Error('it is there');
    const paid = { channelPaymentId: 'p', amount: 1000, currency: 'CNY', paidAt: new Date(AT).toISOString() };
    trade.answer = { state: 'paid', ...paid };
    channel.ofExisting = REFUSED;
    expect(await act.create(id)).toMatchObject({ status: 'created', answer: 'paid' });
  });

  test('after an unknown outcome, when a complete listing does not have it: failed', async () => {
    const { id } = await unknownCreate(false);
    const adapter = channel.adapter(rest);
    const refusing = {
      ...adapter,
      createTrade: async () => {
        throw REFUSED;
      },
    };
    const channels = new Map([['simulator', refusing]]);
    await runActivities({ db: ledger.db, channels, clock: () => clock }).create(id);
    expect(channel.calls).toEqual(['find']);
    expect(await row(id)).toMatchObject({ status: 'failed' });
  });

  test('after an unknown outcome, while the query is silent: nothing is known', async () => {
    const { id } = await unknownCreate(true);
    channel.ofExisting = REFUSED;
    const adapter = channel.adapter(rest);
    const silent = {
      ...adapter,
      queryTrade: async () => {
        throw LOST;
      },
    };
    const channels = new Map([['simulator', silent]]);
    const outcome = await runActivities({ db: ledger.db, channels, clock: () => clock }).create(id);
    expect(outcome).toMatchObject({ error: { type: 'Channel.unreachable', nonRetryable: false } });
    expect(await row(id)).toMatchObject({ status: 'created' });
  });
});

describe('what a trade is created from', () => {
  test('a shorter expiry than the channel’s shortest becomes that, counted from the first request, in every repetition', async () => {
    const [method] = declarationOf('simulator').methods;
    channel = new ReferenceChannel(declarationOf('simulator'), {
      methods: [
        {
          ...method,
          expiry: { atLeastMs: 1_800_000, atMostMs: null },
          subject: { atMost: 6, countedIn: 'bytes' },
        },
      ],
    });
    const channels = new Map([['simulator', channel.adapter(rest)]]);
    act = runActivities({ db: ledger.db, channels, clock: () => clock });
    const { id } = await ledger.newPayment(AT, { subject: '咖啡和蛋糕' });
    clock = AT + 5_000;
    channel.answerIsLost = LOST;
    await act.create(id);
    channel.answerIsLost = undefined;
    clock = AT + 60_000;
    await act.create(id);
    expect(channel.created[0]).toMatchObject({
      subject: '咖啡',
      expiresAt: new Date(AT + 1_805_000).toISOString(),
    });
    expect(channel.created[1]).toEqual(channel.created[0]);
    // It is closed by us at its own.
    expect((await row(id)).expiresAt).toEqual(new Date(AT + 600_000));
  });

  describe('the payer reaches the channel, and no failure, row or timeline, whatever the channel quotes:', () => {
    const payer = { id: 'canary+/:é"7f3a', ip: '2001:db8::77' };
    const forms = [
      payer.id,
      encodeURIComponent(payer.id),
      encodeURIComponent(payer.id).toLowerCase(),
      JSON.stringify(payer.id),
      String.raw`canary+\/:\u00e9\"7f3a`,
      payer.ip,
      encodeURIComponent(payer.ip),
    ];
    const quote = forms.join(' ');
    const wrong = () =>
      new ChannelError('unreachable', `no such payer: ${quote}`, { cause: new Error(`body: ${quote}`) });
    const mistake = () => new TypeError(`cannot read ${quote}`, { cause: wrong() });

    /** It is paid, and a refund is owed. @returns the refund's id */
    async function paidAndOwed(id: string): Promise<string> {
      const answer = { ...PAID, state: 'paid' as const, channelPaymentId: `ch_${id}` };
      const made = channel.of(id);
      if (made !== undefined) made.answer = answer;
      await recordAnswer(ledger.db, id, answer, 'callback', new Date(clock));
      await settlePayment(ledger.db, id, new Date(clock));
      const request = { amount: 50, note: undefined, idempotencyKey: `key-${id}` };
      return (await requestRefund(ledger.db, id, request, new Date(clock))).refund.id;
    }
    const written = async (paymentId: string) => ({
      payment: { ...(await row(paymentId)), payer: null },
      refunds: await ledger.db.refund.findMany({ where: { paymentId } }),
      timeline: await ledger.db.timelineEntry.findMany({ where: { paymentId } }),
    });
    const said = (outcome: unknown): unknown[] =>
      outcome instanceof Error
        ? [outcome.message, outcome.stack, ...said(outcome.cause)]
        : typeof outcome === 'object' && outcome !== null && 'error' in outcome
          ? said(outcome.error)
          : [outcome];
    const tells = (of: unknown) =>
      JSON.stringify(of, (_, value) => (typeof value === 'bigint' ? String(value) : value));

    test('what fails', async () => {
      const { id } = await ledger.newPayment(AT, { payer });
      const outcomes: unknown[] = [];
      const failing = async (ask: () => Promise<unknown>) => {
        for (const failure of [wrong(), mistake()]) {
          channel.failure = failure;
          outcomes.push(await ask());
          channel.failure = undefined;
        }
      };
      await failing(() => act.create(id));
      await act.create(id);
      expect(channel.created.at(-1)?.payer).toEqual(payer);
      await failing(() => act.ask(id));
      await failing(() => act.askBeforeEnd(id));
      await failing(() => act.close(id));
      const refundId = await paidAndOwed(id);
      await failing(() => act.refund(refundId));
      await failing(() => act.queryRefund(refundId));
      const all = tells([...outcomes.flatMap(said), await written(id)]);
      expect(all).toContain('no such payer: [payer] [payer] [payer]');
      expect(all).toContain('cannot read [payer]');
      expect(all).not.toMatch(/canary|7f3a|db8/i);
    });

    test('what is refused', async () => {
      const { id } = await ledger.newPayment(AT, { payer });
      await act.create(id);
      const made = channel.of(id);
      if (made !== undefined) made.answer = { state: 'failed', reason: quote };
      const outcome = await act.ask(id);
      expect(await row(id)).toMatchObject({ status: 'failed' });
      const all = tells([outcome, await written(id)]);
      expect(all).toContain('[payer]');
      expect(all).not.toMatch(/canary|7f3a|db8/i);
    });

    test('the reasons of a refund and of a dispute', async () => {
      const { id } = await ledger.newPayment(AT, { payer });
      await act.create(id);
      const refundId = await paidAndOwed(id);
      channel.refusedRefund = { state: 'needs_person', channelRefundId: 're_1', reason: quote };
      const paid = channel.of(id);
      if (paid?.answer.state !== 'paid') throw new Error('it is paid');
      const { amount, currency } = paid.answer;
      const outcomes = [await act.refund(refundId)];
      paid.answer = {
        ...paid.answer,
        disputes: [{ id: 'dp_1', amount, currency, state: 'open', reason: quote }],
      };
      outcomes.push(await act.ask(id));
      expect(await row(id)).toMatchObject({ attention: 'disputed' });
      const all = tells([...outcomes, await written(id)]);
      expect(all).toContain('[payer]');
      expect(all).not.toMatch(/canary|7f3a|db8/i);
    });
  });
});

describe('a channel that does not take our calls', () => {
  const WRONG = new ChannelError('misconfigured', 'The API key is wrong: set another one.');
  const shown = { attention: 'channel_misconfigured', attentionDetail: WRONG.message };

  test('at create: shown at once, not failed, and over with the next good answer', async () => {
    const { id } = await longLived();
    channel.failure = WRONG;
    expect(await act.create(id)).toMatchObject({ error: { type: 'Channel.misconfigured' } });
    expect(await row(id)).toMatchObject({ status: 'created', ...shown, attentionSince: new Date(AT) });
    clock = AT + 1_000;
    await act.create(id);
    expect(await row(id)).toMatchObject({ ...shown, attentionSince: new Date(AT) });
    channel.failure = undefined;
    await act.create(id);
    expect(await row(id)).toMatchObject({ status: 'paying', attention: null, attentionSince: null });
  });

  test.each([
    ['a query', 'ask'],
    ['the query before an end', 'askBeforeEnd'],
    ['a close', 'close'],
  ] as const)('at %s: the same', async (_, activity) => {
    const { id } = await longLived();
    await act.create(id);
    channel.failure = WRONG;
    await act[activity](id);
    expect(await row(id)).toMatchObject({ status: 'paying', ...shown });
    channel.failure = undefined;
    await act[activity](id);
    expect((await row(id)).attention).toBeNull();
  });
});

test('a close that comes too early waits for its time, and shows nothing to anybody', async () => {
  const { id } = await longLived();
  await act.create(id);
  const until = new Date(AT + 300_000);
  channel.close = { state: 'not_yet', until: until.toISOString() };
  expect(await act.close(id)).toMatchObject({
    closed: 'not_yet',
    snapshot: { status: 'paying', closeNotBefore: until.getTime(), attention: null },
  });
  expect(await row(id)).toMatchObject({ closeNotBefore: until, attention: null });
});

test('an unknown trade that can still be paid is closed here, and the timeline says so', async () => {
  channel = new ReferenceChannel(declarationOf('simulator'), { unknownTradeCanBePaid: true });
  act = runActivities({
    db: ledger.db,
    channels: new Map([['simulator', channel.adapter(rest)]]),
    clock: () => clock,
  });
  const { id } = await longLived();
  expect(await act.close(id)).toMatchObject({ closed: 'unknown_trade', snapshot: { status: 'closed' } });
  const timeline = await ledger.db.timelineEntry.findMany({ where: { paymentId: id } });
  expect(timeline.map(({ detail }) => detail).join('\n')).toContain('the late watch asks on');
});
