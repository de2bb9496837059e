import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createAlipayAdapter } from '../../src/channels/alipay/adapter.ts';
import { validated } from '../../src/channels/validated-adapter.ts';
import { createWechatpayAdapter } from '../../src/channels/wechatpay/adapter.ts';
import { withCredentials } from '../../src/channels/with-credentials.ts';
import type { CallbackOutcome, ChannelAdapter, Credentials, Trade } from '../../src/domain/channel.ts';
import { storeCallback } from '../../src/ledger/callbacks.ts';
import { nextActionOf } from '../../src/ledger/payment-facts.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { forwardStoredCallback } from '../../src/temporal/forward-callback.ts';
import { settingsOf } from '../channels/alipay/support.ts';
import {
  type AlipayDouble,
  oracleFolder as alipayOracle,
  startAlipayDouble,
} from '../doubles/alipay/start.ts';
import {
  startWechatpayDouble,
  type WechatpayDouble,
  oracleFolder as wechatpayOracle,
} from '../doubles/wechatpay/start.ts';
import { NET_MS } from '../support/progress.ts';
import { eventually } from '../support/stack.ts';
import { type Harness, LATE_CANCELLATION, useHarness } from './harness.ts';

/**
 * Tests payments through Alipay and WeChat Pay from start to end. The adapters talk to doubles, which are
 * separate processes. The doubles' books use the virtual clock, but signatures use the real time, as in the
 * adapters. Callbacks arrive over HTTP, and the test handles them as the API does.
 */

const folder = wechatpayOracle();
const isComplete = folder !== undefined && alipayOracle() !== undefined;

let alipay: AlipayDouble;
let wechatpay: WechatpayDouble;
let receiver: Server;
let publicUrl: string;
/** The answers to the received callbacks, by channel. */
let answered: string[] = [];

