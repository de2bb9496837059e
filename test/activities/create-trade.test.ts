import { expect, test } from 'vitest';
import { callbackProof } from '../../src/client-token.ts';
import type { ChannelAdapter } from '../../src/domain/channel.ts';
import { createSimulatorAdapter } from '../support/simulator-adapter.ts';
import { runActivities, SECRET, useLedger } from './support.ts';

/**
 * Tests that nodrop sends no request to create a trade if the payment has expired while the database was slow. Also
 * tests the callback URL of each trade.
 */

const AT = Date.UTC(2026, 10, 27);
const EXPIRES_IN_MS = 600_000;

const ledger = useLedger();

/**
 * Creates a payment and runs the activity that creates its trade. In the activity, reading the payment's row takes
 * `readAfterMs`.
 */
async function create(readAfterMs: number) {
  let clock = AT;
  let requests = 0;
  const addresses: string[] = [];
  const channel: ChannelAdapter = {
    ...createSimulatorAdapter({ name: 'simulator', baseUrl: 'http://127.0.0.1:9', secret: 'whsec_AAAA' }),
    async createTrade(_account, { notifyUrl }) {
      requests += 1;
      addresses.push(notifyUrl);
      return { action: { type: 'redirect', url: 'https://wallet.example/' } };
    },
  };
  const { db } = ledger;
  const slow = async (...args: Parameters<typeof db.$queryRaw>) => {
    const rows = await db.$queryRaw(...args);
    clock = AT + readAfterMs;
    return rows;
  };
  const { id } = await ledger.newPayment(AT, { expiresInMs: EXPIRES_IN_MS });
  const outcome = await runActivities({
    db: new Proxy(db, {
      get: (target, name) => (name === '$queryRaw' ? slow : Reflect.get(target, name)),
    }),
    channels: new Map([['simulator', channel]]),
    clock: () => clock,
  }).create(id);
  const { status } = await db.payment.findUniqueOrThrow({ where: { id } });
  return { requests, addresses, outcome, status, id };
}

test('the trade is created if nodrop reads the row of the payment just before the expiry', async () => {
  expect(await create(EXPIRES_IN_MS - 1)).toMatchObject({ requests: 1, status: 'paying' });
});

test('if the payment expires while nodrop reads its row, nodrop requests no trade, and the activity fails with a retryable error', async () => {
  const { requests, outcome, status } = await create(EXPIRES_IN_MS);
  expect(requests).toBe(0);
  expect(outcome).toMatchObject({ error: { name: 'ApplicationFailure', nonRetryable: false } });
  expect(status).toBe('created');
});

test('each payment has its own callback URL, which nodrop passes to the channel when it creates the trade', async () => {
  const { addresses, id } = await create(0);
  const { channelAccountId } = await ledger.db.payment.findUniqueOrThrow({ where: { id } });
  const proof = callbackProof(SECRET, channelAccountId, id);
  expect(addresses).toEqual([`http://127.0.0.1:9/callbacks/simulator/${channelAccountId}/${id}/${proof}`]);
});
