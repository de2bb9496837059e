import { expect, test } from 'vitest';
import { paymentWorkflowId } from '../../src/domain/names.ts';
import { NET_MS } from '../support/progress.ts';
import { eventually, soonRenewingEnvironment } from '../support/stack.ts';
import { useHarness } from './harness.ts';

/**
 * Tests that a payment's history stays short even if the payment gets many messages. The workflow continues as new, and
 * the payment loses nothing.
 */

const h = useHarness({ environment: () => soonRenewingEnvironment(60) });

const runId = async (paymentId: string) =>
  (await h.env.client.workflow.getHandle(paymentWorkflowId(paymentId)).describe()).runId;

test('if a payment is queried many times, its workflow continues as new', async () => {
  const payment = await h.newPayment({ expiresInMs: 3_600_000 });
  await h.start(payment);
  const first = await runId(payment.id);
  for (let asked = 0; asked < 20; asked++) await h.ask(payment);
  expect(await runId(payment.id)).not.toBe(first);
  // The new run reads the row first, because its input no longer says that the payment is new.
  const { events } = await h.env.client.workflow.getHandle(paymentWorkflowId(payment.id)).fetchHistory();
  const [input] = events?.[0]?.workflowExecutionStartedEventAttributes?.input?.payloads ?? [];
  expect(JSON.parse(Buffer.from(input?.data ?? []).toString())).not.toHaveProperty('isNew');
  await h.simulator.pay(payment.id);
  await h.ask(payment);
  await eventually(async () => (await h.orderStatus(payment)) === 'succeeded');
});

test('if a payment gets many hints while the channel cannot close the trade, its workflow continues as new', async () => {
  const payment = await h.newPayment({ expiresInMs: 3_600_000 });
  await h.start(payment);
  await h.simulator.setFaults({ down: true });
  await h.workflows.cancel(payment, NET_MS);
  const first = await runId(payment.id);
  for (let hints = 0; hints < 30; hints++) {
    await h.workflows.hint(payment, true, NET_MS);
    await h.workflows.wake(payment, NET_MS);
  }
  await eventually(async () => (await runId(payment.id)) !== first);
  await h.simulator.setFaults({ down: false });
  await h.workflows.wake(payment, NET_MS);
  await h.until(payment.id, 'cancelled');
});
