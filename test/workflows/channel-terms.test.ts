import { beforeEach, expect, test } from 'vitest';
import { type ChannelAdapter, ChannelError } from '../../src/domain/channel.ts';
import { NET_MS } from '../support/progress.ts';
import { ReferenceChannel } from '../support/reference-channel.ts';
import { eventually } from '../support/stack.ts';
import { LATE_CANCELLATION, useHarness } from './harness.ts';

/**
 * Tests special cases of channels: wrong credentials, a close that must wait, a next action that is not renewed, and an
 * unknown trade that can still be paid. In these tests `simulator` is a channel that uses its own ids, and `simulator2`
 * is the normal simulator. A test can make the credentials of `simulator2` wrong.
 */

const WRONG = new ChannelError('misconfigured', 'The API key is wrong: set another one.');
const PAYER = { id: 'openid-canary-7f3a', ip: '192.0.2.77' };

let channel: ReferenceChannel;
let isWrong = false;

function between(adapter: ChannelAdapter): ChannelAdapter {
  if (adapter.declaration.name === 'simulator') {
    channel = new ReferenceChannel(adapter.declaration, { unknownTradeCanBePaid: true });
    return channel.adapter(adapter);
  }
  const mended =
    <Args extends unknown[], R>(call: (...args: Args) => Promise<R>) =>
    async (...args: Args) => {
      if (isWrong) throw WRONG;
      return await call(...args);
    };
  return {
    ...adapter,
    queryTrade: mended(adapter.queryTrade),
    refundTrade: mended(adapter.refundTrade),
    queryRefund: mended(adapter.queryRefund),
  };
}

// A hint or a callback can cancel a query or a close that has not completed.
const h = useHarness({ between, workflowInterceptors: LATE_CANCELLATION });
beforeEach(() => {
  Object.assign(channel, {
    failure: undefined,
    answerIsLost: undefined,
    ofExisting: 'action',
    close: { state: 'closed' },
    actionExpiresAt: undefined,
  });
  channel.calls.length = 0;
  isWrong = false;
});

/** The workflow's history as text, including its payloads. */
const inText = (value: unknown): string =>
  JSON.stringify(value, function (this: Record<string, unknown>, key, given) {
    const raw = this[key];
    return raw instanceof Uint8Array ? Buffer.from(raw).toString('utf8') : given;
  });

const closes = () => channel.calls.filter((call) => call.startsWith('close')).length;
const attentionOf = async (id: string) => (await h.row(id)).attention;

test('if the credentials are wrong when the trade is created, an attention is raised, and the payment is closed once the credentials are corrected', async () => {
  const payment = await h.newPayment({ expiresInMs: 300_000 });
  channel.failure = WRONG;
  await h.workflows.start(payment, true, NET_MS);
  await eventually(async () => (await attentionOf(payment.id)) === 'channel_misconfigured');
  await h.pass(600);
  expect(await h.row(payment.id)).toMatchObject({
    status: 'created',
    attention: 'channel_misconfigured',
    attentionDetail: WRONG.message,
  });
  const shown = (await h.timeline(payment.id)).filter((entry) => entry.startsWith('attention:'));
  expect(shown).toEqual([`attention: channel_misconfigured: ${WRONG.message}`]);
  channel.failure = undefined;
  await h.pass(400);
  expect(await h.row(payment.id)).toMatchObject({ status: 'closed', attention: null });
});

test('after the credentials are corrected the trade is created, and no workflow history contains payer data from the channel’s error', async () => {
  const payment = await h.newPayment();
  await h.db.payment.update({ where: { id: payment.id }, data: { payer: PAYER } });
  channel.failure = new ChannelError('misconfigured', `No permission for ${PAYER.id} at ${PAYER.ip}.`);
  await h.workflows.start(payment, true, NET_MS);
  await eventually(async () => (await attentionOf(payment.id)) === 'channel_misconfigured');
  channel.failure = undefined;
  await h.pass(60);
  expect(await h.row(payment.id)).toMatchObject({ status: 'paying', attention: null });
  expect(channel.created.at(-1)?.payer).toEqual(PAYER);
  const run = h.env.client.workflow.getHandle(`payment/${payment.id}`);
  const description = await run.describe();
  const said = inText([await run.fetchHistory(), description.raw, await h.timeline(payment.id)]);
  expect(said).toContain('No permission for [payer] at [payer].');
  expect(said).toContain(payment.orderId);
  expect(said).not.toMatch(/canary|192\.0\.2/);
});

