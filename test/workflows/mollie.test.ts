import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { validated } from '../../src/channels/validated-adapter.ts';
import { withCredentials } from '../../src/channels/with-credentials.ts';
import { isCallbackProof } from '../../src/client-token.ts';
import type { ChannelAdapter } from '../../src/domain/channel.ts';
import { findNamed } from '../../src/ledger/callbacks.ts';
import { recordNotice } from '../../src/ledger/hints.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { adapterAt, CREDENTIALS, stateOf } from '../channels/mollie/support.ts';
import type { WebhookCall } from '../doubles/mollie/books.ts';
import { type MollieDouble, startMollieDouble } from '../doubles/mollie/start.ts';
import { NET_MS } from '../support/progress.ts';
import { eventually } from '../support/stack.ts';
import { type Harness, LATE_CANCELLATION, SECRET, useHarness } from './harness.ts';

/**
 * Tests payments through Mollie from start to end. The adapter talks to a double of Mollie, which is a separate
 * process with the virtual clock. The double's webhook calls reach nodrop only when a test delivers them.
 */

const MINUTE = 60;

let double: MollieDouble;
/** How many of the double's webhook calls the test has delivered or dropped. */
let told = 0;

/** Sets the double's clock to the server's virtual time before each call to Mollie. */
async function follow(): Promise<void> {
  await double.tell('clock', { offsetMs: (await h.now()) - Date.now() });
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

beforeAll(async () => {
  double = await startMollieDouble();
});
afterAll(async () => await double?.stop());

beforeEach(async () => {
  told = 0;
  await double.tell('reset', {});
  await double.tell('webhooks', { called: false });
});

// Each test has its own harness, because the time-skipping server no longer skips time after an activity was
// cancelled.
const h = useHarness({ perTest: true, workflowInterceptors: LATE_CANCELLATION }, () => ({
  others: [following(validated(withCredentials(adapterAt(double.url), { of: async () => [CREDENTIALS] })))],
}));

const newPayment = (changes: Parameters<Harness['newPayment']>[0] = {}) =>
  h.newPayment({ channel: 'mollie', method: 'checkout', currency: 'EUR', ...changes });

async function atMollie({ id }: Payment) {
  const { payments, refunds, chargebacks } = await stateOf(double);
  const payment = payments.find(({ metadata }) => metadata?.nodrop_payment === id);
  if (payment === undefined) throw new Error('Mollie has no payment for it');
  return {
    payment,
    refunds: refunds.filter((refund) => refund.payment === payment.id),
    chargebacks: chargebacks.filter((chargeback) => chargeback.payment === payment.id),
  };
}

/** Changes something at Mollie. The change happens at the current virtual time. */
const tell: MollieDouble['tell'] = async (command, given) => {
  await follow();
  return await double.tell(command, given);
};

const become = async (payment: Payment, status: 'pending' | 'paid' | 'failed') =>
  await tell('become', { payment: (await atMollie(payment)).payment.id, status });

/**
 * Delivers Mollie's recent webhook calls to the payment's own callback URL, as the API receives them.
 */
async function callBack(): Promise<void> {
  const adapter = h.channels.get('mollie');
  if (adapter === undefined) throw new Error('there is no such channel');
  const row = await h.db.channelAccount.findFirstOrThrow({ where: { channel: 'mollie' } });
  const account = { id: row.id, merchantId: row.merchantId, channel: 'mollie', credentials: [CREDENTIALS] };
  const calls = (await double.tell('calls', {})) as readonly WebhookCall[];
  expect(calls.length, 'calls of webhooks').toBeGreaterThan(told);
  for (const { url, body } of calls.slice(told)) {
    const [, , channel, accountId = '', paymentId = '', proof = ''] = new URL(url).pathname.split('/');
    expect([channel, accountId]).toEqual(['mollie', row.id]);
    expect(isCallbackProof(SECRET, accountId, paymentId, proof), 'the proof in the address').toBe(true);
    const callback = await adapter.verifyCallback(account, { headers: {}, rawBody: Buffer.from(body) });
    if (callback.kind !== 'notice') throw new Error(`a ${callback.kind} in place of a notice`);
    const named = await findNamed(h.db, row.id, callback.about);
    expect(named?.id, 'the payment that the body names').toBe(paymentId);
    const payment = await h.row(paymentId);
    await recordNotice(h.db, paymentId, true, 'The channel sent a notice.', new Date(await h.now()));
    await h.workflows.notice(payment, NET_MS);
  }
  told = calls.length;
}

/**
 * A query detects that the payment is paid, and no notice is delivered. A notice would cancel the query, and
 * then the server would no longer skip time.
 */
async function newPaid(): Promise<Payment> {
  const payment = await newPayment();
  const run = await h.start(payment);
  await become(payment, 'paid');
  await run.result();
  told = ((await double.tell('calls', {})) as unknown[]).length;
  return payment;
}

const refundsOf = async ({ id: paymentId }: Payment) =>
  (await h.db.refund.findMany({ where: { paymentId }, orderBy: { createdAt: 'asc' } })).map(
    ({ amount, reason, status }) => [amount, reason, status],
  );

test('Mollie: a callback causes an immediate query, whose answer pays the order', async () => {
  const payment = await newPayment();
  const run = await h.start(payment);
  await become(payment, 'paid');
  await callBack();
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({
    ...{ status: 'succeeded', orderUpdate: 'applied', receivedAmount: 1990n },
    channelPaymentId: (await atMollie(payment)).payment.id,
  });
  // All these queries were sent long before the first scheduled query is due.
  for (const at of h.askedAt(payment)) expect(at).toBeLessThan(10);
});

test('Mollie: if the callback is lost, a scheduled query pays the order', async () => {
  const payment = await newPayment();
  const run = await h.start(payment);
  await become(payment, 'paid');
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({
    ...{ status: 'succeeded', orderUpdate: 'applied', settledBy: 'query' },
  });
  expect(Math.round(h.askedAt(payment)[0] ?? 0)).toBe(10);
});

test('Mollie: a payment that cannot be cancelled at its expiry stays open until Mollie expires it', async () => {
  const payment = await newPayment({ expiresInMs: 60_000 });
  await h.start(payment);
  await h.pass(5 * MINUTE);
  expect((await h.row(payment.id)).status).toBe('paying');
  expect((await atMollie(payment)).payment.status).toBe('open');
  await h.pass(20 * MINUTE);
  expect((await h.row(payment.id)).status).toBe('closed');
  expect((await atMollie(payment)).payment.status).toBe('expired');
  expect(await h.orderStatus(payment)).toBe('unpaid');
});

test('Mollie: if a payment cannot be cancelled and the payer pays after the expiry, the money pays the order', async () => {
  const payment = await newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await h.pass(5 * MINUTE);
  await become(payment, 'paid');
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
});

test('Mollie: a payment that Mollie cancels can no longer be paid', async () => {
  const payment = await newPayment();
  await h.start(payment);
  await tell('cancelable', { payment: (await atMollie(payment)).payment.id, is: true });
  await h.workflows.cancel(payment, NET_MS);
  await h.until(payment.id, 'cancelled');
  expect((await atMollie(payment)).payment.status).toBe('canceled');
  await expect(become(payment, 'paid')).rejects.toThrow('is canceled');
});

test('Mollie: a refund is processing until Mollie has sent it', async () => {
  const payment = await newPaid();
  const refund = await h.refund(payment, 700);
  await h.untilRefund(refund.id, 'processing');
  await tell('finishRefunds', {});
  await h.env.client.workflow.getHandle(`refund/${refund.id}`).result();
  expect(await refundsOf(payment)).toEqual([[700n, 'requested', 'succeeded']]);
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 700n, attention: null });
  expect((await atMollie(payment)).refunds).toMatchObject([
    { amount: 700, status: 'refunded', metadata: { nodrop_refund: refund.id } },
  ]);
});

