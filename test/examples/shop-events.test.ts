// Tests the example shop as an order service: its answers to signed events over HTTP, with its own database.
import { expect, test } from 'vitest';
import { testEvents } from '../../src/ledger/event-samples.ts';
import { eventually, queryOnce } from '../support/stack.ts';
import {
  type Answers,
  answers,
  deliver,
  eventsKnown,
  orderId,
  page,
  paidBy,
  paymentsRead,
  shop,
} from './shop-events-support.ts';
import { eventOf, newId, newSecret, readBack, send } from './support.ts';

test('a verified event marks the order as paid, and the customer gets the goods', async () => {
  expect(await page()).not.toContain('Pickup code');
  const event = eventOf('payment.succeeded', orderId);
  expect((await deliver(event)).status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
  expect(await page()).toMatch(/Paid[\s\S]*Pickup code/);
});

test('a test event is acknowledged and has no effect', async () => {
  const rows = async () =>
    await Promise.all(
      ['orders', 'payments', 'events'].map((table) =>
        queryOnce(shop.database.url, `select * from ${table} order by id`),
      ),
    );
  const before = await rows();
  for (const { id, body } of testEvents(new Date())) {
    // The shop must ignore a test event even if its payment belongs to an existing order.
    const payment = { ...eventOf('payment.succeeded', orderId).data.payment };
    for (const sent of [body, { ...body, data: { ...body.data, payment } }])
      expect((await deliver(sent, { id })).status, body.type).toBe(204);
  }
  expect(await rows()).toEqual(before);
});

test('a signed body that is not an event is refused', async () => {
  expect((await deliver({ type: 'payment.succeeded', data: {} })).status).toBe(400);
  expect((await deliver([])).status).toBe(400);
  const wrong = eventOf('payment.succeeded', orderId, { payment: { amount: '6800' } });
  expect((await deliver(wrong)).status).toBe(400);
});

test('one valid signature among several is sufficient, so that the secret can be rotated', async () => {
  const event = eventOf('payment.succeeded', orderId);
  const body = JSON.stringify(event);
  const { Webhook } = await import('standardwebhooks');
  const [id, at] = [newId('evt'), new Date()];
  const signatures = [newSecret(), shop.secret].map((secret) => new Webhook(secret).sign(id, at, body));
  const answer = await deliver(event, { id, at, headers: { 'webhook-signature': signatures.join(' ') } });
  expect(answer.status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('an event that is delivered several times and concurrently is applied once', async () => {
  const event = eventOf('payment.succeeded', orderId);
  const id = newId('evt');
  const before = await eventsKnown();
  const answers = await Promise.all(Array.from({ length: 8 }, () => deliver(event, { id })));
  expect(answers.map(({ status }) => status)).toEqual(Array(8).fill(204));
  expect((await deliver(event, { id })).status).toBe(204);
  expect(await eventsKnown()).toBe(before + 1);
  const code = /<strong>(.*)<\/strong>/.exec(await page())?.[1];
  expect((await deliver(event, { id })).status).toBe(204);
  expect(await page()).toContain(`<strong>${code}</strong>`);
});

test('an older event that arrives after a newer event has no effect', async () => {
  const payment = { id: newId('pay') };
  // When the success event arrives, a refund of the payment is already due. So the shop does not grant the goods.
  const conflict = eventOf('payment.conflict', orderId, {
    version: 2,
    payment: { ...payment, orderUpdate: 'conflict' },
  });
  expect((await deliver(conflict)).status).toBe(204);
  expect((await deliver(eventOf('payment.succeeded', orderId, { version: 1, payment }))).status).toBe(204);
  expect(await paidBy()).toBeNull();
  expect(await page()).not.toContain('Pickup code');
  const outcomes = await queryOnce(
    shop.database.url,
    `select version, outcome from events where payment_id = '${payment.id}' order by version`,
  );
  expect(outcomes).toEqual([
    { version: 1, outcome: 'older' },
    { version: 2, outcome: 'applied' },
  ]);
});

test('if the event of a partial refund arrives before the success event, the order is marked as paid', async () => {
  const payment = { id: newId('pay') };
  const refund = eventOf('refund.succeeded', orderId, {
    version: 2,
    payment: { ...payment, orderUpdate: 'applied', refundedAmount: 800 },
  });
  expect((await deliver(refund)).status).toBe(204);
  expect((await deliver(eventOf('payment.succeeded', orderId, { version: 1, payment }))).status).toBe(204);
  expect(await paidBy()).toBe(payment.id);
  expect(await page()).toContain('CNY 8.00 of it was refunded to you');
});

test('a payment that was refunded in full grants no goods, whichever of its events arrives first', async () => {
  const payment = { id: newId('pay') };
  const back = { ...payment, refundedAmount: 6800 };
  expect((await deliver(eventOf('refund.succeeded', orderId, { version: 2, payment: back }))).status).toBe(
    204,
  );
  expect((await deliver(eventOf('payment.succeeded', orderId, { version: 1, payment }))).status).toBe(204);
  expect(await paidBy()).toBeNull();
  const applied = { status: 'succeeded', orderUpdate: 'applied', receivedAmount: 6800, refundedAmount: 6800 };
  answers.order = { status: 'refunded', payments: [applied] };
  const text = await page();
  expect(text).toContain('the money was refunded to you');
  expect(text).toContain('This order can no longer be paid');
  expect(text).not.toMatch(/Pickup code|Waiting for your payment|again|<button/);
  // The order is not paid yet, so another payment can pay it.
  const next = eventOf('payment.succeeded', orderId);
  expect((await deliver(next)).status).toBe(204);
  expect(await paidBy()).toBe(next.data.payment.id);
});

/** A success event that is delivered late: the payment succeeded 11 s ago. */
const oldSuccess = () => {
  const event = eventOf('payment.succeeded', orderId);
  return { ...event, timestamp: new Date(Date.now() - 11_000).toISOString() };
};

test.each([
  ['the payment was refunded in full', { orderUpdate: 'conflict', refundedAmount: 6800 }],
  [
    'the payment was refunded in full after another shop process had acknowledged it',
    { orderUpdate: 'applied', refundedAmount: 6800 },
  ],
  ['the payment no longer pays the order', { orderUpdate: 'conflict' }],
  ['the payment is in review', { orderUpdate: 'review' }],
])('a late event grants no goods, because the shop reads its payment first: %s', async (_, changes) => {
  const event = oldSuccess();
  answers.payment = { ...event.data.payment, ...changes };
  expect((await deliver(event)).status).toBe(204);
  expect(paymentsRead).toEqual([event.data.payment.id]);
  expect(await paidBy()).toBeNull();
  expect(await page()).not.toContain('Pickup code');
  // The shop still applies a newer event.
  const { payment } = event.data;
  const newer = { ...payment, orderUpdate: 'conflict', refundedAmount: 6800 };
  expect((await deliver(eventOf('payment.conflict', orderId, { version: 2, payment: newer }))).status).toBe(
    204,
  );
  expect(await paidBy()).toBeNull();
});

test('a late event grants the goods if its payment still pays the order', async () => {
  const event = oldSuccess();
  answers.payment = { ...event.data.payment, refundedAmount: 800 };
  expect((await deliver(event)).status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('a late event grants no goods if its payment cannot be read, and succeeds when it is redelivered', async () => {
  const event = oldSuccess();
  const id = newId('evt');
  answers.payment = 'away';
  expect((await deliver(event, { id })).status).toBe(503);
  expect(await paidBy()).toBeNull();
  answers.payment = undefined;
  expect((await deliver(event, { id })).status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('if an event is delivered without delay or grants no goods, the shop applies it without reading the payment', async () => {
  const fresh = eventOf('payment.succeeded', orderId);
  expect((await deliver(fresh, { at: new Date(fresh.timestamp) })).status).toBe(204);
  // The shop has already applied this event. So it does not read the payment for a redelivery of the event, even if the
  // redelivery is late.
  expect((await deliver(fresh, { at: new Date(Date.parse(fresh.timestamp) + 60_000) })).status).toBe(204);
  const event = oldSuccess();
  const back = { ...event.data.payment, refundedAmount: 6800 };
  expect((await deliver({ ...event, data: { ...event.data, payment: back } })).status).toBe(204);
  expect(paymentsRead).toEqual([]);
});

test('a success event without a received amount is refused', async () => {
  const event = eventOf('payment.succeeded', orderId, { payment: { receivedAmount: null } });
  expect((await deliver(event)).status).toBe(400);
  expect(await paidBy()).toBeNull();
});

test('after a conflict event about the payment that paid the order, the order loses its goods', async () => {
  const event = eventOf('payment.succeeded', orderId);
  expect((await deliver(event)).status).toBe(204);
  expect(await page()).toContain('Pickup code');
  // The acknowledgement was lost. After a long time, an operator decided to refund the payment.
  const payment = { ...event.data.payment, orderUpdate: 'conflict' };
  expect((await deliver(eventOf('payment.conflict', orderId, { version: 2, payment }))).status).toBe(204);
  expect(await paidBy()).toBeNull();
  expect(await page()).not.toContain('Pickup code');
  expect(await page()).toContain('the money is on its way back to you');
  const back = { ...payment, refundedAmount: 6800 };
  expect((await deliver(eventOf('refund.succeeded', orderId, { version: 3, payment: back }))).status).toBe(
    204,
  );
  expect(await page()).toContain('the money was refunded to you');
  // nodrop redelivers the success event, which is now older than the conflict event.
  expect((await deliver(event)).status).toBe(204);
  expect(await paidBy()).toBeNull();
});

test('after a full refund the order page shows the order as refunded and grants no goods', async () => {
  const payment = { id: newId('pay') };
  await deliver(eventOf('payment.succeeded', orderId, { payment }));
  await deliver(
    eventOf('refund.succeeded', orderId, { version: 2, payment: { ...payment, refundedAmount: 6800 } }),
  );
  expect(await page()).toContain('Refunded');
  expect(await page()).not.toContain('Pickup code');
});

test('every answer without a 2xx status is logged with its reason', async () => {
  const logged = (line: string) => eventually(async () => shop.process.output.includes(line));
  const id = newId('evt');
  await deliver(eventOf('payment.succeeded', 'order-1'), { id });
  await logged(`POST /nodrop/events (${id}) answered 404: {"code":"order_unknown"`);
  await send(shop.url, newSecret(), eventOf('payment.succeeded', orderId), { id });
  await logged(`POST /nodrop/events (${id}) answered 401: {"error":"No matching signature found"}`);
  await fetch(`${shop.url}/nodrop/elsewhere`);
  await logged('GET /nodrop/elsewhere (without an id) answered 404: There is no such address.');
});

test('an event for an unknown order is answered 404, and not 410', async () => {
  expect(await deliver(eventOf('payment.succeeded', 'order-1'))).toEqual({
    status: 404,
    body: { code: 'order_unknown', error: 'There is no such order here.' },
  });
  expect((await readBack(shop.url, shop.secret, 'order-1')).status).toBe(404);
});

test('each delivery about a second payment of an order is answered 409 with the id of the payment that paid the order', async () => {
  const first = eventOf('payment.succeeded', orderId);
  await deliver(first);
  const second = eventOf('payment.succeeded', orderId);
  const id = newId('evt');
  for (const _ of [1, 2]) {
    const answer = await deliver(second, { id });
    expect(answer.status).toBe(409);
    expect(answer.body).toEqual({ paidPaymentId: first.data.payment.id });
  }
  expect(await paidBy()).toBe(first.data.payment.id);
  // nodrop refunds the second payment, and reports the refund with an event.
  const payment = { ...second.data.payment, orderUpdate: 'conflict' };
  expect((await deliver(eventOf('payment.conflict', orderId, { version: 2, payment }))).status).toBe(204);
  expect(await page()).toMatch(/Pickup code/);
  expect(await page()).toContain('You paid twice: the money is on its way back to you.');
});

test('if several payments arrive concurrently, exactly one of them pays the order', async () => {
  const events = Array.from({ length: 6 }, () => eventOf('payment.succeeded', orderId));
  const answers = await Promise.all(events.map((event) => deliver(event)));
  const winner = await paidBy();
  expect(answers.map(({ status }) => status).sort()).toEqual([204, 409, 409, 409, 409, 409]);
  for (const { status, body } of answers) if (status === 409) expect(body.paidPaymentId).toBe(winner);
});

test("an event whose amount or currency differs from the order's is answered 422", async () => {
  for (const payment of [{ amount: 1 }, { currency: 'JPY' }]) {
    expect((await deliver(eventOf('payment.succeeded', orderId, { payment }))).status).toBe(422);
  }
  expect(await paidBy()).toBeNull();
});

test("an event is acknowledged even if the order's amount has changed since the attempt was made", async () => {
  const ended = { amount: 1, status: 'cancelled', orderUpdate: null };
  expect((await deliver(eventOf('payment.cancelled', orderId, { payment: ended }))).status).toBe(204);
  for (const [type, orderUpdate] of [
    ['payment.review', 'review'],
    ['payment.conflict', 'conflict'],
    ['refund.succeeded', 'conflict'],
  ] as const)
    expect((await deliver(eventOf(type, orderId, { payment: { amount: 1, orderUpdate } }))).status).toBe(204);
  expect(await paidBy()).toBeNull();
});

test('for a cancelled order, a success is answered 410, and other events are acknowledged', async () => {
  await queryOnce(shop.database.url, `update orders set cancelled_at = now() where id = '${orderId}'`);
  const event = eventOf('payment.succeeded', orderId);
  expect((await deliver(event)).status).toBe(410);
  expect(await paidBy()).toBeNull();
  const back = { ...event.data.payment, orderUpdate: 'conflict', refundedAmount: 6800 };
  expect((await deliver(eventOf('refund.succeeded', orderId, { version: 2, payment: back }))).status).toBe(
    204,
  );
  expect(await page()).toContain('the money was refunded to you');
});

test('the order stays open after an attempt without money, and the page asks the customer not to pay again while an attempt is in review', async () => {
  const failed = { status: 'failed', orderUpdate: null };
  await deliver(eventOf('payment.failed', orderId, { payment: failed }));
  answers.order = { status: 'unpaid', payments: [failed] };
  expect(await page()).toMatch(/Declined[\s\S]*nothing was charged[\s\S]*Try again/);
  await deliver(eventOf('payment.review', orderId, { payment: { orderUpdate: 'review' } }));
  expect(await page()).toContain('Please do not pay again');
  expect(await page()).not.toContain('Try again');
  expect(await paidBy()).toBeNull();
});

const closed = { status: 'closed', orderUpdate: null };
test.each<[string, Answers['order']]>([
  ['cannot be reached', undefined],
  [
    'knows of another attempt',
    { status: 'paying', payments: [{ status: 'paying', orderUpdate: null }, closed] },
  ],
  [
    'is starting another attempt',
    { status: 'unpaid', payments: [{ status: 'created', orderUpdate: null }, closed] },
  ],
  [
    'has recorded the money',
    { status: 'succeeded', payments: [{ status: 'succeeded', orderUpdate: 'pending' }, closed] },
  ],
  ['reports an unknown status', { status: 'thinking', payments: [closed] }],
])(
  'even if all attempts that the shop knows have ended, the page does not say "nothing was charged" while nodrop %s',
  async (_name, says) => {
    await deliver(eventOf('payment.closed', orderId, { payment: closed }));
    answers.order = says;
    const text = await page();
    expect(text).toContain('Waiting for your payment');
    expect(text).not.toMatch(/charged|Not paid<|Try again/);
    answers.order = { status: 'closed', payments: [closed] };
    expect(await page()).toMatch(/Not paid<[\s\S]*nothing was charged/);
  },
);

test.each([
  ['unpaid', true],
  ['closed', false],
  ['cancelled', false],
])(
  'whether an order with the status %s at nodrop can be paid again after an attempt without money: %s',
  async (status, isOpen) => {
    await deliver(eventOf('payment.closed', orderId, { payment: closed }));
    answers.order = { status, payments: [closed] };
    const text = await page();
    expect(text).toMatch(/Not paid<[\s\S]*nothing was charged/);
    expect(/Try again<\/button>/.test(text)).toBe(isOpen);
    expect(text.includes('This order can no longer be paid.')).toBe(!isOpen);
    expect(text.includes('Cancel the order')).toBe(isOpen);
  },
);

test('after a refund, the page does not offer "Pay again" while another attempt can still be paid', async () => {
  const back = { status: 'succeeded', orderUpdate: 'conflict' };
  await deliver(eventOf('payment.conflict', orderId, { payment: { ...back, refundedAmount: 6800 } }));
  answers.order = { status: 'paying', payments: [{ status: 'paying', orderUpdate: null }, back] };
  expect(await page()).toMatch(/Waiting for your payment[\s\S]*the money was refunded to you/);
  expect(await page()).not.toContain('Pay again');
  answers.order = { status: 'unpaid', payments: [back] };
  expect(await page()).toMatch(/Not paid<[\s\S]*the money was refunded to you[\s\S]*Pay again/);
});

test('an unknown event type or status is stored, and the page does not show it as a failure', async () => {
  const payment = { status: 'thinking', orderUpdate: null };
  expect((await deliver(eventOf('payment.thinking', orderId, { payment }))).status).toBe(204);
  expect(await page()).toContain('Waiting for your payment');
});

test('an event about neither a payment nor a refund is acknowledged and has no effect', async () => {
  const before = await eventsKnown();
  for (const data of [{}, { dispute: { id: 'd' } }, undefined])
    expect((await deliver({ type: 'dispute.opened', data })).status).toBe(204);
  expect((await deliver(eventOf('dispute.opened', orderId))).status).toBe(204);
  expect(await paidBy()).toBeNull();
  expect(await eventsKnown()).toBe(before);
});
