import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import type { ChannelAdapter, NewTrade } from '../../../src/domain/channel.ts';
import { oracleFolder, startWechatpayDouble, type WechatpayDouble } from '../../doubles/wechatpay/start.ts';
import { accountOf, newAdapter, newTrade } from './support.ts';

/**
 * Shared set-up of the WeChat Pay adapter's tests against the double. The double has its own code to verify and sign.
 */

export const folder = oracleFolder();
export let double: WechatpayDouble;
export let adapter: ChannelAdapter;

beforeAll(async () => {
  if (folder !== undefined) double = await startWechatpayDouble(folder);
});
afterAll(async () => await double?.stop());
beforeEach(async () => {
  adapter = newAdapter();
  if (folder !== undefined) {
    await double.tell('rules', {
      ...{ refundsBecome: 'SUCCESS', reopensClosedRefunds: true, hasEnough: true },
      ...{ clockOffsetMs: 0, callbacks: 'lost' },
    });
  }
});

export const direct = () => accountOf(double.accounts.direct);
export const seen = async () =>
  (await double.tell('seen', {})) as { method: string; path: string; body: string }[];
export const lastBody = async () =>
  JSON.parse((await seen()).findLast(({ method }) => method === 'POST')?.body ?? '{}');

export async function createdTrade(trade = newTrade()): Promise<NewTrade> {
  await adapter.createTrade(direct(), trade);
  return trade;
}

export async function paidTrade(): Promise<NewTrade> {
  const trade = await createdTrade();
  expect(await double.tell('pay', { outTradeNo: trade.outTradeNo })).toBe(true);
  return trade;
}
