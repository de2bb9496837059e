import { describe, expect, test } from 'vitest';
import { declarationOf } from '../../src/channels/simulator/adapter.ts';
import { ChannelError } from '../../src/domain/channel.ts';
import { recordAnswer, settlePayment } from '../../src/ledger/payments.ts';
import { requestRefund } from '../../src/ledger/refunds.ts';
import { CREATE_ATTEMPT_MS } from '../../src/workflows/activity-options.ts';
import { ReferenceChannel } from '../support/reference-channel.ts';
import {
  AT,
  act,
  channel,
  clock,
  LOST,
  ledger,
  longLived,
  PAID,
  REFUSED,
  rest,
  row,
  unknownCreate,
} from './reference-support.ts';
import { runActivities } from './support.ts';

/**
 * Tests what nodrop does when a channel that uses its own ids refuses a create. Also tests which parameters nodrop
 * sends with a create.
 */

describe('a refusal to create the trade', () => {
  test('fails the payment if every earlier request had a known outcome', async () => {
    const { id } = await longLived();
    channel.failure = REFUSED;
    await act.create(id);
    expect(channel.calls).toEqual(['create']);
    expect(await row(id)).toMatchObject({ status: 'failed' });
  });

  test('a refusal that arrives late does not fail the payment if an earlier attempt has created the trade', async () => {
    const { id } = await longLived();
    const adapter = channel.adapter(rest);
    const slow = {
      ...adapter,
      createTrade: async (...given: Parameters<typeof adapter.createTrade>) => {
        // The channel creates the trade, as in an earlier attempt. Then it refuses this attempt.
        await adapter.createTrade(...given);
        clock.now += CREATE_ATTEMPT_MS;
        throw REFUSED;
      },
    };
    const { create } = runActivities({
      db: ledger.db,
      channels: new Map([['simulator', slow]]),
      clock: () => clock.now,
    });
    expect(await create(id)).toMatchObject({ status: 'created', cancelRequested: true, noAction: true });
  });

  test('if an earlier request with an unknown outcome created the trade, the payment is closed and does not fail, and no second trade is created', async () => {
    const { id } = await unknownCreate(true);
    channel.ofExisting = REFUSED;
    expect(await act.create(id)).toMatchObject({ status: 'created', cancelRequested: true, noAction: true });
    await act.close(id);
    expect(await row(id)).toMatchObject({ status: 'closed' });
    expect(channel.trades).toMatchObject([{ answer: { state: 'closed' } }]);
  });

  test('if the outcome of an earlier request is unknown and the trade is paid, the money is recorded', async () => {
    const { id } = await unknownCreate(true);
    const trade = channel.of(id);
    if (trade === undefined) throw new Error('the channel has the trade');
    const paid = { channelPaymentId: 'p', amount: 1000, currency: 'CNY', paidAt: new Date(AT).toISOString() };
    trade.answer = { state: 'paid', ...paid };
    channel.ofExisting = REFUSED;
    expect(await act.create(id)).toMatchObject({ status: 'created', answer: 'paid' });
  });

  test('if the outcome of an earlier request is unknown and a complete listing does not contain the trade, the payment fails', async () => {
    const { id } = await unknownCreate(false);
    const adapter = channel.adapter(rest);
    const refusing = {
      ...adapter,
      createTrade: async () => {
        throw REFUSED;
      },
    };
    const channels = new Map([['simulator', refusing]]);
    await runActivities({ db: ledger.db, channels, clock: () => clock.now }).create(id);
    expect(channel.calls).toEqual(['find']);
    expect(await row(id)).toMatchObject({ status: 'failed' });
  });

  test('if the outcome of an earlier request is unknown and queries get no answer, the outcome stays unknown', async () => {
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
    const outcome = await runActivities({ db: ledger.db, channels, clock: () => clock.now }).create(id);
    expect(outcome).toMatchObject({ error: { type: 'Channel.unreachable', nonRetryable: false } });
    expect(await row(id)).toMatchObject({ status: 'created' });
  });
});

describe('the parameters of a request to create a trade', () => {
  test('if the payment expires too early for the channel, every create request sends the same later expiry: the time of the first request plus the channel’s minimum', async () => {
    const [method] = declarationOf('simulator').methods;
    const channel = new ReferenceChannel(declarationOf('simulator'), {
      methods: [
        {
          ...method,
          expiry: { atLeastMs: 1_800_000, atMostMs: null },
          subject: { atMost: 6, countedIn: 'bytes' },
        },
      ],
    });
    const channels = new Map([['simulator', channel.adapter(rest)]]);
    const act = runActivities({ db: ledger.db, channels, clock: () => clock.now });
    const { id } = await ledger.newPayment(AT, { subject: '咖啡和蛋糕' });
    clock.now = AT + 5_000;
    channel.answerIsLost = LOST;
    await act.create(id);
    channel.answerIsLost = undefined;
    clock.now = AT + 60_000;
    await act.create(id);
    expect(channel.created[0]).toMatchObject({
      subject: '咖啡',
      expiresAt: new Date(AT + 1_805_000).toISOString(),
    });
    expect(channel.created[1]).toEqual(channel.created[0]);
    // The payment still expires at its own time, which is earlier than the expiry at the channel.
    expect((await row(id)).expiresAt).toEqual(new Date(AT + 600_000));
  });

  describe('payer data that a channel quotes in its refusal', () => {
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

    /**
     * Marks the payment as paid and creates a refund that is due.
     * @returns the refund's id
     */
    async function paidAndOwed(id: string): Promise<string> {
      const answer = { ...PAID, state: 'paid' as const, channelPaymentId: `ch_${id}` };
      const made = channel.of(id);
      if (made !== undefined) made.answer = answer;
      await recordAnswer(ledger.db, id, answer, 'callback', new Date(clock.now));
      await settlePayment(ledger.db, id, new Date(clock.now));
      const request = { amount: 50, note: undefined, idempotencyKey: `key-${id}` };
      return (await requestRefund(ledger.db, id, request, new Date(clock.now))).refund.id;
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

    test('is sent to the channel, but does not appear in failures, rows or the timeline', async () => {
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

    test('does not appear in refusals, rows or the timeline', async () => {
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

    test('does not appear in the reasons of a refund and of a dispute', async () => {
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
