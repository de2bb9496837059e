import { mkdirSync, realpathSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { WorkflowHandle } from '@temporalio/client';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { beforeEach, test } from 'vitest';
import { deliveryWorkflowId, paymentWorkflowId, SWEEP_TASK_QUEUE, refundWorkflowId } from '../../src/domain/names.ts';
import { requestRedelivery } from '../../src/ledger/deliveries.ts';
import { setMerchant } from '../../src/ledger/merchants.ts';
import { SWEEP_WORKFLOW } from '../../src/workflows/messages.ts';
import { startOrderService } from '../support/order-service.ts';
import { NET_MS } from '../support/progress.ts';
import { eventually } from '../support/stack.ts';
import { SECRET, useHarness } from '../workflows/harness.ts';

/**
 * `npm run histories` runs real payments and keeps their histories beside this file, for the replay test. Run it
 * when workflow code has got a new path, and commit what is new: histories of running payments never change.
 */

const FOLDER = join(import.meta.dirname, new Date().toISOString().slice(0, 10));

// One of its own for each test: an activity that is called off can keep this server from skipping time for the next.
const h = useHarness({ perTest: true });
beforeEach(() => {
  mkdirSync(FOLDER, { recursive: true });
});

async function keep(name: string, run: WorkflowHandle): Promise<void> {
  const history = JSON.stringify(JSON.parse(historyToJSON(await run.fetchHistory())));
  // Stack traces name this machine's folders.
  const portable = [`${dirname(realpathSync('node_modules'))}/`, `${process.cwd()}/`].reduce(
    (text, folder) => text.replaceAll(folder, ''),
    history,
  );
  writeFileSync(join(FOLDER, `${name}.json`), `${portable}\n`);
}

test('callback', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await h.callback(payment);
  await run.result();
  await keep('callback', run);
});

test('query', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await h.pass(45);
  await keep('waiting', run);
  await h.simulator.pay(payment.id);
  await run.result();
  await keep('query', run);
});

test('hint, doubtful callback and a question of an operator', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await h.pass(12);
  await h.workflows.hint(payment, true, NET_MS);
  await h.pass(5);
  await h.callback(payment, { amount: 1 });
  await h.pass(5);
  await h.simulator.pay(payment.id);
  await h.ask(payment);
  await run.result();
  await keep('hint-callback-ask', run);
});

test('expiry and late watch', async () => {
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await run.result();
  await keep('expiry-late-watch', run);
});

test('processing past the expiry', async () => {
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await h.simulator.pay(payment.id, 'processing');
  await h.pass(900);
  await h.simulator.pay(payment.id, 'success');
  await run.result();
  await keep('processing', run);
});

test('channel unreachable, then paid', async () => {
  const payment = await h.newPayment({ expiresInMs: 600_000 });
  const run = await h.start(payment);
  await h.simulator.setFaults({ down: true });
  await h.pass(900);
  await h.simulator.pay(payment.id);
  await h.simulator.setFaults({ down: false });
  await run.result();
  await keep('unreachable', run);
});

test('the close says paid, the query does not for a while', async () => {
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await h.pass(55);
  await h.simulator.setFaults({ query: { lagMs: 3_600_000 } });
  await h.simulator.pay(payment.id);
  await h.pass(600);
  await h.simulator.setFaults({ query: { lagMs: 0 } });
  await run.result();
  await keep('close-says-paid', run);
});

test('cancel of the other attempt', async () => {
  const first = await h.newPayment();
  const second = await h.newPayment({ orderId: first.orderId, channel: 'simulator2' });
  const runs = [await h.start(first), await h.start(second)] as const;
  await h.callback(first);
  await h.until(first.id, 'succeeded');
  await h.until(second.id, 'cancelled');
  await runs[1].result();
  await keep('cancels-other', runs[0]);
  await keep('cancelled', runs[1]);
});

test('Request Cancellation in the Web UI', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await run.cancel();
  await h.pass(5);
  await run.result();
  await keep('web-ui-cancel', run);
});

test('order update failing', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await h.db.$executeRawUnsafe(`
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF NEW.status = 'succeeded' THEN RAISE EXCEPTION 'refused'; END IF; RETURN NEW; END $$`);
  await h.db.$executeRawUnsafe('CREATE TRIGGER refuse BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION refuse()');
  await h.callback(payment);
  await h.pass(1800);
  await h.db.$executeRawUnsafe('DROP TRIGGER refuse ON orders');
  await run.result();
  await keep('order-update-failing', run);
});

test('create refused for a while, and an action asked for again', async () => {
  await h.simulator.setFaults({ create: { errorRate: 1 } });
  const payment = await h.newPayment();
  await h.workflows.wake(payment, NET_MS);
  await h.pass(200);
  await h.simulator.setFaults({ create: { errorRate: 0 } });
  const run = await h.start(payment);
  await h.workflows.awaitNextAction(payment, NET_MS);
  await h.callback(payment);
  await run.result();
  await keep('create-unknown', run);
});

test('never created, and expired', async () => {
  await h.simulator.setFaults({ create: { errorRate: 1 } });
  const payment = await h.newPayment({ expiresInMs: 300_000 });
  await h.workflows.start(payment, true, NET_MS);
  await h.pass(400);
  await keep('create-expired', h.env.client.workflow.getHandle(paymentWorkflowId(payment.id)));
});

test('sweep', async () => {
  const options = { taskQueue: SWEEP_TASK_QUEUE, workflowId: 'nodrop-sweep-recorded' };
  const run = await h.env.client.workflow.start(SWEEP_WORKFLOW, options);
  await run.result();
  await keep('sweep-lanes', run);
});

