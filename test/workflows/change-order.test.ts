import { expect, test } from 'vitest';
import { Prisma } from '../../src/generated/prisma/client.ts';
import { changeOrder } from '../../src/ledger/change-order.ts';
import { NET_MS } from '../support/progress.ts';
import { useHarness } from './harness.ts';

/**
 * Tests create requests after an order was changed. The channel refuses a create request that repeats a trade's number
 * with different terms.
 */

const h = useHarness();

test("after the order’s subject changes, nodrop still requests a next action with the attempt's original subject", async () => {
  const payment = await h.newPayment({ expiresInMs: 3_600_000 });
  await h.start(payment);
  const { id, merchantId, orderId } = payment;
  await changeOrder(h.db, merchantId, orderId, { subject: 'Tea' }, new Set(), new Date(await h.now()));
  await h.db.payment.update({ where: { id }, data: { nextAction: Prisma.DbNull } });
  await h.workflows.awaitNextAction(payment, NET_MS);
  expect((await h.row(id)).nextAction).not.toBeNull();
  const [trade] = (await h.simulator.ledger()).filter(({ outTradeNo }) => outTradeNo === id);
  expect(trade).toMatchObject({ createdCount: 2, state: 'NOTPAY' });
});
