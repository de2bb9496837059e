import { expect, test } from 'vitest';
import { paymentWorkflowId } from '../../src/domain/names.ts';
import { requestRedelivery } from '../../src/ledger/deliveries.ts';
import { NET_MS } from '../support/progress.ts';
import { eventually } from '../support/stack.ts';
import { deliveriesOf, h, receive, resolve, shop } from './order-service-support.ts';

/**
 * Tests messages that arrive while an event waits for its order service. Such a message cancels a running activity, and
 * the time-skipping server then stops skipping time. These tests do not need skipped time.
 */

test('if an operator requests a retry or a redelivery, nodrop immediately delivers an event that waits for its next attempt', async () => {
  let open = false;
  shop.react = () => (open ? undefined : { status: 503, headers: { 'retry-after': '86400' } });
  const payment = await receive();
  await eventually(() => shop.about(payment.id).length === 1);
  await eventually(async () => (await deliveriesOf(payment))[0]?.attempts === 1);
  await resolve(payment, 'retry');
  await h.workflows.wake(payment, NET_MS);
  await eventually(() => shop.about(payment.id).length === 2);
  await eventually(async () => (await deliveriesOf(payment))[0]?.attempts === 2);
  open = true;
  const [delivery] = await deliveriesOf(payment);
  const at = new Date(await h.now());
  const asked = await requestRedelivery(h.db, payment.merchantId, delivery?.id ?? '', 'a test', at);
  expect(asked.delivery.toldByPayment).toBe(true);
  await h.workflows.wake(payment, NET_MS);
  await eventually(async () => (await h.row(payment.id)).orderUpdate === 'applied');
  expect(new Set(shop.about(payment.id).map(({ id, body }) => `${id} ${body}`)).size).toBe(1);
});

test('callbacks and hints that arrive during a delivery attempt do not cancel it', async () => {
  let open = false;
  shop.react = () => (open ? undefined : { status: 503, headers: { 'retry-after': '86400' } });
  const payment = await receive();
  await eventually(async () => (await deliveriesOf(payment))[0]?.attempts === 1);
  await h.callback(payment);
  await h.workflows.hint(payment, true, NET_MS);
  const run = h.env.client.workflow.getHandle(paymentWorkflowId(payment.id));
  const history = async () => (await run.fetchHistory()).events ?? [];
  // Waits until the workflow has processed all messages.
  await eventually(async () => {
    const events = await history();
    const signals = events.filter((event) => event.workflowExecutionSignaledEventAttributes != null);
    return signals.length >= 3 && events.at(-1)?.workflowTaskCompletedEventAttributes != null;
  });
  const calledOff = (await history()).filter(
    (event) => event.activityTaskCancelRequestedEventAttributes?.scheduledEventId != null,
  );
  const told = (await history()).filter(
    ({ activityTaskScheduledEventAttributes: scheduled }) =>
      scheduled?.activityType?.name === 'tellOrderService',
  );
  const ids = new Set(told.map(({ eventId }) => String(eventId)));
  expect(told).toHaveLength(1);
  expect(
    calledOff.filter(({ activityTaskCancelRequestedEventAttributes: request }) =>
      ids.has(String(request?.scheduledEventId)),
    ),
  ).toEqual([]);
  open = true;
  await resolve(payment, 'retry');
  await h.workflows.wake(payment, NET_MS);
  await eventually(async () => (await h.row(payment.id)).orderUpdate === 'applied');
});
