import { afterAll, beforeAll, expect, test } from 'vitest';
import { callbackProof } from '../../src/client-token.ts';
import { accountOf, tradeOf } from '../../src/ledger/trade-of-payment.ts';
import { createSimulatorAdapter } from '../support/simulator-adapter.ts';
import { eventually } from '../support/stack.ts';
import { type System, startSystem } from '../support/system.ts';

// Tests that a callback is durable once nodrop has acknowledged it to the channel, whichever process dies before or
// after that (P4).

let system: System;
beforeAll(async () => {
  system = await startSystem({ withWorker: true });
});
afterAll(async () => {
  await system?.stop();
});

test('a refund that a notice announces is recorded, even if Temporal is down and the API is killed before it acknowledges the notice', async () => {
  const { body } = await system.payable();
  await system.simulator.pay(body.id);
  await eventually(async () => (await system.orderStatus(body.orderId)) === 'succeeded');
  const row = await system.db.payment.findUniqueOrThrow({ where: { id: body.id } });
  await system.simulator.setFaults({ callback: { dropRate: 1 } });
  const adapter = createSimulatorAdapter({
    name: 'simulator',
    baseUrl: system.config.simulator.url,
    secret: system.config.simulator.secrets.simulator ?? '',
  });
  const refund = {
    outRefundNo: 'made_elsewhere',
    channelRefundId: null,
    attempt: 1,
    amount: 500,
    currency: 'CNY',
  };
  await adapter.refundTrade(accountOf(row), tradeOf(row), { ...refund, total: 1990 });
  await system.stopTemporal();
  const proof = callbackProof(system.config.secret, row.channelAccountId, row.id);
  const address = `${system.apiUrl}/callbacks/simulator/${row.channelAccountId}/${row.id}/${proof}`;
  const acknowledged = fetch(address, { method: 'POST', body: 'something changed' }).then(
    ({ status }) => status,
    () => 'no answer',
  );
  const payment = () => system.db.payment.findUniqueOrThrow({ where: { id: row.id } });
  await eventually(async () => (await payment()).noticedAt !== null);
  system.kill('api');
  expect(await acknowledged).toBe('no answer');
  await system.startTemporal();
  // The sweep makes the workflow query the channel.
  await eventually(async () => (await payment()).refundedAmount === 500n);
  await eventually(async () => (await payment()).noticedAt === null);
});
