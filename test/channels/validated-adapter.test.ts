import { describe, expect, test } from 'vitest';
import { createChannels } from '../../src/channels/registry.ts';
import { validated } from '../../src/channels/validated-adapter.ts';
import type {
  CallbackRefund,
  ChannelAdapter,
  ChannelAnswer,
  NewRefund,
  NewTrade,
  NextAction,
  RefundAnswer,
} from '../../src/domain/channel.ts';
import { CallbackError, ChannelError } from '../../src/domain/channel.ts';
import { ACCOUNT, refundNamed, SECRETS, signature, start, tradeNamed } from '../simulator/support.ts';

/** Tests how nodrop checks the answers of every adapter. The ledger cannot store an answer that fails this check. */

const PAID = {
  state: 'paid',
  channelPaymentId: 'trx',
  amount: 1050,
  currency: 'CNY',
  paidAt: '2026-01-01T00:00:00.000+08:00',
} as const;
const ACTION: NextAction = { type: 'redirect', url: 'https://wallet.example/', expiresAt: PAID.paidAt };
const BACK: RefundAnswer = {
  state: 'succeeded',
  channelRefundId: 'r',
  amount: 5,
  refundedAt: PAID.paidAt,
};
const BOTH_BACK = [
  { id: 'r1', amount: 50, state: 'succeeded' },
  { id: 'r2', amount: 1000, state: 'succeeded' },
];
const DISPUTE = { id: 'd', amount: 5, currency: 'CNY', state: 'open' };
const NUL = 'a\0b';
const HALF = 'a\ud83d';

function saying(
  said: {
    action?: object;
    reference?: object;
    trade?: object;
    refund?: object;
    notificationId?: string;
    outTradeNo?: string;
    told?: object;
  } = {},
) {
  const answer = { ...PAID, ...said.trade } as ChannelAnswer;
  const refund = { ...BACK, ...said.refund } as RefundAnswer;
  return validated({
    declaration: { name: 'careless' },
    createTrade: async () => ({ action: { ...ACTION, ...said.action }, reference: said.reference }),
    queryTrade: async () => answer,
    refundTrade: async () => refund,
    queryRefund: async () => refund,
    verifyCallback: async () => ({
      kind: 'trade',
      notificationId: said.notificationId ?? 'n',
      about: { outTradeNo: said.outTradeNo ?? 'pay_1' },
      answer,
      refund: { outRefundNo: 're_1', answer: refund, ...said.told } as CallbackRefund,
    }),
  } as unknown as ChannelAdapter);
}
const query = (trade: object) => saying({ trade }).queryTrade(ACCOUNT, tradeNamed('pay_1'));
const call = (said: Parameters<typeof saying>[0]) =>
  saying(said).verifyCallback(ACCOUNT, { headers: {}, rawBody: Buffer.from('{}') });

test('an answer that can be stored is returned unchanged', async () => {
  const limits = { channelPaymentId: 'x'.repeat(200), amount: Number.MAX_SAFE_INTEGER };
  for (const trade of [
    ...[
      {},
      limits,
      { state: 'refunded' },
      { state: 'refunded', refunds: BOTH_BACK },
      { payerAmount: 0, refundedAmount: 0 },
      { disputes: [DISPUTE, { ...DISPUTE, isInquiry: true }] },
    ],
    ...[{ paidAt: '1970-01-01T00:00:00Z' }, { paidAt: '9999-12-31T23:59:59.999Z' }],
  ])
    expect(await query(trade)).toEqual({ ...PAID, ...trade });
  expect(await saying().queryRefund(ACCOUNT, tradeNamed('pay_1'), refundNamed('re_1'))).toEqual(BACK);
  expect(await saying().createTrade(ACCOUNT, { outTradeNo: 'pay_1' } as NewTrade)).toEqual({
    action: ACTION,
  });
  expect(await call({ outTradeNo: 'pay_2' })).toMatchObject({ about: { outTradeNo: 'pay_2' }, answer: PAID });
});