beforeAll(async () => {
  if (!isComplete) return;
  [alipay, wechatpay] = await Promise.all([startAlipayDouble(), startWechatpayDouble(folder)]);
  receiver = createServer((request, response) => {
    receive(request)
      .then(([channel, outcome]) => {
        answered.push(`${channel} ${outcome}`);
        const answer = h.channels.get(channel)?.acknowledge?.(outcome);
        response.writeHead(answer?.status ?? 200).end(answer?.body);
      })
      .catch(() => response.writeHead(500).end());
  });
  await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve));
  publicUrl = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`;
});
afterAll(async () => {
  receiver?.close();
  await Promise.all([alipay?.stop(), wechatpay?.stop()]);
});

beforeEach(async () => {
  answered = [];
  await alipay.tell('reset');
  await wechatpay.tell('rules', { refundsBecome: 'SUCCESS', bookOffsetMs: 0, callbacks: 'sent' });
});

// Each test has its own harness, because the time-skipping server no longer skips time after an activity was
// cancelled.
const h = useHarness({ perTest: true, workflowInterceptors: LATE_CANCELLATION }, () => ({
  publicUrl,
  others: [createAlipayAdapter(), createWechatpayAdapter()].map((adapter) =>
    following(validated(withCredentials(adapter, { of: async () => [credentialsOf(adapter)] }))),
  ),
}));

const credentialsOf = ({ declaration: { name } }: ChannelAdapter): Credentials =>
  name === 'alipay' ? settingsOf(alipay) : wechatpay.accounts.direct;

/** How far virtual time is ahead of real time, in ms. */
const aheadMs = async () => Math.round((await h.now()) - Date.now());

/** Sets the books of both doubles to the virtual time. */
async function follow(): Promise<void> {
  const offsetMs = await aheadMs();
  await alipay.tell('bookClock', { offsetMs });
  await wechatpay.tell('rules', { bookOffsetMs: offsetMs });
}

/** The adapter that is used in production. Here it makes its calls at the virtual time. */
function following(adapter: ChannelAdapter): ChannelAdapter {
  const after =
    <Given extends unknown[], Answer>(ask: (...given: Given) => Promise<Answer>) =>
    async (...given: Given) => {
      await follow();
      return await ask(...given);
    };
  const moved = (time: string, byMs: number) => new Date(Date.parse(time) + byMs).toISOString();
  return {
    ...adapter,
    createTrade: after(adapter.createTrade),
    queryTrade: after(adapter.queryTrade),
    // The adapter computes a payment's age with the real clock. So the trade's times are converted to the real clock.
    closeTrade: after(async (account, trade: Trade, signal) => {
      const ahead = await aheadMs();
      const aged = {
        ...trade,
        createdAt: moved(trade.createdAt, -ahead),
        ...(trade.askedAt === undefined ? {} : { askedAt: moved(trade.askedAt, -ahead) }),
      };
      const answer = await adapter.closeTrade(account, aged, signal);
      return answer.state === 'not_yet' ? { ...answer, until: moved(answer.until, ahead) } : answer;
    }),
    refundTrade: after(adapter.refundTrade),
    queryRefund: after(adapter.queryRefund),
  };
}

/** Receives a callback as the API does. */
async function receive(request: IncomingMessage): Promise<[string, CallbackOutcome]> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const rawBody = Buffer.concat(chunks);
  const [, , channel = '', accountId = ''] = (request.url ?? '').split('/');
  const adapter = h.channels.get(channel);
  if (adapter === undefined) throw new Error(`there is no channel ${channel}`);
  const account = {
    id: accountId,
    merchantId: h.merchant.id,
    channel,
    credentials: [credentialsOf(adapter)],
  };
  const callback = await adapter.verifyCallback(account, { headers: request.headers, rawBody });
  if (callback.kind === 'ignored') return [channel, 'ignored'];
  const now = new Date(await h.now());
  const stored = await storeCallback(h.db, accountId, callback, rawBody, now);
  if (stored.payment === null) throw new Error('the callback belongs to no payment');
  await forwardStoredCallback(h, stored, stored.payment, now, NET_MS);
  return [channel, 'stored'];
}

async function callbacks(fate: 'come' | 'are lost'): Promise<void> {
  await alipay.tell('fate', { fate: fate === 'come' ? 'delivered' : 'lost' });
  await wechatpay.tell('rules', { callbacks: fate === 'come' ? 'sent' : 'lost' });
}

const METHODS = [
  ['alipay', 'page', 'redirect'],
  ['alipay', 'wap', 'redirect'],
  ['alipay', 'precreate', 'qr'],
  ['wechatpay', 'native', 'qr'],
  ['wechatpay', 'h5', 'redirect'],
  ['wechatpay', 'jsapi', 'sdk'],
  ['wechatpay', 'app', 'sdk'],
] as const;
type Channel = (typeof METHODS)[number][0];

async function newPayment(
  channel: Channel,
  method: string = channel === 'alipay' ? 'page' : 'native',
  options: Parameters<Harness['newPayment']>[0] = {},
): Promise<Payment> {
  const { id } = await h.newPayment({ channel, method, ...options });
  const payer = { id: 'o-openid-1', ip: '203.0.113.7' };
  return await h.db.payment.update({ where: { id }, data: { payer } });
}

/** Pays with the payment's next action, as a payer does. */
async function pay({ id, channel }: Payment): Promise<void> {
  await follow();
  const action = nextActionOf(await h.row(id));
  expect(action).not.toBeNull();
  const isPaid =
    channel === 'alipay'
      ? (await fetch(action?.url ?? action?.qr ?? '', { method: 'POST' })).ok
      : await wechatpay.tell('pay', { outTradeNo: id });
  expect(isPaid, 'the channel lets the payer pay').toBe(true);
}

/** Pays as a payer does, and waits for the callback. Virtual time does not pass meanwhile. */
async function payAndTell(payment: Payment): Promise<void> {
  const before = answered.length;
  await pay(payment);
  await eventually(() => answered.length > before);
}

/** The amount that the channel has refunded or is still refunding, in yuan. */
async function backAtChannel({ id: outTradeNo, channel }: Payment): Promise<number> {
  if (channel === 'alipay') {
    const { app_id: appId } = settingsOf(alipay);
    return Number((await alipay.tell<{ refunded: string }>('books', { appId, outTradeNo })).refunded);
  }
  return ((await wechatpay.tell('books', { outTradeNo })) as { refunded: number }).refunded / 100;
}

const refundsOf = async ({ id: paymentId }: Payment) =>
  (await h.db.refund.findMany({ where: { paymentId }, orderBy: { createdAt: 'asc' } })).map(
    ({ amount, reason, status }) => [amount, reason, status],
  );

/** A payment that is paid. Its callback arrived before the first query. */
async function newPaid(channel: Channel): Promise<Payment> {
  const payment = await newPayment(channel);
  const run = await h.start(payment);
  await payAndTell(payment);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ settledBy: 'callback', orderUpdate: 'applied' });
  return payment;
}

const refundRun = (id: string) => h.env.client.workflow.getHandle(`refund/${id}`);

describe.skipIf(!isComplete)('Alipay and WeChat Pay', () => {
  test.each(METHODS)(
    '%s, %s: the callback pays the order, and if the callback is lost, a query pays the order',
    async (channel, method, type) => {
      const told = await newPayment(channel, method);
      const run = await h.start(told);
      const action = nextActionOf(await h.row(told.id));
      expect(action).toMatchObject({ type });
      // The payer can read this link. So its callback URL names only the account and contains no proof.
      if (channel === 'alipay' && type === 'redirect')
        expect(new URL(action?.url ?? '').searchParams.get('notify_url')).toBe(
          `${publicUrl}/callbacks/alipay/${told.channelAccountId}`,
        );
      await payAndTell(told);
      await run.result();
      const paid = { status: 'succeeded', orderUpdate: 'applied', receivedAmount: 1990n, attention: null };
      expect(await h.row(told.id)).toMatchObject({ ...paid, settledBy: 'callback' });
      expect(await h.orderStatus(told)).toBe('succeeded');
      expect(h.askedAt(told)).toEqual([]);
      expect(answered).toEqual([`${channel} stored`]);

      await callbacks('are lost');
      const lost = await newPayment(channel, method);
      const second = await h.start(lost);
      await pay(lost);
      await second.result();
      expect(await h.row(lost.id)).toMatchObject({ ...paid, settledBy: 'query' });
      expect(await h.orderStatus(lost)).toBe('succeeded');
      expect(h.askedAt(lost)).toHaveLength(1);
      expect(answered).toHaveLength(1);
    },
  );

  test.each(['alipay', 'wechatpay'] as const)(
    '%s: an unpaid payment is closed at its expiry',
    async (channel) => {
      const payment = await newPayment(channel, undefined, { expiresInMs: 10 * 60_000 });
      await h.start(payment);
      await h.pass(11 * 60);
      await h.until(payment.id, 'closed');
      expect(await h.orderStatus(payment)).toBe('unpaid');
    },
  );

  test.each([
    ['alipay', 'wechatpay'],
    ['wechatpay', 'alipay'],
  ] as const)(
    'if an order is paid through %s and through %s, the second payment is refunded once',
    async (one, other) => {
      const first = await newPayment(one);
      const second = await newPayment(other, undefined, { orderId: first.orderId });
      await h.start(first);
      const run = await h.start(second);
      await callbacks('are lost');
      await pay(second);
      await callbacks('come');
      await pay(first);
      await h.until(first.id, 'succeeded');
      // The payment must be closed now, so nodrop queries it first.
      await run.result();
      expect(await h.row(second.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'conflict' });
      const [owed] = await h.db.refund.findMany({ where: { paymentId: second.id } });
      if (other === 'wechatpay') {
        await h.untilRefund(owed?.id ?? '', 'processing');
        await wechatpay.tell('finishRefunds', {});
      }
      await refundRun(owed?.id ?? '').result();
      expect(await h.row(second.id)).toMatchObject({ refundedAmount: 1990n, attention: null });
      expect(await refundsOf(second)).toEqual([[1990n, 'duplicate_payment', 'succeeded']]);
      expect(await backAtChannel(second)).toBe(19.9);
      expect(await refundsOf(first)).toEqual([]);
      expect(await backAtChannel(first)).toBe(0);
      expect(await h.orderStatus(first)).toBe('succeeded');
    },
  );

  test('WeChat Pay: a refund that becomes abnormal needs a person, and succeeds after the merchant has handled it', async () => {
    const payment = await newPaid('wechatpay');
    await wechatpay.tell('rules', { refundsBecome: 'ABNORMAL' });
    const refund = await h.refund(payment, 700);
    await h.untilRefund(refund.id, 'processing');
    await wechatpay.tell('finishRefunds', {});
    await h.pass(3600);
    await h.untilRefund(refund.id, 'needs_person');
    expect(await h.row(payment.id)).toMatchObject({
      ...{ attention: 'refund_failing', refundedAmount: 0n },
      attentionDetail: expect.stringContaining('handle the refund at the merchant platform'),
    });
    await wechatpay.tell('rules', { refundsBecome: 'SUCCESS' });
    await wechatpay.tell('handleRefunds', {});
    await wechatpay.tell('finishRefunds', {});
    await refundRun(refund.id).result();
    expect(await h.row(payment.id)).toMatchObject({ attention: null, refundedAmount: 700n });
    expect(await refundsOf(payment)).toEqual([[700n, 'requested', 'succeeded']]);
  });

  test('WeChat Pay: if a payment was refunded at the merchant platform before nodrop recorded the money, the payment pays no order', async () => {
    await callbacks('are lost');
    const payment = await newPayment('wechatpay');
    const run = await h.start(payment);
    await pay(payment);
    await wechatpay.tell('refundAtPlatform', { outTradeNo: payment.id, amount: 1990 });
    await run.result();
    expect(await h.row(payment.id)).toMatchObject({
      ...{ status: 'succeeded', orderUpdate: 'review', attention: 'amount_mismatch', refundedAmount: 0n },
      attentionDetail: expect.stringContaining('not how much'),
    });
    expect(await h.orderStatus(payment)).not.toBe('succeeded');
    expect(await refundsOf(payment)).toEqual([]);
  });

  test('WeChat Pay: a refund at the merchant platform raises an attention, and the callback about this refund records the refund as external', async () => {
    const payment = await newPaid('wechatpay');
    const { mchid = '' } = wechatpay.accounts.direct;
    await wechatpay.tell('refundAtPlatform', { outTradeNo: payment.id, amount: 500 });
    await h.ask(payment);
    expect(await h.row(payment.id)).toMatchObject({ attention: 'channel_reversed', refundedAmount: 0n });
    const url = `${publicUrl}/callbacks/wechatpay/${payment.channelAccountId}`;
    await wechatpay.tell('refundNotifyUrl', { mchid, url });
    await wechatpay.tell('finishRefunds', {});
    await wechatpay.tell('refundNotifyUrl', { mchid, url: null });
    await eventually(async () => (await h.row(payment.id)).refundedAmount === 500n);
    expect(await refundsOf(payment)).toEqual([[500n, 'external', 'succeeded']]);
    expect((await h.row(payment.id)).attentionDetail).toContain('CNY 5.00 was refunded');
  });

  test('Alipay: the notification of a refund made on the merchant’s pages records the refund as external', async () => {
    const payment = await newPaid('alipay');
    const { app_id: appId } = settingsOf(alipay);
    await alipay.tell('refund', { appId, outTradeNo: payment.id, amount: '5.00' });
    await eventually(async () => (await h.row(payment.id)).refundedAmount === 500n);
    expect(await refundsOf(payment)).toEqual([[500n, 'external', 'succeeded']]);
    expect(await h.row(payment.id)).toMatchObject({ attention: 'channel_reversed' });
  });
});
