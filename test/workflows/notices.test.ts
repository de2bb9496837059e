import { afterEach, expect, test } from 'vitest';
import { recordNotice } from '../../src/ledger/hints.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { eventually } from '../support/progress.ts';
import { useHarness } from './harness.ts';

/** The channel has news of a payment: it is asked, in whatever status the payment is, until it has answered. */

const h = useHarness();
afterEach(async () => {
  await h.simulator.setFaults({ query: { errorRate: 0 } });
});

/** As the API does it. */
async function notice(payment: Payment): Promise<void> {
  await recordNotice(h.db, payment.id, true, 'It has news.', new Date(await h.now()));
  await h.workflows.notice(payment, 10_000);
}
const isAnswered = async ({ id }: Payment) => (await h.row(id)).noticedAt === null;

test('of one that waits: a query at once', async () => {
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

test('of one that is settled: money that went back since is on record', async () => {
  const payment = await h.newPaid();
  await h.refundElsewhere(payment, 300);
  await notice(payment);
  await h.workflows.notice(payment, 10_000);
  await eventually(() => isAnswered(payment));
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 300n, attention: 'channel_reversed' });
});

test('of one that is settled while the channel is silent: the sweep has it asked again', async () => {
  const payment = await h.newPaid();
  await h.refundElsewhere(payment, 300);
  await h.simulator.setFaults({ query: { errorRate: 1 } });
  const asked = h.askedAt(payment).length;
  await notice(payment);
  await eventually(() => h.askedAt(payment).length > asked);
  expect(await isAnswered(payment)).toBe(false);
  await h.simulator.setFaults({ query: { errorRate: 0 } });
  // What the sweep does.
  await h.workflows.notice(payment, 10_000);
  await eventually(() => isAnswered(payment));
  expect((await h.row(payment.id)).refundedAmount).toBe(300n);
});
