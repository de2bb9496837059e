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
 * Tests payments through Stripe from start to end. The adapter talks to a double of Stripe, which uses the
 * virtual clock. The double's events reach nodrop only when a test delivers them.
 */

const HOUR = 3600;

let double: RunningDouble;
/** How many of the double's events the test has delivered or dropped. */
let told = 0;

/** Sets the double's clock to the server's virtual time before each call to Stripe. */
async function follow(): Promise<void> {
  double.books.clockOffsetS = Math.floor(((await h.now()) - Date.now()) / 1000);
}

/** The adapter that is used in production. Here it makes its calls at the virtual time. */
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

// Each test has its own harness, because the time-skipping server no longer skips time after an activity was
// cancelled. This happens in these tests, because Stripe sends several events together. The first event starts
// a query, and the next event cancels it.
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
  if (session === undefined) throw new Error('Stripe has no session for it');
  return session;
}

function intentOf(payment: Payment): Intent {
  const intent = double.books.intents.get(sessionOf(payment).intent ?? '');
  if (intent === undefined) throw new Error('no payer has begun to pay it');
  return intent;
}

/** Changes something at Stripe. The change happens at the current virtual time. */
async function atStripe<T>(act: (books: RunningDouble['books']) => T): Promise<T> {
  await follow();
  return act(double.books);
}

const pay = (payment: Payment, outcome: 'paid' | 'processing' = 'paid') =>
  atStripe((books) => books.pay(sessionOf(payment), outcome));

/** Delivers Stripe's recent events as callbacks, as the API receives them. */
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

/**
 * A query detects that the payment is paid, and no callback is delivered. Callbacks cancel running queries, and
 * then the server would no longer skip time.
 */
async function newPaid(): Promise<Payment> {
  const payment = await newPayment();
  const run = await h.start(payment);
  await pay(payment);
  await run.result();
  told = double.books.events.length;
  return payment;
}

test('Stripe: a callback pays the order', async () => {
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
  // The event about the session is a notice. It arrives long before the first scheduled query.
  for (const at of h.askedAt(payment)) expect(at).toBeLessThan(10);
});

test('Stripe: if the callback is lost, a scheduled query pays the order', async () => {
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

test('Stripe: if the payer pays between the last query and the close, the session cannot be expired and the order is paid', async () => {
  const payment = await newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await h.pass(55);
  h.onAnswer = async () => await pay(payment);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', settledBy: 'close' });
});

test('Stripe: money that arrives after the close pays the order', async () => {
  const payment = await newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await h.pass(62);
  expect([(await h.row(payment.id)).status, sessionOf(payment).status]).toEqual(['closed', 'expired']);
  expect(await h.orderStatus(payment)).toBe('unpaid');
  // By Stripe's documentation, an expired session cannot be paid. If a session is paid anyway, the money is not lost.
  sessionOf(payment).status = 'open';
  await pay(payment);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
  expect(await h.orderStatus(payment)).toBe('succeeded');
});

test('Stripe: a refund whose answer is lost is made only once, even if Stripe is silent for 25 h and forgets the idempotency key', async () => {
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

test('Stripe: a bank debit stays in process after the expiry until the bank decides', async () => {
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

test('Stripe: the session of a cancelled payment is expired and can no longer be paid', async () => {
  const payment = await newPayment();
  await h.start(payment);
  await h.workflows.cancel(payment, NET_MS);
  await h.until(payment.id, 'cancelled');
  expect(sessionOf(payment).status).toBe('expired');
  await expect(pay(payment)).rejects.toThrow('is expired');
});

test('Stripe: a refund made in Stripe’s dashboard is recorded as external', async () => {
  const payment = await newPaid();
  await atStripe((books) => books.addRefund(intentOf(payment), 500, {}));
  await callBack();
  await eventually(async () => (await h.row(payment.id)).refundedAmount === 500n);
  expect(await refundsOf(payment)).toEqual([[500n, 'external', 'succeeded']]);
});

test('Stripe: a dispute raises an attention with the amount and the deadline, and winning the dispute clears the attention', async () => {
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

test('if an order is paid through the simulator and through Stripe, the payment that is settled second is refunded once', async () => {
  const first = await h.newPayment();
  const second = await newPayment({ orderId: first.orderId });
  await h.start(first);
  const run = await h.start(second);
  await pay(second);
  await h.simulator.pay(first.id);
  await h.callback(first);
  await h.until(first.id, 'succeeded');
  // The payment must be closed now, so nodrop queries it first.
  await run.result();
  expect(await h.row(second.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'conflict' });
  const [owed] = await h.db.refund.findMany({ where: { paymentId: second.id } });
  await h.env.client.workflow.getHandle(`refund/${owed?.id}`).result();
  expect(await h.row(second.id)).toMatchObject({ refundedAmount: 1990n, attention: null });
  // The test delivers all events that Stripe sends about the refund.
  await callBack();
  expect(await refundsOf(second)).toEqual([[1990n, 'duplicate_payment', 'succeeded']]);
  expect(refundsAtStripe(second)).toMatchObject([{ amount: 1990, status: 'succeeded' }]);
  expect(await refundsOf(first)).toEqual([]);
});
