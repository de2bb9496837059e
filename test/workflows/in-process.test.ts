import { beforeEach, expect, test } from 'vitest';
import { ChannelError } from '../../src/domain/channel.ts';
import { recordAnswer } from '../../src/ledger/payments.ts';
import { NET_MS } from '../support/progress.ts';
import { eventually } from '../support/stack.ts';
import { LATE_CANCELLATION, useHarness } from './harness.ts';

/**
 * Tests a trade that the channel reports as processing after the answer to its create request was lost. nodrop queries
 * the trade, and does not create it again.
 */

let creates = 0;
let isAnswerLost = true;
/**
 * Simulates a channel whose trade changes from "processing" back to "unpaid". The simulator never does this.
 */
let saysUnpaid = false;
const h = useHarness({
  // A message can cancel a running attempt to create the trade.
  workflowInterceptors: LATE_CANCELLATION,
  between: (adapter) => ({
    ...adapter,
    async createTrade(...given) {
      creates += 1;
      const action = await adapter.createTrade(...given);
      if (isAnswerLost) throw new ChannelError('unreachable', 'the answer got lost');
      return action;
    },
    queryTrade: async (...given) => (saysUnpaid ? { state: 'unpaid' } : await adapter.queryTrade(...given)),
  }),
});
beforeEach(() => {
  creates = 0;
  isAnswerLost = true;
  saysUnpaid = false;
});

/**
 * Creates a payment and pays its trade before nodrop has the answer to the create request. A payer who finds the trade
 * in the wallet can do this.
 */
async function inProcess(expiresInMs: number) {
  const payment = await h.newPayment({ expiresInMs });
  await h.workflows.wake(payment, NET_MS);
  await eventually(async () => (await h.simulator.pay(payment.id, 'processing')).status === 200);
  return payment;
}

test('if a payment is cancelled while the channel reports processing, nodrop queries the channel until the channel decides', async () => {
  const payment = await inProcess(3_600_000);
  await h.db.payment.update({
    where: { id: payment.id },
    data: { cancelRequestedAt: new Date(await h.now()) },
  });
  await h.workflows.cancel(payment, NET_MS);
  await eventually(async () => (await h.row(payment.id)).channelState === 'processing');
  await h.simulator.pay(payment.id, 'success');
  await h.pass(600);
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', settledBy: 'query' });
  expect(await h.orderStatus(payment)).toBe('succeeded');
});

test('when a payment in process expires, the channel gets only the scheduled queries and no other calls', async () => {
  const payment = await inProcess(60_000);
  await h.pass(70);
  const before = creates;
  await h.pass(1_200);
  expect([(await h.row(payment.id)).status, creates - before]).toEqual(['created', 0]);
  expect(h.askedAt(payment).length).toBeLessThan(8);
  await h.simulator.pay(payment.id, 'success');
  await h.pass(400);
  expect(await h.orderStatus(payment)).toBe('succeeded');
});

test.each([
  ['reported by a query', async () => undefined],
  [
    'recorded by an attempt that then dies',
    async (id: string) => {
      await recordAnswer(h.db, id, { state: 'unpaid' }, 'query', new Date(await h.now()));
    },
  ],
])(
  "if the channel's answer changes from processing to unpaid (%s), the trade is created, so that the payer can pay",
  async (_, before) => {
    const payment = await inProcess(3_600_000);
    await h.ask(payment);
    expect(await h.row(payment.id)).toMatchObject({ status: 'created', channelState: 'processing' });
    isAnswerLost = false;
    saysUnpaid = true;
    await before(payment.id);
    await h.pass(60);
    expect(await h.row(payment.id)).toMatchObject({ status: 'paying', channelState: 'unpaid' });
  },
);
