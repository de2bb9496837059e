import { afterEach, expect, test } from 'vitest';
import { recordNotice } from '../../src/ledger/hints.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { eventually } from '../support/progress.ts';
import { useHarness } from './harness.ts';

/**
 * Tests that nodrop queries the channel after a notice until the channel answers, whatever the status of the payment
 * is.
 */

const h = useHarness();
afterEach(async () => {
  await h.simulator.setFaults({ query: { errorRate: 0 } });
});

/** Records a notice and signals it to the workflow, as the API does. */
async function notice(payment: Payment): Promise<void> {
  await recordNotice(h.db, payment.id, true, 'The channel sent a notice.', new Date(await h.now()));
  await h.workflows.notice(payment, 10_000);
}
const isAnswered = async ({ id }: Payment) => (await h.row(id)).noticedAt === null;

test('a notice for a payment that waits for money causes an immediate query', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await h.simulator.setFaults({ callback: { dropRate: 1 } });
  await h.simulator.pay(payment.id);
  const before = h.askedAt(payment).length;
  await notice(payment);
  await run.result();
  expect(h.askedAt(payment).length).toBe(before + 1);
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied', noticedAt: null });
});

test('a notice for a settled payment causes a query, which records refunds made after the settlement', async () => {
  const payment = await h.newPaid();
  await h.refundElsewhere(payment, 300);
  await notice(payment);
  await h.workflows.notice(payment, 10_000);
  await eventually(() => isAnswered(payment));
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 300n, attention: 'channel_reversed' });
});

test('if the query after a notice for a settled payment fails, the sweep causes another query', async () => {
  const payment = await h.newPaid();
  await h.refundElsewhere(payment, 300);
  await h.simulator.setFaults({ query: { errorRate: 1 } });
  const asked = h.askedAt(payment).length;
  await notice(payment);
  await eventually(() => h.askedAt(payment).length > asked);
  expect(await isAnswered(payment)).toBe(false);
  await h.simulator.setFaults({ query: { errorRate: 0 } });
  // No sweep runs in this test. So the test sends the signal that a sweep would send.
  await h.workflows.notice(payment, 10_000);
  await eventually(() => isAnswered(payment));
  expect((await h.row(payment.id)).refundedAmount).toBe(300n);
});