test('Mollie: a refund whose answer is lost is made only once, even if Mollie is silent for 2 h and forgets the idempotency key', async () => {
  const payment = await newPaid();
  let isSilent = true;
  h.onRefund = async (ask) => {
    if (isSilent) await ask();
    isSilent = false;
    await double.tell('faults', [{ kind: '500', of: '/v2/', times: 1_000_000 }]);
    return await ask();
  };
  const refund = await h.refund(payment, 700);
  await h.pass(2 * 60 * MINUTE);
  expect((await atMollie(payment)).refunds).toHaveLength(1);
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'created' });
  expect(await h.row(payment.id)).toMatchObject({ attention: 'refund_failing', refundedAmount: 0n });
  h.onRefund = undefined;
  await double.tell('faults', []);
  await tell('finishRefunds', {});
  await h.env.client.workflow.getHandle(`refund/${refund.id}`).result();
  expect((await atMollie(payment)).refunds).toMatchObject([{ amount: 700 }]);
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 700n, attention: null });
});

test('Mollie: a refund made in Mollie’s dashboard is recorded as external', async () => {
  const payment = await newPaid();
  await tell('dashboardRefund', { payment: (await atMollie(payment)).payment.id, amount: 500 });
  await tell('finishRefunds', {});
  await callBack();
  await eventually(async () => (await h.row(payment.id)).refundedAmount === 500n);
  expect(await refundsOf(payment)).toEqual([[500n, 'external', 'succeeded']]);
});

test('Mollie: a chargeback raises an attention, and its amount stays in the refunded amount until the chargeback is reversed', async () => {
  const payment = await newPaid();
  await tell('chargeback', { payment: (await atMollie(payment)).payment.id });
  await callBack();
  await eventually(async () => (await h.row(payment.id)).refundedAmount === 1990n);
  const { chargebacks } = await atMollie(payment);
  const taken = await h.row(payment.id);
  expect(taken).toMatchObject({ status: 'succeeded', attention: 'channel_reversed' });
  expect(taken.attentionDetail).toContain(chargebacks[0]?.id);
  expect(await h.orderStatus(payment)).toBe('refunded');
  await tell('reverse', { chargeback: chargebacks[0]?.id ?? '' });
  await callBack();
  await eventually(async () => (await h.row(payment.id)).refundedAmount === 0n);
  // The order does not become paid again automatically.
  expect(await h.orderStatus(payment)).toBe('refunded');
});