test('a refund in process, then decided', async () => {
  const payment = await h.newPaid();
  h.onRefund = async (ask) => {
    await ask();
    return { state: 'processing' };
  };
  const refund = await h.refund(payment, 500);
  await h.pass(1200);
  h.onRefund = undefined;
  const run = h.env.client.workflow.getHandle(refundWorkflowId(refund.id));
  await run.result();
  await keep('refund-processing', run);
});

test('a refund the channel forgets', async () => {
  const payment = await h.newPaid();
  const answers = [{ state: 'processing' }, { state: 'unknown_refund' }] as const;
  let calls = 0;
  h.onRefund = async (ask) => answers[calls++] ?? (await ask());
  const refund = await h.refund(payment, 500);
  const run = h.env.client.workflow.getHandle(refundWorkflowId(refund.id));
  await run.result();
  h.onRefund = undefined;
  await keep('refund-forgotten', run);
});

test('a refund in process, settled by its callback', async () => {
  const payment = await h.newPaid();
  h.onRefund = async (ask) => {
    await ask();
    return { state: 'processing' };
  };
  const refund = await h.refund(payment, 500);
  await h.untilRefund(refund.id, 'processing');
  const answer = { state: 'succeeded', channelRefundId: 'simr', amount: 500 } as const;
  const said = { outRefundNo: refund.id, answer };
  await h.callback(payment, { refundedAmount: 500 }, 'n-refund', said);
  const run = h.env.client.workflow.getHandle(refundWorkflowId(refund.id));
  await run.result();
  h.onRefund = undefined;
  await keep('refund-callback', run);
});

test('a refund made at the channel, told by its callback', async () => {
  const payment = await h.newPaid();
  await h.callback(payment, { refundedAmount: 400 });
  const run = h.env.client.workflow.getHandle(`payment/${payment.id}`);
  await run.result();
  await keep('external-refund-callback', run);
});

test('a double payment and its refund', async () => {
  const first = await h.newPayment();
  const second = await h.newPayment({ orderId: first.orderId, channel: 'simulator2' });
  await h.start(first);
  await h.start(second);
  await h.simulator.pay(second.id);
  await h.callback(first);
  await h.until(second.id, 'succeeded');
  const refund = await h.db.refund.findFirstOrThrow({ where: { paymentId: second.id } });
  await h.untilRefund(refund.id, 'succeeded');
  const run = h.env.client.workflow.getHandle(`payment/${second.id}`);
  await run.result();
  await keep('double-payment', run);
  await keep('refund', h.env.client.workflow.getHandle(refundWorkflowId(refund.id)));
});

let signingSecret = '';
/** The merchant has an order service from here on. */
async function withOrderService() {
  const shop = await startOrderService(() => h.now());
  const settings = { orderServiceUrl: shop.url, orderStatusUrl: shop.statusUrl };
  const set = await setMerchant(h.db, 'shop', settings, SECRET, new Date(await h.now()));
  // Shown with the first alone.
  signingSecret = set?.secret ?? signingSecret;
  shop.secret = signingSecret;
  return shop;
}

test('an order service that fails for an hour', async () => {
  const shop = await withOrderService();
  const payment = await h.newPayment();
  const run = await h.start(payment);
  let open = false;
  shop.react = () => (open ? undefined : { status: 500 });
  await h.callback(payment);
  await h.until(payment.id, 'succeeded');
  await h.pass(3600);
  await keep('order-service-pending', run);
  open = true;
  await run.result();
  await keep('order-service-failing', run);
  const { id } = await h.db.delivery.findFirstOrThrow({ where: { paymentId: payment.id } });
  const { delivery } = await requestRedelivery(h.db, payment.merchantId, id, 'a test', new Date(await h.now()));
  await h.deliveryWorkflows.redeliver(delivery, NET_MS);
  const again = h.env.client.workflow.getHandle(deliveryWorkflowId(id));
  await again.result();
  await keep('delivery-again', again);
  await shop.close();
});

test('an event of its own on its way to an order service', async () => {
  const shop = await withOrderService();
  const payment = await h.newPaid();
  shop.react = (_, nth) => (nth < 20 ? { status: 500 } : undefined);
  const refund = await h.refund(payment, 500);
  await h.untilRefund(refund.id, 'succeeded');
  const { id } = await eventually(async () => {
    const found = await h.db.delivery.findFirst({ where: { paymentId: payment.id, status: 'pending' } });
    return found !== null && found.attempts > 0 && found;
  });
  const run = h.env.client.workflow.getHandle(deliveryWorkflowId(id));
  await run.result();
  await keep('delivery', run);
  await shop.close();
});

test('a sweep with deliveries', async () => {
  const options = { taskQueue: SWEEP_TASK_QUEUE, workflowId: 'nodrop-sweep-deliveries' };
  const run = await h.env.client.workflow.start(SWEEP_WORKFLOW, options);
  await run.result();
  await keep('sweep-deliveries', run);
});

test('an order service that has the order paid otherwise', async () => {
  const shop = await withOrderService();
  const payment = await h.newPayment();
  const run = await h.start(payment);
  shop.react = ({ type }) =>
    type === 'payment.succeeded' ? { status: 409, body: { paidPaymentId: 'pay_other' } } : undefined;
  await h.simulator.pay(payment.id);
  await h.callback(payment);
  await run.result();
  await keep('order-service-conflict', run);
  const refund = await h.db.refund.findFirstOrThrow({ where: { paymentId: payment.id } });
  await h.untilRefund(refund.id, 'succeeded');
  await shop.close();
});
