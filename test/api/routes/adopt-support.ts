import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeEach } from 'vitest';
import { validated } from '../../../src/channels/validated-adapter.ts';
import type { VerifiedCallback } from '../../../src/domain/channel.ts';
import { endPayment, settlePayment } from '../../../src/ledger/payments.ts';
import { startSimulator } from '../../../src/simulator/app.ts';
import { ACCOUNT, client, newTrade, SECRETS } from '../../simulator/support.ts';
import { createSimulatorAdapter } from '../../support/simulator-adapter.ts';
import { CHANNEL_SECRET, newOrderId, setUp } from '../support.ts';

/**
 * Support for the tests of adoption. The merchant's own code creates trades at a real simulator, and the tests write to
 * the ledger what workflows would write.
 */

const folder = mkdtempSync(join(tmpdir(), 'nodrop-adopt-'));
const simulator = await startSimulator({
  folder,
  secrets: { ...SECRETS, simulator: CHANNEL_SECRET },
  host: '127.0.0.1',
  port: 0,
  logger: pino({ level: 'silent' }),
});
afterAll(async () => {
  await simulator.close();
  rmSync(folder, { recursive: true, force: true });
});
export const wallet = client(simulator.url);
export const own = createSimulatorAdapter({
  name: 'simulator',
  baseUrl: simulator.url,
  secret: CHANNEL_SECRET,
});

export const hooks: {
  /** If set, this callback replaces the content of every callback from the simulator. */
  callback?: VerifiedCallback | undefined;
  /** If set, this function is called once, when a trade is next read. */
  onRead?: (() => Promise<void>) | undefined;
} = {};
export const adapter = validated({
  ...own,
  // The rate limit is raised, because tests adopt trades faster than a shop does.
  declaration: { ...own.declaration, rateLimit: { perSecond: 10_000, source: 'this test' } },
  async verifyCallback(account, request) {
    return hooks.callback ?? (await own.verifyCallback(account, request));
  },
  async readTrade(account, reference, signal) {
    const hook = hooks.onRead;
    hooks.onRead = undefined;
    await hook?.();
    if (own.readTrade === undefined) throw new Error('the simulator can read trades');
    return await own.readTrade(account, reference, signal);
  },
});
const without = { ...own.declaration };
delete without.adoption;
export const channels = new Map([
  ['simulator', adapter],
  ['simulator2', { ...own, declaration: { ...without, name: 'simulator2' } }],
]);
export const { database, api, key, merchantId } = await setUp({ channels });

// Does the work of the workflow: settles recorded money, and ends a cancelled attempt as unpaid.
const [wake, cancel] = [api.workflows.wake.bind(api.workflows), api.workflows.cancel.bind(api.workflows)];
api.workflows.wake = async (row, ...args) => {
  await wake(row, ...args);
  await settlePayment(api.db, row.id, new Date());
};
api.workflows.cancel = async (row, ...args) => {
  await cancel(row, ...args);
  await endPayment(api.db, row.id, 'cancelled', 'unpaid.', new Date());
};

beforeEach(() => {
  api.workflows.calls.length = 0;
  api.workflows.down = false;
  hooks.onRead = undefined;
  hooks.callback = undefined;
});

/**
 * Creates a trade as the merchant's own code does.
 * @returns the trade's reference
 */
export async function trade(amount = 1050, outTradeNo = `shop-${randomUUID().slice(0, 8)}`): Promise<string> {
  await own.createTrade(ACCOUNT, newTrade({ outTradeNo, amount }));
  return outTradeNo;
}

export const adopting = (reference: string, change: object = {}) => ({
  order: { id: newOrderId(), amount: 1050, currency: 'CNY' },
  channel: 'simulator',
  adopt: { reference },
  ...change,
});
export const post = (body: unknown, as = key, at = api) => at.call('/v1/payments', { key: as, body });
export const rowsOf = (reference: string) => api.db.payment.findMany({ where: { reference } });