test('wrong credentials at a query or a refund raise an attention, and the next good answer clears the attention', async () => {
  const payment = await h.newPayment({ channel: 'simulator2' });
  const run = await h.start(payment);
  isWrong = true;
  await h.pass(30);
  expect(await attentionOf(payment.id)).toBe('channel_misconfigured');
  isWrong = false;
  await h.pass(55);
  expect(await h.row(payment.id)).toMatchObject({ status: 'paying', attention: null });
  await h.simulator.pay(payment.id);
  await h.callback(payment);
  await run.result();
  isWrong = true;
  const refund = await h.refund(payment, 500);
  await eventually(async () => (await attentionOf(payment.id)) === 'channel_misconfigured');
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'created' });
  isWrong = false;
  await h.pass(120);
  await h.untilRefund(refund.id, 'succeeded');
  expect(await attentionOf(payment.id)).toBeNull();
});

test('if the channel allows a trade to be closed only from a later time, nodrop closes the trade at that time and raises no attention', async () => {
  const payment = await h.newPayment();
  await h.start(payment);
  const until = payment.createdAt.getTime() + 300_000;
  channel.close = { state: 'not_yet', until: new Date(until).toISOString() };
  await h.workflows.cancel(payment, NET_MS);
  await eventually(async () => (await h.row(payment.id)).closeNotBefore !== null);
  channel.close = { state: 'closed' };
  await h.pass(240);
  expect(await h.row(payment.id)).toMatchObject({ status: 'paying', attention: null });
  expect(closes()).toBe(1);
  // A hint causes a query, but no close.
  const asked = () => channel.calls.filter((call) => call.startsWith('query')).length;
  const before = asked();
  await h.workflows.hint(payment, false, NET_MS);
  await eventually(() => asked() > before);
  expect(closes()).toBe(1);
  await h.pass(120);
  expect(await h.row(payment.id)).toMatchObject({ status: 'cancelled' });
  expect(closes()).toBe(2);
});

test('money that arrives while nodrop waits to close the trade pays the order', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  channel.close = { state: 'not_yet', until: new Date(payment.createdAt.getTime() + 300_000).toISOString() };
  await h.workflows.cancel(payment, NET_MS);
  await eventually(async () => (await h.row(payment.id)).closeNotBefore !== null);
  await h.callback(payment);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
});

test('while nodrop waits to close a trade, it still queries the trade, and more often after a hint', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  const trade = channel.of(payment.id);
  if (trade === undefined) throw new Error('it was created');
  channel.close = {
    state: 'not_yet',
    until: new Date(payment.createdAt.getTime() + 3_000_000).toISOString(),
  };
  await h.workflows.cancel(payment, NET_MS);
  await eventually(async () => (await h.row(payment.id)).closeNotBefore !== null);
  const asked = () => channel.calls.filter((call) => call === `query ${trade.id}`).length;
  const before = asked();
  await h.workflows.hint(payment, true, NET_MS);
  await eventually(() => asked() > before);
  await h.pass(30);
  expect(asked()).toBeGreaterThan(before + 10);
  trade.answer = {
    state: 'paid',
    channelPaymentId: 'silently',
    amount: Number(payment.amount),
    currency: payment.currency,
    paidAt: new Date(await h.now()).toISOString(),
  };
  await h.pass(320);
  await run.result();
  // A query of the phase after the hint found the money. The next query of the schedule would only be 5 min later.
  expect(await h.row(payment.id)).toMatchObject({
    status: 'succeeded',
    orderUpdate: 'applied',
    settledBy: 'hint',
  });
  expect(closes()).toBe(1);
});

test('if the channel does not renew an expired next action, the trade is closed and no second trade is created', async () => {
  const payment = await h.newPayment();
  channel.actionExpiresAt = new Date(payment.createdAt.getTime() + 60_000).toISOString();
  await h.start(payment);
  await h.pass(61);
  channel.ofExisting = 'not_renewable';
  await h.workflows.awaitNextAction(payment, NET_MS);
  await h.until(payment.id, 'closed');
  expect(channel.trades.filter(({ outTradeNo }) => outTradeNo === payment.id)).toMatchObject([
    { answer: { state: 'closed' } },
  ]);
  expect(await h.orderStatus(payment)).toBe('unpaid');
});

test('if the channel does not know a trade at its expiry, nodrop closes the payment, and the late watch finds money that is paid later', async () => {
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  const trade = channel.of(payment.id);
  if (trade === undefined) throw new Error('it was created');
  trade.answer = { state: 'unknown_trade' };
  channel.close = { state: 'unknown_trade' };
  await h.pass(62);
  expect(await h.row(payment.id)).toMatchObject({ status: 'closed' });
  expect((await h.timeline(payment.id)).join('\n')).toContain('the late watch continues');
  trade.answer = {
    state: 'paid',
    channelPaymentId: 'late',
    amount: Number(payment.amount),
    currency: payment.currency,
    paidAt: new Date(await h.now()).toISOString(),
  };
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
});
