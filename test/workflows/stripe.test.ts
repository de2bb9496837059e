import { afterEach, beforeEach, expect, test } from 'vitest';
import { createStripeAdapter } from '../../src/channels/stripe/adapter.ts';
import { validated } from '../../src/channels/validated-adapter.ts';
import { withCredentials } from '../../src/channels/with-credentials.ts';
import type { ChannelAdapter } from '../../src/domain/channel.ts';
import { storeCallback } from '../../src/ledger/callbacks.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { forwardStoredCallback } from '../../src/temporal/forward-callback.ts';
import { CREDENTIALS, signed } from '../channels/stripe/support.ts';
import type { Intent, Session } from '../doubles/stripe/books.ts';
import { type RunningDouble, serveStripe } from '../doubles/stripe/server.ts';
import { NET_MS } from '../support/progress.ts';
import { eventually } from '../support/stack.ts';
import { type Harness, LATE_CANCELLATION, useHarness } from './harness.ts';

/**
 * The whole way of a payment by Stripe: its adapter over the double, whose clock is the virtual one. Its events come to
 * nodrop when a test says so; else they are lost.
 */

const HOUR = 3600;

let double: RunningDouble;
/** How many of the double's events have come, or are lost. */
let told = 0;

/** The double's clock says what the server's says, whenever Stripe is asked something. */
async function follow(): Promise<void> {
  double.books.clockOffsetS = Math.floor(((await h.now()) - Date.now()) / 1000);
}

/** The adapter as the service has it, asked at the virtual time. */
function following(adapter: ChannelAdapter): ChannelAdapter {
  const after =
    <Given extends unknown[], Answer>(ask: (...given: Given) => Promise<Answer>) =>
    async (...given: Given) => {
      await follow();
      return await ask(...given);
    };
  const { findTrade } = adapter;
  return {
    ...adapter,
    createTrade: after(adapter.createTrade),
    ...(findTrade === undefined ? {} : { findTrade: after(findTrade) }),
    queryTrade: after(adapter.queryTrade),
    closeTrade: after(adapter.closeTrade),
    refundTrade: after(adapter.refundTrade),
    queryRefund: after(adapter.queryRefund),
  };
}

beforeEach(async () => {
  double = await serveStripe();
  told = 0;
});
afterEach(async () => await double?.close());

// One each: the time-skipping server skips no more once an activity was called off, and Stripe sends several events at
// once, of which one calls off the query that the one before it has begun.
const h = useHarness({ perTest: true, workflowInterceptors: LATE_CANCELLATION }, () => {
  const adapter = createStripeAdapter({ url: double.url });
  return { others: [following(validated(withCredentials(adapter, { of: async () => [CREDENTIALS] })))] };
});

const faults = (orders: readonly object[]) =>
  fetch(`${double.url}/_control/faults`, { method: 'POST', body: JSON.stringify(orders) });

const newPayment = (changes: Parameters<Harness['newPayment']>[0] = {}) =>
  h.newPayment({ channel: 'stripe', method: 'checkout', ...changes });

function sessionOf({ id }: Payment): Session {
  const session = [...double.books.sessions.values()].find(({ metadata }) => metadata.nodrop_payment === id);
  if (session === undefined) throw new Error('Stripe has no session of it');
  return session;
}

function intentOf(payment: Payment): Intent {
  const intent = double.books.intents.get(sessionOf(payment).intent ?? '');
  if (intent === undefined) throw new Error('nobody has begun to pay it');
  return intent;
}

/** At Stripe, at the virtual time. */
async function atStripe<T>(act: (books: RunningDouble['books']) => T): Promise<T> {
  await follow();
  return act(double.books);
}

const pay = (payment: Payment, outcome: 'paid' | 'processing' = 'paid') =>
  atStripe((books) => books.pay(sessionOf(payment), outcome));

/** What has happened at Stripe since comes as callbacks, the way it does through the API. */
async function callBack(): Promise<void> {
  const adapter = h.channels.get('stripe');
  if (adapter === undefined) throw new Error('there is no such channel');
  const row = await h.db.channelAccount.findFirstOrThrow({ where: { channel: 'stripe' } });
  const account = { id: row.id, merchantId: row.merchantId, channel: 'stripe', credentials: [CREDENTIALS] };
  for (const event of double.books.events.slice(told)) {
    const request = signed(JSON.stringify(event));
    const callback = await adapter.verifyCallback(account, request);
    if (callback.kind === 'ignored') continue;
    const now = new Date(await h.now());
    const stored = await storeCallback(h.db, row.id, callback, request.rawBody, now);
    expect(stored.payment, `${callback.kind} of a payment`).not.toBeNull();
    if (stored.payment !== null) await forwardStoredCallback(h, stored, stored.payment, now, NET_MS);
  }
  told = double.books.events.length;
}

const refundsOf = async ({ id: paymentId }: Payment) =>
  (await h.db.refund.findMany({ where: { paymentId }, orderBy: { createdAt: 'asc' } })).map(
    ({ amount, reason, status }) => [amount, reason, status],
  );
const refundsAtStripe = (payment: Payment) =>
  [...double.books.refunds.values()].filter(({ intent }) => intent === intentOf(payment).id);

/** Paid by a query: a callback calls the query off that the notice before it has begun, and then the server skips no time. */
async function newPaid(): Promise<Payment> {
  const payment = await newPayment();
  const run = await h.start(payment);
  await pay(payment);
  await run.result();
  told = double.books.events.length;
  return payment;
}

