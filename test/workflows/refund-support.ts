import { beforeEach } from 'vitest';
import type { RefundAnswer } from '../../src/domain/channel.ts';
import { refundWorkflowId } from '../../src/domain/names.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { useHarness } from './harness.ts';

/**
 * Support for tests of refunds. It provides a harness with two kinds of hooks: some run before a refund request, and
 * one runs after the answer to a query.
 */

interface Hooks {
  /** A hook that runs once, after the channel has answered the next query of a trade or a refund. */
  onQueried: (() => Promise<void>) | undefined;
  /** Hooks that run before a refund is requested at the channel. Each of them runs once. */
  beforeRefund: (() => Promise<void>)[];
}
export const hooks: Hooks = { onQueried: undefined, beforeRefund: [] };
const answered = async <Answer>(answer: Answer): Promise<Answer> => {
  const hook = hooks.onQueried;
  hooks.onQueried = undefined;
  await hook?.();
  return answer;
};
export const h = useHarness({
  between: (adapter) => ({
    ...adapter,
    queryTrade: async (...args) => await answered(await adapter.queryTrade(...args)),
    queryRefund: async (...args) => await answered(await adapter.queryRefund(...args)),
    refundTrade: async (...args) => {
      await hooks.beforeRefund.shift()?.();
      return await adapter.refundTrade(...args);
    },
  }),
});
beforeEach(async () => {
  h.onRefund = undefined;
  hooks.onQueried = undefined;
  hooks.beforeRefund = [];
  await h.simulator.setFaults({
    query: { errorRate: 0 },
    refund: { errorRate: 0, balanceTooLowRate: 0, processingMs: 0 },
    down: false,
  });
});

/** The channel makes the refund, but returns this answer instead of the real one. */
const saying = (answer: RefundAnswer) => async (ask: () => Promise<RefundAnswer>) => {
  await ask();
  return answer;
};
export const processing = saying({ state: 'processing' });
export const atChannel = async ({ id }: Payment) =>
  (await h.simulator.ledger()).find(({ outTradeNo }) => outTradeNo === id);
export const refundsOf = async ({ id: paymentId }: Payment) => {
  const rows = await h.db.refund.findMany({ where: { paymentId }, orderBy: { id: 'asc' } });
  return rows.map(({ id, amount, reason, status }) => [id, amount, reason, status]);
};
export const done = (refundId: string) =>
  h.env.client.workflow.getHandle(refundWorkflowId(refundId)).result();

/** Pays both attempts at one order. The attempt that is settled second becomes the conflict. */
export async function payTwice() {
  const first = await h.newPayment();
  const second = await h.newPayment({ orderId: first.orderId, channel: 'simulator2' });
  for (const payment of [first, second]) {
    await h.start(payment);
    await h.simulator.pay(payment.id);
  }
  await h.callback(first);
  await h.until(first.id, 'succeeded');
  // The cancelled payment is queried first, and the channel reports that it is paid.
  await h.until(second.id, 'succeeded');
  const refund = await h.db.refund.findFirstOrThrow({ where: { paymentId: second.id } });
  return { first, second, refund };
}
