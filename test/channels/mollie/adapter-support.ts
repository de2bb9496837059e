import { afterAll, beforeAll, beforeEach } from 'vitest';
import type { ChannelAdapter, NewTrade, Trade } from '../../../src/domain/channel.ts';
import { type MollieDouble, startMollieDouble } from '../../doubles/mollie/start.ts';
import type { Sent } from '../contract/http.ts';
import { ACCOUNT, adapterAt, created, idOf, newTrade } from './support.ts';

/**
 * Shared set-up of the Mollie adapter's tests against the double. The double is a separate process with its own books.
 */

export let double: MollieDouble;
export let adapter: ChannelAdapter;
beforeAll(async () => {
  double = await startMollieDouble();
  adapter = adapterAt(double.url);
});
afterAll(async () => await double?.stop());
beforeEach(async () => {
  await double.tell('reset', {});
  await double.tell('webhooks', { called: false });
});

export const requests = async () => (await double.tell('requests', {})) as readonly Sent[];
export const become = (
  trade: Trade,
  status: 'pending' | 'authorized' | 'paid' | 'canceled' | 'expired' | 'failed',
) => double.tell('become', { payment: idOf(trade), status });
export const query = (trade: Trade) => adapter.queryTrade(ACCOUNT, trade);
export const close = (trade: Trade) => adapter.closeTrade(ACCOUNT, trade);
export async function paid(changes: Partial<NewTrade> = {}): Promise<NewTrade> {
  const trade = await created(adapter, newTrade(changes));
  await become(trade, 'paid');
  return trade;
}
