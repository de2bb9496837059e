import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { inMarkdown } from '../../src/domain/text.ts';
import { setMerchant } from '../../src/ledger/merchants.ts';
import { type OrderService, startOrderService } from '../support/order-service.ts';
import { eventually } from '../support/stack.ts';
import { type System, startSystem } from '../support/system.ts';

/**
 * Tests delivery to the order service in the real system. nodrop retries a delivery until the service agrees, whichever
 * process dies. The service agrees only once.
 */

let system: System;
let shop: OrderService;
beforeAll(async () => {
  shop = await startOrderService();
  system = await startSystem({ withWorker: true, env: { NODROP_QUERY_SCHEDULE: '2s' } });
  // The merchant of the development key is created when the key is first used.
  expect((await system.api('GET', '/v1/orders')).status).toBe(200);
  const settings = { orderServiceUrl: shop.url, orderStatusUrl: shop.statusUrl };
  const set = await setMerchant(system.db, 'demo', settings, system.config.secret, new Date());
  shop.secret = set?.secret ?? '';
});
afterAll(async () => {
  await system?.stop();
  await shop?.close();
});
beforeEach(() => shop.reset());

const paid = async () => {
  const { body } = await eventually(async () => {
    const answer = await system.pay();
    return answer.status === 201 && answer;
  });
  await system.simulator.pay(body.id);
  return body;
};
const applied = (id: string) =>
  eventually(async () => {
    const answer = await system.api('GET', `/v1/payments/${id}`).catch(() => undefined);
    return answer?.body?.orderUpdate === 'applied';
  });

test('a paid payment is delivered, read back and applied, and a waiting request is answered once the order service has agreed', async () => {
  let open = false;
  shop.react = () => (open ? undefined : { status: 500 });
  const { id, orderId } = await paid();
  await eventually(() => shop.about(id).length > 0);
  const early = await system.api('GET', `/v1/payments/${id}?wait=1`);
  expect(early.body).toMatchObject({ status: 'succeeded', orderUpdate: 'pending' });
  const waiting = system.api('GET', `/v1/payments/${id}?wait=60`);
  open = true;
  expect((await waiting).body).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
  expect(shop.order(orderId)).toMatchObject({ paidPaymentId: id, timesPaid: 1 });
  expect(shop.about(id).every(({ isSigned }) => isSigned)).toBe(true);

  const { body: feed } = await system.api('GET', '/v1/events');
  const event = feed.data.find(
    (found: { data: { payment: { id: string } } }) => found.data.payment.id === id,
  );
  const told = shop.about(id)[0];
  expect({ ...JSON.parse(told?.body ?? ''), id: told?.id }).toEqual(event);
  const { body: deliveries } = await system.api('GET', `/v1/payments/${id}/deliveries`);
  expect(deliveries.data).toMatchObject([{ eventId: event.id, status: 'delivered' }]);
});

