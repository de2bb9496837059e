// The example shop as an order service: signed events over HTTP against its own database, and what it answers.
import { expect, test } from 'vitest';
import { testEvents } from '../../src/ledger/event-samples.ts';
import { eventually, queryOnce } from '../support/stack.ts';
import {
  type Answers,
  answers,
  eventsKnown,
  orderId,
  page,
  paidBy,
  paymentsRead,
  shop,
  tell,
} from './shop-events-support.ts';
import { eventOf, newId, newSecret, readBack, send } from './support.ts';

test('a verified event makes the order paid, and the goods are handed out', async () => {
  expect(await page()).not.toContain('Pickup code');
  const event = eventOf('payment.succeeded', orderId);
  expect((await tell(event)).status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
  expect(await page()).toMatch(/Paid[\s\S]*Pickup code/);
});

test('test events are taken, and change nothing', async () => {
  const rows = async () =>
    await Promise.all(
      ['orders', 'payments', 'events'].map((table) =>
        queryOnce(shop.database.url, `select * from ${table} order by id`),
      ),
    );
  const before = await rows();
  for (const { id, body } of testEvents(new Date())) {
    // Also one that looks like the payment of an order that is here.
    const payment = { ...eventOf('payment.succeeded', orderId).data.payment };
    for (const sent of [body, { ...body, data: { ...body.data, payment } }])
      expect((await tell(sent, { id })).status, body.type).toBe(204);
  }
  expect(await rows()).toEqual(before);
});

test('signed nonsense is refused', async () => {
  expect((await tell({ type: 'payment.succeeded', data: {} })).status).toBe(400);
  expect((await tell([])).status).toBe(400);
  const wrong = eventOf('payment.succeeded', orderId, { payment: { amount: '6800' } });
  expect((await tell(wrong)).status).toBe(400);
});

test('one of several signatures is enough, as during a rotation of secrets', async () => {
  const event = eventOf('payment.succeeded', orderId);
  const body = JSON.stringify(event);
  const { Webhook } = await import('standardwebhooks');
  const [id, at] = [newId('evt'), new Date()];
  const signatures = [newSecret(), shop.secret].map((secret) => new Webhook(secret).sign(id, at, body));
  const answer = await tell(event, { id, at, headers: { 'webhook-signature': signatures.join(' ') } });
  expect(answer.status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('the same event again, also at the same time, is applied once', async () => {
  const event = eventOf('payment.succeeded', orderId);
  const id = newId('evt');
  const before = await eventsKnown();
  const answers = await Promise.all(Array.from({ length: 8 }, () => tell(event, { id })));
  expect(answers.map(({ status }) => status)).toEqual(Array(8).fill(204));
  expect((await tell(event, { id })).status).toBe(204);
  expect(await eventsKnown()).toBe(before + 1);
  const code = /<strong>(.*)<\/strong>/.exec(await page())?.[1];
  expect((await tell(event, { id })).status).toBe(204);
  expect(await page()).toContain(`<strong>${code}</strong>`);
});

test('an older event after a newer one changes nothing', async () => {
  const payment = { id: newId('pay') };
  // The money was on its way back already when the success arrives: no goods for it.
  const conflict = eventOf('payment.conflict', orderId, {
    version: 2,
    payment: { ...payment, orderUpdate: 'conflict' },
  });
  expect((await tell(conflict)).status).toBe(204);
  expect((await tell(eventOf('payment.succeeded', orderId, { version: 1, payment }))).status).toBe(204);
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

test('a refund that overtakes the success carries it', async () => {
  const payment = { id: newId('pay') };
  const refund = eventOf('refund.succeeded', orderId, {
    version: 2,
    payment: { ...payment, orderUpdate: 'applied', refundedAmount: 800 },
  });
  expect((await tell(refund)).status).toBe(204);
  expect((await tell(eventOf('payment.succeeded', orderId, { version: 1, payment }))).status).toBe(204);
  expect(await paidBy()).toBe(payment.id);
  expect(await page()).toContain('CNY 8.00 of it was refunded to you');
});

test('of money that is all back nothing is handed out, whichever event says so first', async () => {
  const payment = { id: newId('pay') };
  const back = { ...payment, refundedAmount: 6800 };
  expect((await tell(eventOf('refund.succeeded', orderId, { version: 2, payment: back }))).status).toBe(204);
  expect((await tell(eventOf('payment.succeeded', orderId, { version: 1, payment }))).status).toBe(204);
  expect(await paidBy()).toBeNull();
  const applied = { status: 'succeeded', orderUpdate: 'applied', receivedAmount: 6800, refundedAmount: 6800 };
  answers.order = { status: 'refunded', payments: [applied] };
  const text = await page();
  expect(text).toContain('the money was refunded to you');
  expect(text).toContain('This order can no longer be paid');
  expect(text).not.toMatch(/Pickup code|Waiting for your payment|again|<button/);
  // The order is not paid: another payment pays it.
  const next = eventOf('payment.succeeded', orderId);
  expect((await tell(next)).status).toBe(204);
  expect(await paidBy()).toBe(next.data.payment.id);
});

/** A success that had to wait: nodrop sends it now, and it happened 11 s ago. */
const oldSuccess = () => {
  const event = eventOf('payment.succeeded', orderId);
  return { ...event, timestamp: new Date(Date.now() - 11_000).toISOString() };
};

test.each([
  ['all of its money went back', { orderUpdate: 'conflict', refundedAmount: 6800 }],
  [
    'all of its money went back after another shop process had agreed',
    { orderUpdate: 'applied', refundedAmount: 6800 },
  ],
  ['it does not pay the order any more', { orderUpdate: 'conflict' }],
  ['a person decides over it', { orderUpdate: 'review' }],
])('before goods go out by an old event its payment is read: %s', async (_, changes) => {
  const event = oldSuccess();
  answers.payment = { ...event.data.payment, ...changes };
  expect((await tell(event)).status).toBe(204);
  expect(paymentsRead).toEqual([event.data.payment.id]);
  expect(await paidBy()).toBeNull();
  expect(await page()).not.toContain('Pickup code');
  // What is newer still counts.
  const { payment } = event.data;
  const newer = { ...payment, orderUpdate: 'conflict', refundedAmount: 6800 };
  expect((await tell(eventOf('payment.conflict', orderId, { version: 2, payment: newer }))).status).toBe(204);
  expect(await paidBy()).toBeNull();
});

test('an old event whose payment still pays the order hands the goods out', async () => {
  const event = oldSuccess();
  answers.payment = { ...event.data.payment, refundedAmount: 800 };
  expect((await tell(event)).status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('an old event whose payment cannot be read hands nothing out, and is told again', async () => {
  const event = oldSuccess();
  const id = newId('evt');
  answers.payment = 'away';
  expect((await tell(event, { id })).status).toBe(503);
  expect(await paidBy()).toBeNull();
  answers.payment = undefined;
  expect((await tell(event, { id })).status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('nothing is read for an event that is told at once, or hands out nothing', async () => {
  const fresh = eventOf('payment.succeeded', orderId);
  expect((await tell(fresh, { at: new Date(fresh.timestamp) })).status).toBe(204);
  // Known already, however late it comes again.
  expect((await tell(fresh, { at: new Date(Date.parse(fresh.timestamp) + 60_000) })).status).toBe(204);
  const event = oldSuccess();
  const back = { ...event.data.payment, refundedAmount: 6800 };
  expect((await tell({ ...event, data: { ...event.data, payment: back } })).status).toBe(204);
  expect(paymentsRead).toEqual([]);
});

test('a success that does not say what came in is refused', async () => {
  const event = eventOf('payment.succeeded', orderId, { payment: { receivedAmount: null } });
  expect((await tell(event)).status).toBe(400);
  expect(await paidBy()).toBeNull();
});

test('a conflict of the payment that paid the order takes the goods back', async () => {
  const event = eventOf('payment.succeeded', orderId);
  expect((await tell(event)).status).toBe(204);
  expect(await page()).toContain('Pickup code');
  // The answer was lost for so long that an operator decided to refund it.
  const payment = { ...event.data.payment, orderUpdate: 'conflict' };
  expect((await tell(eventOf('payment.conflict', orderId, { version: 2, payment }))).status).toBe(204);
  expect(await paidBy()).toBeNull();
  expect(await page()).not.toContain('Pickup code');
  expect(await page()).toContain('the money is on its way back to you');
  const back = { ...payment, refundedAmount: 6800 };
  expect((await tell(eventOf('refund.succeeded', orderId, { version: 3, payment: back }))).status).toBe(204);
  expect(await page()).toContain('the money was refunded to you');
  // Told again by whoever lost it: older now.
  expect((await tell(event)).status).toBe(204);
  expect(await paidBy()).toBeNull();
});

test('a full refund takes the order off', async () => {
  const payment = { id: newId('pay') };
  await tell(eventOf('payment.succeeded', orderId, { payment }));
  await tell(
    eventOf('refund.succeeded', orderId, { version: 2, payment: { ...payment, refundedAmount: 6800 } }),
  );
  expect(await page()).toContain('Refunded');
  expect(await page()).not.toContain('Pickup code');
});

test('every answer that is not 2xx is logged with its reason', async () => {
  const logged = (line: string) => eventually(async () => shop.process.output.includes(line));
  const id = newId('evt');
  await tell(eventOf('payment.succeeded', 'order-1'), { id });
  await logged(`POST /nodrop/events (${id}) answered 404: {"code":"order_unknown"`);
  await send(shop.url, newSecret(), eventOf('payment.succeeded', orderId), { id });
  await logged(`POST /nodrop/events (${id}) answered 401: {"error":"No matching signature found"}`);
  await fetch(`${shop.url}/nodrop/elsewhere`);
  await logged('GET /nodrop/elsewhere (without an id) answered 404: There is no such address.');
});

test('an unknown order is said to be that, and not to be gone', async () => {
  expect(await tell(eventOf('payment.succeeded', 'order-1'))).toEqual({
    status: 404,
    body: { code: 'order_unknown', error: 'There is no such order here.' },
  });
  expect((await readBack(shop.url, shop.secret, 'order-1')).status).toBe(404);
});

test('a second payment is told which one the order is paid by, every time it is told', async () => {
  const first = eventOf('payment.succeeded', orderId);
  await tell(first);
  const second = eventOf('payment.succeeded', orderId);
  const id = newId('evt');
  for (const _ of [1, 2]) {
    const answer = await tell(second, { id });
    expect(answer.status).toBe(409);
    expect(answer.body).toEqual({ paidPaymentId: first.data.payment.id });
  }
  expect(await paidBy()).toBe(first.data.payment.id);
  // nodrop sends the second one's money back, and says so.
  const payment = { ...second.data.payment, orderUpdate: 'conflict' };
  expect((await tell(eventOf('payment.conflict', orderId, { version: 2, payment }))).status).toBe(204);
  expect(await page()).toMatch(/Pickup code/);
  expect(await page()).toContain('You paid twice: the money is on its way back to you.');
});

test('two payments at the same time: exactly one pays the order', async () => {
  const events = Array.from({ length: 6 }, () => eventOf('payment.succeeded', orderId));
  const answers = await Promise.all(events.map((event) => tell(event)));
  const winner = await paidBy();
  expect(answers.map(({ status }) => status).sort()).toEqual([204, 409, 409, 409, 409, 409]);
  for (const { status, body } of answers) if (status === 409) expect(body.paidPaymentId).toBe(winner);
});

test('another amount or currency than the order has is neither applied nor given up', async () => {
  for (const payment of [{ amount: 1 }, { currency: 'JPY' }]) {
    expect((await tell(eventOf('payment.succeeded', orderId, { payment }))).status).toBe(422);
  }
  expect(await paidBy()).toBeNull();
});

test('what is told of an attempt at an earlier amount of the order is taken note of', async () => {
  const ended = { amount: 1, status: 'cancelled', orderUpdate: null };
  expect((await tell(eventOf('payment.cancelled', orderId, { payment: ended }))).status).toBe(204);
  for (const [type, orderUpdate] of [
    ['payment.review', 'review'],
    ['payment.conflict', 'conflict'],
    ['refund.succeeded', 'conflict'],
  ] as const)
    expect((await tell(eventOf(type, orderId, { payment: { amount: 1, orderUpdate } }))).status).toBe(204);
  expect(await paidBy()).toBeNull();
});

test('a cancelled order is gone for money, and not for what else is said', async () => {
  await queryOnce(shop.database.url, `update orders set cancelled_at = now() where id = '${orderId}'`);
  const event = eventOf('payment.succeeded', orderId);
  expect((await tell(event)).status).toBe(410);
  expect(await paidBy()).toBeNull();
  const back = { ...event.data.payment, orderUpdate: 'conflict', refundedAmount: 6800 };
  expect((await tell(eventOf('refund.succeeded', orderId, { version: 2, payment: back }))).status).toBe(204);
  expect(await page()).toContain('the money was refunded to you');
});

test('ends without money leave the order open, and money in review does not ask for more', async () => {
  const failed = { status: 'failed', orderUpdate: null };
  await tell(eventOf('payment.failed', orderId, { payment: failed }));
  answers.order = { status: 'unpaid', payments: [failed] };
  expect(await page()).toMatch(/Declined[\s\S]*nothing was charged[\s\S]*Try again/);
  await tell(eventOf('payment.review', orderId, { payment: { orderUpdate: 'review' } }));
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
  ['is just making one', { status: 'unpaid', payments: [{ status: 'created', orderUpdate: null }, closed] }],
  [
    'has the money',
    { status: 'succeeded', payments: [{ status: 'succeeded', orderUpdate: 'pending' }, closed] },
  ],
  ['says what nobody knew', { status: 'thinking', payments: [closed] }],
])('every known attempt is over, and nodrop %s: not "nothing was charged"', async (_name, says) => {
  await tell(eventOf('payment.closed', orderId, { payment: closed }));
  answers.order = says;
  const text = await page();
  expect(text).toContain('Waiting for your payment');
  expect(text).not.toMatch(/charged|Not paid<|Try again/);
  answers.order = { status: 'closed', payments: [closed] };
  expect(await page()).toMatch(/Not paid<[\s\S]*nothing was charged/);
});

test.each([
  ['unpaid', true],
  ['closed', false],
  ['cancelled', false],
])('an order that is %s at nodrop, and nothing was charged: to be paid again? %s', async (status, isOpen) => {
  await tell(eventOf('payment.closed', orderId, { payment: closed }));
  answers.order = { status, payments: [closed] };
  const text = await page();
  expect(text).toMatch(/Not paid<[\s\S]*nothing was charged/);
  expect(/Try again<\/button>/.test(text)).toBe(isOpen);
  expect(text.includes('This order can no longer be paid.')).toBe(!isOpen);
  expect(text.includes('Cancel the order')).toBe(isOpen);
});

test('money that went back, and another attempt under way: not "pay again"', async () => {
  const back = { status: 'succeeded', orderUpdate: 'conflict' };
  await tell(eventOf('payment.conflict', orderId, { payment: { ...back, refundedAmount: 6800 } }));
  answers.order = { status: 'paying', payments: [{ status: 'paying', orderUpdate: null }, back] };
  expect(await page()).toMatch(/Waiting for your payment[\s\S]*the money was refunded to you/);
  expect(await page()).not.toContain('Pay again');
  answers.order = { status: 'unpaid', payments: [back] };
  expect(await page()).toMatch(/Not paid<[\s\S]*the money was refunded to you[\s\S]*Pay again/);
});

test('a type and a state nobody knew are kept, and are not taken for a failure', async () => {
  const payment = { status: 'thinking', orderUpdate: null };
  expect((await tell(eventOf('payment.thinking', orderId, { payment }))).status).toBe(204);
  expect(await page()).toContain('Waiting for your payment');
});

test('events of another kind are taken note of', async () => {
  const before = await eventsKnown();
  for (const data of [{}, { dispute: { id: 'd' } }, undefined])
    expect((await tell({ type: 'dispute.opened', data })).status).toBe(204);
  expect((await tell(eventOf('dispute.opened', orderId))).status).toBe(204);
  expect(await paidBy()).toBeNull();
  expect(await eventsKnown()).toBe(before);
});
