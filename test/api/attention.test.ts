import { describe, expect, test } from 'vitest';
import { automaticRefundId } from '../../src/domain/ids.ts';
import {
  endPayment,
  raiseAttention,
  recordAnswer,
  recordCreated,
  recordMisconfigured,
  recordNotYet,
  recordSilence,
  requestCancel,
  settlePayment,
} from '../../src/ledger/payments.ts';
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
import { pay, simulatorCallback } from './support.ts';

// Tests that every attention is listed and is shown with a sentence and a time. An attention is cleared when its cause
// has ended. The tests call the ledger as workflows and activities do. Other tests check that workflows and activities
// make these calls.

const ALARM_MS = 300_000;

describe('the attention channel_unreachable', () => {
  async function silent() {
    const { id } = await pay(api, key);
    await recordSilence(api.db, id, 'no answer in time', ALARM_MS, at(0));
    await expectOver(id);
    await recordSilence(api.db, id, 'no answer in time', ALARM_MS, at(300));
    await expectShown(id, 'channel_unreachable', at(300), `since ${at(0).toISOString()}: no answer in time`);
    // The attention keeps the time at which it was first raised, even if the channel stays silent for longer.
    await recordSilence(api.db, id, 'no answer in time', ALARM_MS, at(900));
    await expectShown(id, 'channel_unreachable', at(300), 'no answer in time');
    return id as string;
  }

  test.each<[string, (id: string) => Promise<unknown>]>([
    ['an answer', (id) => recordAnswer(api.db, id, { state: 'unpaid' }, 'query', at(901))],
    [
      'an answer that the trade is unknown',
      (id) => recordAnswer(api.db, id, { state: 'unknown_trade' }, 'query', at(901)),
    ],
    ['a new next action', (id) => recordCreated(api.db, id, { type: 'redirect', url: 'https://w' }, at(901))],
    ["the payment's end", (id) => endPayment(api.db, id, 'closed', 'unpaid.', at(901))],
    ['a callback', (id) => api.call('/callbacks/simulator', { ...simulatorCallback(id), method: 'POST' })],
  ])('is raised after the channel has not answered for 5 min, and cleared by %s', async (_, report) => {
    const id = await silent();
    await report(id);
    await expectOver(id);
    // The first silence has ended, so this silence has only just begun.
    await recordSilence(api.db, id, 'no answer in time', ALARM_MS, at(1000));
    await expectOver(id);
  });

  test('is raised after six failed attempts to cancel the payment, and cleared when the channel closes the trade', async () => {
    const { id } = await pay(api, key);
    await requestCancel(api.db, id, 'the merchant', at(0));
    const detail = 'The payment must be cancelled, but the channel does not answer.';
    await raiseAttention(api.db, id, 'channel_unreachable', detail, at(60));
    await expectShown(id, 'channel_unreachable', at(60), detail);
    await recordAnswer(api.db, id, { state: 'closed' }, 'close', at(70));
    await expectOver(id);
  });
});

describe('the attention channel_misconfigured', () => {
  const SENTENCE = 'The API key is wrong: set another one.';
  const wrong = (id: string, second: number) => recordMisconfigured(api.db, id, SENTENCE, at(second));

  test.each<[string, (id: string) => Promise<unknown>]>([
    ['an answer', (id) => recordAnswer(api.db, id, { state: 'unpaid' }, 'query', at(101))],
    [
      "an answer before the payment's end",
      (id) => recordAnswer(api.db, id, { state: 'unpaid' }, 'close', at(101)),
    ],
    ['a new next action', (id) => recordCreated(api.db, id, { type: 'redirect', url: 'https://w' }, at(101))],
    ['an answer that the trade cannot be closed yet', (id) => recordNotYet(api.db, id, at(400), at(101))],
    ["the payment's end", (id) => endPayment(api.db, id, 'closed', 'unpaid.', at(101))],
  ])('is raised immediately in place of channel_unreachable, and cleared by %s', async (_, report) => {
    const { id } = await pay(api, key);
    await recordSilence(api.db, id, 'no answer in time', ALARM_MS, at(0));
    await recordSilence(api.db, id, 'no answer in time', ALARM_MS, at(300));
    await wrong(id, 310);
    await expectShown(id, 'channel_misconfigured', at(310), SENTENCE);
    await wrong(id, 320);
    await expectShown(id, 'channel_misconfigured', at(310), SENTENCE);
    await report(id);
    await expectOver(id);
  });

  test('replaces order_conflict while the channel rejects the credentials, and order_conflict returns later with its original time', async () => {
    const first = await pay(api, key);
    const { id } = await pay(api, key, { order: undefined, orderId: first.orderId, channel: 'simulator2' });
    await paid(first.id);
    await paid(id, 1050, at(10));
    await wrong(id, 20);
    await recordRefundSilence(api.db, automaticRefundId(id), SILENCE, at(20));
    await expectShown(id, 'channel_misconfigured', at(20), SENTENCE);
    await recordRefundAnswer(api.db, automaticRefundId(id), { state: 'processing' }, at(30));
    await expectShown(id, 'order_conflict', at(10), 'was already paid by');
    await givenBack(automaticRefundId(id), at(40));
    await expectOver(id);
  });

  test('does not replace the attention of money that waits for a decision', async () => {
    const { id } = await pay(api, key);
    await paid(id, 900, at(10));
    await wrong(id, 20);
    await expectShown(id, 'amount_mismatch', at(10), 'received CNY 9.00');
  });
});