test.each([
  '#1001',
  'A/2026/11',
  `it's "quoted" 100% \\ ?&=`,
  '注文 #7 / ü <b>*x*</b> {orderId} $&',
  // The longest possible order id fits into Temporal's tables and summaries and into the read-back URL.
  '𠮷'.repeat(64),
  '"'.repeat(64),
])(
  'an order with the id %j can be paid, delivered, read back and refunded, and can be found by its id',
  async (id) => {
    const order = { id, amount: Number.MAX_SAFE_INTEGER, currency: 'CNY' };
    const { body } = await eventually(async () => {
      const answer = await system.api('POST', '/v1/payments', { order, channel: 'simulator' });
      return [200, 201].includes(answer.status) && answer.body.status === 'paying' && answer;
    });
    await system.simulator.pay(body.id);
    await applied(body.id);
    expect(shop.order(id)).toMatchObject({ paidPaymentId: body.id, timesPaid: 1 });
    expect(shop.reads).toContain(id);
    const refund = await system.api(
      'POST',
      `/v1/payments/${body.id}/refunds`,
      {},
      { 'idempotency-key': body.id },
    );
    expect(refund.status).toBe(201);
    await eventually(async () => {
      const read = await system.api('GET', `/v1/orders/${encodeURIComponent(id)}`);
      return read.body.status === 'refunded';
    });

    const run = (workflow: string) => system.temporal.workflow.getHandle(workflow).describe();
    // The order id, escaped for Markdown.
    const shown = inMarkdown(id);
    expect(await (await run(`payment/${body.id}`)).staticSummary()).toBe(
      `CNY 90,071,992,547,409.91 through simulator, order ${shown}`,
    );
    expect(await (await run(`refund/${refund.body.id}`)).staticSummary()).toBe(
      `refund of CNY 90,071,992,547,409.91 through simulator, order ${shown}`,
    );
    // Temporal cannot search for a text that contains a quote or a backslash. docs/operations.md describes what
    // to do instead.
    if (/['"\\]/.test(id)) return;
    const query = `OrderId="${id}"`;
    await eventually(async () => {
      const found = new Set<string>();
      for await (const { workflowId } of system.temporal.workflow.list({ query })) found.add(workflowId);
      return found.has(`payment/${body.id}`) && found.has(`refund/${refund.body.id}`);
    });
  },
);

test('a redelivery that the API requests sends the same event again, and has no other effect', async () => {
  const { id } = await paid();
  await applied(id);
  const { body } = await system.api('GET', `/v1/payments/${id}/deliveries`);
  const [delivery] = body.data;
  const before = shop.about(id).length;
  const asked = await system.api('POST', `/v1/deliveries/${delivery.id}/redeliver`);
  expect([asked.status, asked.body.id]).toEqual([202, delivery.id]);
  await eventually(() => shop.about(id).length === before + 1);
  expect(new Set(shop.about(id).map((event) => `${event.id} ${event.body}`)).size).toBe(1);
  await eventually(async () => {
    const now = await system.api('GET', `/v1/payments/${id}/deliveries`);
    return now.body.data[0].attempts === delivery.attempts + 1;
  });
  const timeline = await system.api('GET', `/v1/payments/${id}/timeline`);
  const manual = timeline.body.data.filter(({ kind }: { kind: string }) => kind === 'manual');
  // The development key has an operator's rights.
  expect(manual).toMatchObject([
    {
      detail: `Redelivery of payment.succeeded (${delivery.eventId}) requested by the operator.`,
      data: { deliveryId: delivery.id, eventId: delivery.eventId },
    },
  ]);
  for (const unknown of ['dlv_unknown', 'x', 'dlv_%00']) {
    const refused = await system.api('POST', `/v1/deliveries/${unknown}/redeliver`);
    expect([refused.status, refused.body.code]).toEqual([404, 'delivery_not_found']);
  }
});

test('if a worker is killed with -9 during a delivery attempt, the event is redelivered under the same id and applied once', async () => {
  // The order service applies the event, and its answer is lost.
  shop.react = (_, nth) => (nth === 1 ? { hang: true, apply: true } : undefined);
  const { id, orderId } = await paid();
  await eventually(() => shop.about(id).length === 1);
  system.kill('worker');
  await applied(id);
  expect(shop.about(id).length).toBeGreaterThanOrEqual(2);
  expect(new Set(shop.about(id).map((event) => `${event.id} ${event.body}`)).size).toBe(1);
  expect(shop.order(orderId)).toMatchObject({ paidPaymentId: id, timesPaid: 1 });
});

test('if the Temporal database is lost while the order service fails, `recover` continues the delivery', async () => {
  let open = false;
  shop.react = () => (open ? undefined : { status: 500 });
  const { id, orderId } = await paid();
  await eventually(() => shop.about(id).length > 0);
  const refund = await system.api(
    'POST',
    `/v1/payments/${id}/refunds`,
    { amount: 100 },
    { 'idempotency-key': id },
  );
  expect(refund.status).toBe(201);
  await eventually(() => shop.about(id).some(({ type }) => type === 'refund.succeeded'));
  await system.stopTemporal();
  system.loseTemporal();
  await system.startTemporal();
  const said = await eventually(async () => {
    const { status, output } = await system.nodrop('recover');
    return status === 0 && output;
  });
  // The payment's own workflow delivers one of the events.
  expect(said).toContain('2 deliveries to order services go on');
  open = true;
  await applied(id);
  expect(shop.order(orderId)).toMatchObject({ paidPaymentId: id, timesPaid: 1 });
  await eventually(async () => {
    const { body } = await system.api('GET', `/v1/payments/${id}/deliveries`);
    return body.data.every(({ status }: { status: string }) => status === 'delivered');
  });
});