describe('an answer or a callback that cannot be stored', () => {
  test.each<object>([
    { paidAt: '0000-01-01T00:00:00+23:59' },
    { paidAt: '9999-12-31T23:59:59-23:59' },
    { paidAt: '1970-01-01T00:00:00+00:01' },
    { paidAt: 'yesterday' },
    { channelPaymentId: '' },
    { channelPaymentId: 'x'.repeat(201) },
    { channelPaymentId: NUL },
    { channelPaymentId: HALF },
    { amount: 0 },
    { amount: 10.5 },
    { amount: 2 ** 53 },
    { currency: 'ABC' },
    { payerAmount: -1 },
    { refundedAmount: 0.5 },
    { state: 'refunded', refunds: [] },
    { state: 'refunded', refunds: [{ id: 'r', amount: 1050, state: 'processing' }] },
    { disputes: [{ ...DISPUTE, amount: 0 }] },
    { disputes: [DISPUTE, { ...DISPUTE, isInquiry: 'yes' }] },
    { state: 'failed', reason: NUL },
    { state: 'won' },
  ])(
    'an answer about a trade is garbage if it contains %o, and a callback with the same content is refused',
    async (trade) => {
      await expect(query(trade)).rejects.toMatchObject({ name: 'ChannelError', kind: 'garbage' });
      await expect(call({ trade })).rejects.toThrow(CallbackError);
    },
  );

  test.each<object>([
    { id: '' },
    { id: NUL },
    { id: 'x'.repeat(201) },
    { id: 'cs_1', data: { note: HALF } },
    { id: 'cs_1', data: { note: 'x'.repeat(4_096) } },
  ])('an answer that contains a reference with %o is garbage', async (reference) => {
    const created = saying({ reference }).createTrade(ACCOUNT, { outTradeNo: 'pay_1' } as NewTrade);
    await expect(created).rejects.toMatchObject({ name: 'ChannelError', kind: 'garbage' });
  });

  test.each<object>([
    { url: `https://wallet.example/${NUL}` },
    { type: 'qr', qr: HALF },
    { type: 'sdk', params: { token: NUL } },
    { expiresAt: 'soon' },
  ])('an answer that contains a next action with %o is garbage', async (action) => {
    const created = saying({ action }).createTrade(ACCOUNT, { outTradeNo: 'pay_1' } as NewTrade);
    await expect(created).rejects.toMatchObject({ name: 'ChannelError', kind: 'garbage' });
  });

  test.each<object>([
    { channelRefundId: NUL },
    { amount: 0 },
    { amount: 10.5 },
    { amount: undefined },
    { refundedAt: '9999-12-31T23:59:59-23:59' },
    { state: 'failed', reason: HALF },
  ])(
    'an answer about a refund is garbage if it contains %o, and a callback with the same content is refused',
    async (refund) => {
      const adapter = saying({ refund });
      for (const asked of [
        adapter.queryRefund(ACCOUNT, tradeNamed('pay_1'), refundNamed('re_1')),
        adapter.refundTrade(ACCOUNT, tradeNamed('pay_1'), { outRefundNo: 're_1' } as NewRefund),
      ])
        await expect(asked).rejects.toMatchObject({ name: 'ChannelError', kind: 'garbage' });
      await expect(call({ refund })).rejects.toThrow(CallbackError);
    },
  );

  test.each<Parameters<typeof saying>[0]>([
    { notificationId: 'x'.repeat(201) },
    { outTradeNo: 'x'.repeat(201) },
    { outTradeNo: NUL },
    { told: { outRefundNo: HALF } },
  ])('a callback with the value %o is malformed', async (said) => {
    await expect(call(said)).rejects.toMatchObject({ kind: 'malformed' });
  });

  test.each([false, 'yes'])('a notice whose field isProven is %s is malformed', async (isProven) => {
    const notice = { kind: 'notice', notificationId: 'n', about: { outTradeNo: 'pay_1' }, isProven };
    const adapter = validated({ verifyCallback: async () => notice } as unknown as ChannelAdapter);
    const taken = adapter.verifyCallback(ACCOUNT, { headers: {}, rawBody: Buffer.from('{}') });
    await expect(taken).rejects.toMatchObject({ kind: 'malformed' });
  });
});

test('callbacks of both simulator channels in the registry are validated', async () => {
  const { url } = await start();
  const channels = createChannels({ mode: 'test', simulator: { url }, stripe: {} }, { of: async () => [] });
  const data = { outTradeNo: 'p1', state: 'SUCCESS', amount: 1, currency: 'CNY', transactionId: 't' };
  const body = JSON.stringify({ type: 't', data: { ...data, paidAt: '9999-12-31T23:59:59-23:59' } });
  const now = Math.floor(Date.now() / 1000);
  for (const name of ['simulator', 'simulator2'] as const) {
    const headers = {
      'webhook-id': 'n',
      'webhook-timestamp': String(now),
      'webhook-signature': signature(SECRETS[name], 'n', now, body),
    };
    const account = { ...ACCOUNT, credentials: [{ secret: SECRETS[name] }] };
    const taken = channels.get(name)?.verifyCallback(account, { headers, rawBody: Buffer.from(body) });
    await expect(taken).rejects.toMatchObject({ kind: 'malformed' });
  }
});

test("characters of a channel's refusal that cannot be stored are replaced", () => {
  const { message } = new ChannelError('rejected', `PARAM_ERROR: ${NUL} ${HALF} 🙂`);
  expect(message).toBe('PARAM_ERROR: a\ufffdb a\ufffd 🙂');
});
