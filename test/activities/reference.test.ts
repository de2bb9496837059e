import { describe, expect, test } from 'vitest';
import { declarationOf } from '../../src/channels/simulator/adapter.ts';
import { ChannelError } from '../../src/domain/channel.ts';
import { ReferenceChannel } from '../support/reference-channel.ts';
import {
  AT,
  act,
  channel,
  clock,
  HORIZON_MS,
  ledger,
  longLived,
  rest,
  row,
  unknownCreate,
} from './reference-support.ts';
import { runActivities } from './support.ts';

/**
 * Tests a channel that uses its own ids: when nodrop repeats a create, when it looks up the trade, and how the payment
 * ends.
 */

test('the reference of the trade is stored together with the next action, and every later call uses the reference', async () => {
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

test('nodrop records a request to create a trade before it sends the request', async () => {
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
    clock: () => clock.now,
  });
  await create(id);
  expect(seen).toEqual([new Date(AT)]);
});

describe('a create request whose answer is lost', () => {
  test("is repeated with the same parameters until the channel's idempotency horizon has passed", async () => {
    const { id } = await unknownCreate(true);
    clock.now = AT + HORIZON_MS - 120_000;
    await act.create(id);
    expect(channel.calls).toEqual(['create']);
    expect(channel.created[1]).toEqual(channel.created[0]);
    expect(channel.trades).toHaveLength(1);
    expect((await row(id)).reference).toBe(channel.of(id)?.id);
  });

  test('after the idempotency horizon, nodrop looks the trade up, and requests a new next action for the same trade', async () => {
    const { id } = await unknownCreate(true);
    channel.keysAreForgotten = true;
    clock.now = AT + HORIZON_MS;
    await act.create(id);
    const reference = channel.of(id)?.id;
    expect(channel.calls).toEqual(['find', `create ${reference}`]);
    expect(channel.trades).toHaveLength(1);
    expect(await row(id)).toMatchObject({ status: 'paying', reference });
  });

  test('after the idempotency horizon, if the trade does not exist, nodrop creates no trade, and the payment is closed with the channel state unknown_trade', async () => {
    const { id } = await unknownCreate(false);
    clock.now = AT + HORIZON_MS;
    expect(await act.create(id)).toMatchObject({ cancelRequested: true, noAction: true });
    await act.askBeforeEnd(id);
    expect(await act.close(id)).toMatchObject({ closed: 'unknown_trade' });
    // The create and the query each read the channel's listing. The close does not read the listing again.
    expect(channel.calls).toEqual(['find', 'find']);
    expect(await row(id)).toMatchObject({ status: 'closed', channelState: 'unknown_trade' });
  });

  test.each([
    ['a query', 'ask', 'query'],
    ['a close', 'close', 'close'],
  ] as const)(
    '%s looks the trade up first, stores its reference, and never creates a trade',
    async (_, activity, call) => {
      const { id } = await unknownCreate(true);
      await act[activity](id);
      const reference = channel.of(id)?.id;
      expect(channel.calls).toEqual(['find', `${call} ${reference}`]);
      expect((await row(id)).reference).toBe(reference);
    },
  );

  test('nodrop does not use a trade that belongs to another payment', async () => {
    const other = await longLived();
    await act.create(other.id);
    const { id } = await unknownCreate(false);
    channel.trades.push({ id: channel.of(other.id)?.id ?? '', outTradeNo: id, answer: { state: 'unpaid' } });
    expect(await act.ask(id)).toMatchObject({ answered: false });
    expect((await row(id)).reference).toBeNull();
  });
});

describe("a channel that rejects nodrop's credentials", () => {
  const WRONG = new ChannelError('misconfigured', 'The API key is wrong: set another one.');
  const shown = { attention: 'channel_misconfigured', attentionDetail: WRONG.message };

  test('the first rejected request to create a trade raises an attention but does not fail the payment, and the next accepted request clears the attention', async () => {
    const { id } = await longLived();
    channel.failure = WRONG;
    expect(await act.create(id)).toMatchObject({ error: { type: 'Channel.misconfigured' } });
    expect(await row(id)).toMatchObject({ status: 'created', ...shown, attentionSince: new Date(AT) });
    clock.now = AT + 1_000;
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
  ] as const)(
    'if the channel rejects the credentials of %s, an attention is raised immediately, and the next valid answer clears the attention',
    async (_, activity) => {
      const { id } = await longLived();
      await act.create(id);
      channel.failure = WRONG;
      await act[activity](id);
      expect(await row(id)).toMatchObject({ status: 'paying', ...shown });
      channel.failure = undefined;
      await act[activity](id);
      expect((await row(id)).attention).toBeNull();
    },
  );
});

test('if the channel cannot close the trade yet, nodrop waits until the time that the channel gives, and raises no attention', async () => {
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

test('if the channel does not know a trade that can still be paid, the payment is closed, and the timeline says that the late watch continues', async () => {
  const channel = new ReferenceChannel(declarationOf('simulator'), { unknownTradeCanBePaid: true });
  const act = runActivities({
    db: ledger.db,
    channels: new Map([['simulator', channel.adapter(rest)]]),
    clock: () => clock.now,
  });
  const { id } = await longLived();
  expect(await act.close(id)).toMatchObject({ closed: 'unknown_trade', snapshot: { status: 'closed' } });
  const timeline = await ledger.db.timelineEntry.findMany({ where: { paymentId: id } });
  expect(timeline.map(({ detail }) => detail).join('\n')).toContain('the late watch continues');
});
