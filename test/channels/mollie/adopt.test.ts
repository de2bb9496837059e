import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { ChannelAdapter } from '../../../src/domain/channel.ts';
import { type MollieDouble, startMollieDouble } from '../../doubles/mollie/start.ts';
import { ACCOUNT, adapterAt, created, idOf, newTrade, refundOf } from './support.ts';

/** Tests payments that a merchant's own code has created at the double, without a number that nodrop chose. */

let double: MollieDouble;
let adapter: ChannelAdapter;
beforeAll(async () => {
  double = await startMollieDouble();
  adapter = adapterAt(double.url);
});
afterAll(async () => await double?.stop());
beforeEach(async () => {
  await double.tell('reset', {});
});

const make = async (metadata: unknown = { order: 66 }) =>
  ((await double.tell('foreignPayment', { amount: 1050, metadata })) as { id: string }).id;
const become = (payment: string, status: 'pending' | 'paid' | 'canceled' | 'failed') =>
  double.tell('become', { payment, status });
const read = async (reference: string) => {
  if (adapter.readTrade === undefined) throw new Error('the adapter of Mollie has no readTrade');
  return await adapter.readTrade(ACCOUNT, reference);
};
const terms = { amount: 1050, currency: 'EUR' };

test('an adopted payment can be read with its terms, paid, and refunded', async () => {
  const id = await make();
  expect(await read(id)).toEqual({ reference: id, terms, answer: { state: 'unpaid' } });
  const trade = { ...newTrade({ outTradeNo: id, reference: { id } }), isAdopted: true as const };
  expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({ state: 'unpaid' });
  await become(id, 'paid');
  const paid = { state: 'paid', channelPaymentId: id, ...terms };
  expect(await adapter.queryTrade(ACCOUNT, trade)).toMatchObject(paid);
  expect(await read(id)).toMatchObject({ terms, answer: paid });
  const refund = refundOf(trade, { amount: 1050 });
  await adapter.refundTrade(ACCOUNT, trade, refund);
  await double.tell('finishRefunds', {});
  expect(await adapter.queryRefund(ACCOUNT, trade, refund)).toMatchObject({
    state: 'succeeded',
    amount: 1050,
  });
  expect((await read(id)).answer).toMatchObject({ state: 'refunded' });
});

test.each([
  ['pending', 'processing'],
  ['canceled', 'closed'],
  ['failed', 'failed'],
] as const)("an adopted payment with Mollie's status %s is reported as %s", async (status, state) => {
  const id = await make(null);
  await become(id, status);
  expect(await read(id)).toMatchObject({ terms, answer: { state } });
});

test('a payment that Mollie does not know is reported as unknown, not as an error of the account', async () => {
  expect(await read('tr_nobody')).toEqual({ reference: 'tr_nobody', answer: { state: 'unknown_trade' } });
});

test("a payment that nodrop has created is recognised as nodrop's own", async () => {
  expect(await read(idOf(await created(adapter)))).toMatchObject({ isOurs: true });
});