test('the callback comes: the order is paid by it', async () => {
  const payment = await newPayment();
  const run = await h.start(payment);
  await pay(payment);
  await callBack();
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({
    status: 'succeeded',
    orderUpdate: 'applied',
    settledBy: 'callback',
    channelPaymentId: intentOf(payment).id,
  });
  // The session's event is a notice: long before the first query is due.
  for (const at of h.askedAt(payment)) expect(at).toBeLessThan(10);
});

test('the callback is lost: the order is paid by the query', async () => {
  const payment = await newPayment();
  const run = await h.start(payment);
  await pay(payment);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({
    status: 'succeeded',
    orderUpdate: 'applied',
    settledBy: 'query',
  });
  expect(Math.round(h.askedAt(payment)[0] ?? 0)).toBe(10);
});

test('paid between the last query and the close: Stripe refuses to expire the session, and the order is paid', async () => {
  const payment = await newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await h.pass(55);
  h.onAnswer = async () => await pay(payment);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', settledBy: 'close' });
});

test('paid after it was closed: the order takes the money', async () => {
  const payment = await newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await h.pass(62);
  expect([(await h.row(payment.id)).status, sessionOf(payment).status]).toEqual(['closed', 'expired']);
  expect(await h.orderStatus(payment)).toBe('unpaid');
  // Stripe says that no expired session can be paid. If one is all the same, the money is not lost.
  sessionOf(payment).status = 'open';
  await pay(payment);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
  expect(await h.orderStatus(payment)).toBe('succeeded');
});

test('a refund whose answer is lost, and Stripe silent for 25 h: its key is forgotten there, and it is paid once', async () => {
  const payment = await newPaid();
  let isSilent = true;
  h.onRefund = async (ask) => {
    if (isSilent) await ask();
    isSilent = false;
    await faults([{ kind: '500', of: '/v1/', times: 1_000_000 }]);
    return await ask();
  };
  const refund = await h.refund(payment, 700);
  await h.pass(25 * HOUR);
  expect(refundsAtStripe(payment)).toHaveLength(1);
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'created' });
  expect(await h.row(payment.id)).toMatchObject({ attention: 'refund_failing', refundedAmount: 0n });
  h.onRefund = undefined;
  await faults([]);
  await h.env.client.workflow.getHandle(`refund/${refund.id}`).result();
  expect(refundsAtStripe(payment)).toMatchObject([{ amount: 700 }]);
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 700n, attention: null });
});

test('a bank debit stays in process past the expiry, until the bank has decided', async () => {
  const payment = await newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await pay(payment, 'processing');
  await h.pass(20 * 60);
  expect(await h.row(payment.id)).toMatchObject({ status: 'paying', channelState: 'processing' });
  expect(sessionOf(payment).status).toBe('complete');
  await atStripe((books) => books.settle(intentOf(payment), true));
  await callBack();
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
});

test('cancelled: the session is expired at Stripe, and cannot be paid', async () => {
  const payment = await newPayment();
  await h.start(payment);
  await h.workflows.cancel(payment, NET_MS);
  await h.until(payment.id, 'cancelled');
  expect(sessionOf(payment).status).toBe('expired');
  await expect(pay(payment)).rejects.toThrow('is expired');
});

test('a refund made at the dashboard is external', async () => {
  const payment = await newPaid();
  await atStripe((books) => books.addRefund(intentOf(payment), 500, {}));
  await callBack();
  await eventually(async () => (await h.row(payment.id)).refundedAmount === 500n);
  expect(await refundsOf(payment)).toEqual([[500n, 'external', 'succeeded']]);
});

test('a dispute is shown with its amount and deadline, and no more once it is won', async () => {
  const payment = await newPaid();
  const dispute = await atStripe((books) =>
    books.addDispute(intentOf(payment), 'needs_response', books.now() + 7 * 24 * HOUR),
  );
  await callBack();
  await eventually(async () => (await h.row(payment.id)).attention === 'disputed');
  const { attentionDetail } = await h.row(payment.id);
  expect(attentionDetail).toContain('19.90');
  expect(attentionDetail).toContain(new Date(dispute.dueBy * 1000).toISOString().slice(0, 10));
  await atStripe((books) => books.changeDispute(dispute, 'won'));
  await callBack();
  await eventually(async () => (await h.row(payment.id)).attention === null);
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', refundedAmount: 0n });
});

test('paid by the simulator and by Stripe: what came second goes back, once', async () => {
  const first = await h.newPayment();
  const second = await newPayment({ orderId: first.orderId });
  await h.start(first);
  const run = await h.start(second);
  await pay(second);
  await h.simulator.pay(first.id);
  await h.callback(first);
  await h.until(first.id, 'succeeded');
  // Asked, as it is to be closed now.
  await run.result();
  expect(await h.row(second.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'conflict' });
  const [owed] = await h.db.refund.findMany({ where: { paymentId: second.id } });
  await h.env.client.workflow.getHandle(`refund/${owed?.id}`).result();
  expect(await h.row(second.id)).toMatchObject({ refundedAmount: 1990n, attention: null });
  // All that Stripe tells of it is known.
  await callBack();
  expect(await refundsOf(second)).toEqual([[1990n, 'duplicate_payment', 'succeeded']]);
  expect(refundsAtStripe(second)).toMatchObject([{ amount: 1990, status: 'succeeded' }]);
  expect(await refundsOf(first)).toEqual([]);
});
