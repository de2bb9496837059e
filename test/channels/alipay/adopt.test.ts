import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ChannelAccount, NewTrade } from '../../../src/domain/channel.ts';
import { type AlipayDouble, oracleFolder, startAlipayDouble } from '../../doubles/alipay/start.ts';
import { accountOf, adapter, callback, linkOf, newTrade, open, pay, settingsOf, signed } from './support.ts';

/** Tests trades that a merchant's own code has created at the double, under the merchant's own numbers. */

describe.skipIf(oracleFolder() === undefined)('adopted trades', () => {
  let double: AlipayDouble;
  let account: ChannelAccount;
  beforeAll(async () => {
    double = await startAlipayDouble();
  });
  afterAll(() => double?.stop());
  beforeEach(async () => {
    await double.tell('reset');
    await double.tell('fate', { fate: 'lost' });
    account = accountOf(settingsOf(double));
  });

  const read = (reference: string) => adapter.readTrade?.(account, reference);

  /** Creates a link as the merchant's own code does. */
  async function link(): Promise<{ trade: NewTrade; url: string }> {
    const trade = newTrade({ outTradeNo: `SHOP_${randomUUID().replaceAll('-', '_')}` });
    const url = await linkOf(adapter, account, trade);
    return { trade: { ...trade, isAdopted: true, reference: { id: trade.outTradeNo } }, url };
  }

  test('a trade that the merchant created can be read, paid and refunded after the payer has opened it', async () => {
    const { trade, url } = await link();
    const { outTradeNo: reference } = trade;
    expect(await read(reference)).toEqual({ reference, answer: { state: 'unknown_trade' } });
    await open(url);
    const terms = { amount: 1050, currency: 'CNY' };
    expect(await read(reference)).toEqual({ reference, terms, answer: { state: 'unpaid' } });
    expect(await pay(url)).toBe(true);
    expect(await adapter.queryTrade(account, trade)).toMatchObject({ state: 'paid', ...terms });
    const refund = { outRefundNo: 'ref_adopted', channelRefundId: null, attempt: 1, total: 1050 };
    const back = await adapter.refundTrade(account, trade, { ...refund, amount: 1050, currency: 'CNY' });
    expect(back).toMatchObject({ state: 'succeeded', amount: 1050 });
    expect(await read(reference)).toMatchObject({ terms, answer: { state: 'refunded' } });
  });

  test("a notification identifies a trade that the merchant created, even if the trade's number is longer than nodrop's numbers", async () => {
    const [app_id, seller_id] = [
      account.credentials[0]?.app_id ?? '',
      account.credentials[0]?.seller_id ?? '',
    ];
    const out_trade_no = 'S'.repeat(64);
    const params = {
      ...{ app_id, seller_id, out_trade_no, charset: 'utf-8', notify_id: 'n1' },
      ...{
        notify_type: 'trade_status_sync',
        trade_no: '2026',
        trade_status: 'WAIT_BUYER_PAY',
        total_amount: '10.50',
      },
    };
    const body = signed(params, double.keys.alipayPrivateKey);
    expect(await adapter.verifyCallback(account, callback(body))).toMatchObject({
      kind: 'ignored',
      about: { outTradeNo: out_trade_no },
    });
  });
});
