import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { NewTrade } from '../../../src/domain/channel.ts';
import { oracleFolder, startWechatpayDouble, type WechatpayDouble } from '../../doubles/wechatpay/start.ts';
import { accountOf, newAdapter, newTrade, refundOf } from './support.ts';

/** Tests orders that a merchant's own code has created at the double, under the merchant's own numbers. */

const folder = oracleFolder();
let double: WechatpayDouble;
const adapter = newAdapter();
beforeAll(async () => {
  if (folder !== undefined) double = await startWechatpayDouble(folder);
});
afterAll(async () => await double?.stop());
beforeEach(async () => {
  if (folder === undefined) return;
  await double.tell('rules', {
    refundsBecome: 'SUCCESS',
    hasEnough: true,
    clockOffsetMs: 0,
    callbacks: 'lost',
  });
});

const account = () => accountOf(double.accounts.direct);
const read = (reference: string) => adapter.readTrade?.(account(), reference);

/** Creates an order as the merchant's own code does. */
async function order(): Promise<NewTrade> {
  const trade = newTrade({ outTradeNo: `SHOP-${randomUUID().slice(0, 8)}` }, 6);
  await adapter.createTrade(account(), trade);
  return { ...trade, isAdopted: true, reference: { id: trade.outTradeNo } };
}

describe.skipIf(folder === undefined)('adopted orders', () => {
  test("an order that the merchant created can be read, paid and refunded with the merchant's number", async () => {
    const trade = await order();
    const { outTradeNo: reference } = trade;
    expect(await read(reference)).toMatchObject({ reference, answer: { state: 'unpaid' } });
    expect(await double.tell('pay', { outTradeNo: reference })).toBe(true);
    const terms = { amount: 1990, currency: 'CNY' };
    expect(await read(reference)).toMatchObject({ reference, terms, answer: { state: 'paid', ...terms } });
    expect(await adapter.queryTrade(account(), trade)).toMatchObject({ state: 'paid', ...terms });
    expect((await adapter.refundTrade(account(), trade, refundOf(trade))).state).not.toBe('failed');
    // WeChat Pay does not report how much of the order's amount is left to refund, so nodrop cannot adopt the order.
    expect(await read(reference)).toMatchObject({ unfit: expect.stringMatching(/was refunded/) });
  });

  test('an order that the merchant created is reported as unknown if WeChat Pay does not know it', async () => {
    expect(await read('SHOP-none')).toEqual({ reference: 'SHOP-none', answer: { state: 'unknown_trade' } });
  });

  test('an order that the merchant created is reported as closed if it is closed at WeChat Pay', async () => {
    const trade = await order();
    await double.tell('setState', { outTradeNo: trade.outTradeNo, state: 'CLOSED' });
    expect((await read(trade.outTradeNo))?.answer).toEqual({ state: 'closed' });
  });
});