describe('the attention create_unknown', () => {
  const detail = 'The channel does not say whether it created the trade.';
  async function unknown() {
    const usual = api.workflows.onAwaitNextAction;
    api.workflows.onAwaitNextAction = async () => false;
    const order = { id: `o-${Math.random()}`, amount: 1050, currency: 'CNY' };
    const { json } = await api.call('/v1/payments', { key, body: { order, channel: 'simulator' } });
    api.workflows.onAwaitNextAction = usual;
    await raiseAttention(api.db, json.id, 'create_unknown', detail, at(90));
    await expectShown(json.id, 'create_unknown', at(90), detail);
    return json.id as string;
  }

  test.each<[string, (id: string) => Promise<unknown>]>([
    [
      'the trade is created',
      (id) => recordCreated(api.db, id, { type: 'redirect', url: 'https://w' }, at(91)),
    ],
    ['the channel knows the trade', (id) => recordAnswer(api.db, id, { state: 'unpaid' }, 'query', at(91))],
    ['the payment has ended', (id) => endPayment(api.db, id, 'closed', 'unpaid.', at(91))],
    [
      'the payment is paid',
      (id) => api.call('/callbacks/simulator', { ...simulatorCallback(id), method: 'POST' }),
    ],
  ])('is raised for an unknown trade, and cleared when %s', async (_, report) => {
    const id = await unknown();
    await recordAnswer(api.db, id, { state: 'unknown_trade' }, 'query', at(90));
    await expectShown(id, 'create_unknown', at(90), detail);
    await report(id);
    await expectOver(id);
  });
});

describe('the attention order_update_failing', () => {
  const detail = 'The money has arrived, but the order update keeps failing.';
  test('is cleared when the order accepts the payment, even if the channel was unreachable before the callback', async () => {
    const { id } = await pay(api, key);
    await recordSilence(api.db, id, 'no answer in time', ALARM_MS, at(0));
    await recordSilence(api.db, id, 'no answer in time', ALARM_MS, at(300));
    await api.call('/callbacks/simulator', { ...simulatorCallback(id), method: 'POST' });
    await raiseAttention(api.db, id, 'order_update_failing', detail, at(900));
    await expectShown(id, 'order_update_failing', at(900), detail);
    await settlePayment(api.db, id, at(901));
    await expectOver(id);
    expect(await get(id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
  });
});

describe('the attention order_conflict', () => {
  test('is raised for a second payment of an order, and cleared when the second payment is refunded', async () => {
    const first = await pay(api, key);
    api.workflows.onAskChannel = async () => false;
    const order = { order: undefined, orderId: first.orderId };
    const { id } = await pay(api, key, { ...order, channel: 'simulator2' });
    await paid(first.id);
    await paid(id, 1050, at(10));
    await expectOver(first.id);
    await expectShown(id, 'order_conflict', at(10), 'already paid by another payment');
    await givenBack(automaticRefundId(id), at(20));
    await expectOver(id);
  });

  test('is raised for money that arrives after the order was cancelled, and cleared when the money is refunded', async () => {
    const { id, orderId } = await pay(api, key);
    await endPayment(api.db, id, 'cancelled', 'unpaid.', at(0));
    await api.db.order.updateMany({ where: { merchantId, id: orderId }, data: { status: 'cancelled' } });
    await paid(id, 1050, at(10));
    await expectShown(id, 'order_conflict', at(10), 'already cancelled when the money arrived');
    await givenBack(automaticRefundId(id), at(20));
    await expectOver(id);
  });
});
