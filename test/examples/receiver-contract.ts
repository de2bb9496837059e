// The contract that every receiver of nodrop's events must meet, in any language. Each receiver runs as its users run
// it, on the tables of examples/receiver.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { Connection } from '../../src/ledger/connection.ts';
import { testEvents } from '../../src/ledger/event-samples.ts';
import { emptyDatabase, eventually, type FreshDatabase, queryOnce } from '../support/stack.ts';
import {
  Example,
  eventOf,
  newId,
  newSecret,
  OWN_RECEIVER,
  type ReceiverStart,
  send,
  sendAsWritten,
  signature,
  startReceiver,
} from './support.ts';

const schema = readFileSync(new URL('../../examples/receiver/schema.sql', import.meta.url), 'utf8');

/** Registers the tests of a receiver, and of the program that creates an order and its payment. */
export function receiverContract(prepare = async (): Promise<ReceiverStart> => OWN_RECEIVER): void {
  const secret = newSecret();
  let programs: ReceiverStart;
  let nodropUrl: string;
  let database: FreshDatabase;
  let receiver: { url: string; process: Example };
  let orderId: string;

  /**
   * The payment that the simulated nodrop returns. By default it is the payment of the last event. With `away`, nodrop
   * answers 503.
   */
  let paymentIs: object | 'away' | undefined;
  let lastDelivered: object = {};
  const paymentsRead: string[] = [];
  const paymentsMade: string[] = [];
  const nodrop = createServer(async (request, response) => {
    expect(request.headers.authorization).toBe('Bearer sk_of_the_shop');
    if (request.method === 'POST') {
      paymentsMade.push((await request.setEncoding('utf8').toArray()).join(''));
      response.writeHead(201, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ status: 'pending', checkoutUrl: 'http://127.0.0.1/checkout' }));
      return;
    }
    paymentsRead.push(request.url ?? '');
    response.writeHead(paymentIs === 'away' ? 503 : 200, { 'content-type': 'application/json' });
    const problem = { status: 503, code: 'database_unavailable' };
    response.end(JSON.stringify(paymentIs === 'away' ? problem : (paymentIs ?? lastDelivered)));
  });

  /** A proxy between the receiver and its database. */
  let sqlSent = '';
  const wire = createTcpServer((client) => {
    const { hostname, port } = new URL(database.url);
    const server = connect(Number(port), hostname);
    client.on('data', (data) => {
      sqlSent += data.toString('latin1');
    });
    client.on('error', () => server.destroy()).on('close', () => server.destroy());
    server.on('error', () => client.destroy()).on('close', () => client.destroy());
    client.pipe(server).pipe(client);
  });

  beforeAll(async () => {
    for (const server of [nodrop, wire]) await once(server.listen(0, '127.0.0.1'), 'listening');
    database = await emptyDatabase();
    await queryOnce(database.url, schema);
    nodropUrl = `http://127.0.0.1:${(nodrop.address() as AddressInfo).port}`;
    const url = new URL(database.url);
    url.host = `127.0.0.1:${(wire.address() as AddressInfo).port}`;
    programs = await prepare();
    receiver = await startReceiver({ url: url.href }, secret, nodropUrl, programs);
  });

  beforeEach(() => {
    paymentIs = undefined;
    paymentsRead.length = 0;
    paymentsMade.length = 0;
    sqlSent = '';
  });

  afterAll(async () => {
    nodrop.close();
    await receiver?.process.stop();
    wire.close();
    await database?.drop();
  });

  async function newOrder(): Promise<string> {
    orderId = newId('order');
    await queryOnce(database.url, `insert into orders values ('${orderId}', 6800, 'CNY')`);
    return orderId;
  }

  const deliver = (event: object, options?: Parameters<typeof send>[3]) => {
    lastDelivered = (event as { data?: { payment?: object } }).data?.payment ?? {};
    return send(receiver.url, secret, event, options);
  };

  async function paidBy(): Promise<unknown> {
    const [order] = await queryOnce(
      database.url,
      `select paid_payment_id from orders where id = '${orderId}'`,
    );
    return order?.paid_payment_id;
  }

  test('a verified event pays the order once, even if it is delivered several times and concurrently', async () => {
    const event = eventOf('payment.succeeded', await newOrder());
    const id = newId('evt');
    const answers = await Promise.all(Array.from({ length: 5 }, () => deliver(event, { id })));
    expect(answers.map(({ status }) => status)).toEqual(Array(5).fill(200));
    expect(await paidBy()).toBe(event.data.payment.id);
  });

  test('a forged event and an old event are refused and have no effect', async () => {
    const event = eventOf('payment.succeeded', await newOrder());
    const forged = await send(receiver.url, newSecret(), event);
    const old = await deliver(event, { at: new Date(Date.now() - 6 * 60_000) });
    expect([forged.status, old.status]).toEqual([401, 401]);
    expect(await paidBy()).toBeNull();
  });

  test('header names are accepted in upper and lower case, because a proxy may change them', async () => {
    const event = eventOf('payment.succeeded', await newOrder());
    const body = JSON.stringify(event);
    const signed = signature(secret, newId('evt'), new Date(), body);
    const headers = {
      'Content-Type': 'application/json',
      'Webhook-Id': signed['webhook-id'] ?? '',
      'Webhook-Timestamp': signed['webhook-timestamp'] ?? '',
      'Webhook-Signature': signed['webhook-signature'] ?? '',
      'Content-Length': String(body.length),
    };
    expect(await sendAsWritten(receiver.url, headers, body)).toBe(200);
    expect(await paidBy()).toBe(event.data.payment.id);
  });

  test('a request whose body is too long, or whose content-length is negative, is refused immediately', async () => {
    const long = 'x'.repeat(2_000_000);
    for (const [length, body] of [
      [-1, ''],
      [long.length, long],
    ] as const) {
      const headers = { 'content-type': 'application/json', 'content-length': String(length) };
      const status = await sendAsWritten(receiver.url, headers, body);
      // Some servers close the connection and send no answer.
      expect([0, 400, 413], String(length)).toContain(status);
    }
  });

  test('an older event that arrives after a newer event has no effect', async () => {
    const payment = { id: newId('pay') };
    const conflict = { ...payment, orderUpdate: 'conflict' };
    await newOrder();
    expect(
      (await deliver(eventOf('payment.conflict', orderId, { version: 2, payment: conflict }))).status,
    ).toBe(200);
    expect((await deliver(eventOf('payment.succeeded', orderId, { version: 1, payment }))).status).toBe(200);
    expect(await paidBy()).toBeNull();
  });

  test('if the event of a partial refund arrives before the success event, the order is marked as paid', async () => {
    const payment = { id: newId('pay'), refundedAmount: 800, orderUpdate: 'applied' };
    expect(
      (await deliver(eventOf('refund.succeeded', await newOrder(), { version: 2, payment }))).status,
    ).toBe(200);
    expect(await paidBy()).toBe(payment.id);
  });

  test('a payment that was refunded in full does not pay the order, whichever of its events arrives first', async () => {
    const payment = { id: newId('pay'), refundedAmount: 6800, orderUpdate: 'applied' };
    const refund = eventOf('refund.succeeded', await newOrder(), { version: 2, payment });
    expect((await deliver(refund)).status).toBe(200);
    const success = eventOf('payment.succeeded', orderId, { payment: { id: payment.id } });
    expect((await deliver(success)).status).toBe(200);
    expect(
      (await deliver(eventOf('payment.succeeded', orderId, { payment: { ...payment, id: newId('pay') } })))
        .status,
    ).toBe(200);
    expect(await paidBy()).toBeNull();
  });

  /** A success event that is delivered late: the payment succeeded 11 s ago. */
  async function oldSuccess() {
    const event = eventOf('payment.succeeded', await newOrder());
    return { ...event, timestamp: new Date(Date.now() - 11_000).toISOString() };
  }

  test('for a late event, the receiver reads the payment again, and marks the order as paid only if the payment still pays the order', async () => {
    for (const changes of [{ orderUpdate: 'conflict', refundedAmount: 6800 }, { orderUpdate: 'review' }]) {
      const event = await oldSuccess();
      paymentIs = { ...event.data.payment, ...changes };
      expect((await deliver(event)).status).toBe(200);
      expect(paymentsRead.at(-1)).toBe(`/v1/payments/${event.data.payment.id}`);
      expect(await paidBy()).toBeNull();
    }
    const event = await oldSuccess();
    paymentIs = { ...event.data.payment, refundedAmount: 800 };
    expect((await deliver(event)).status).toBe(200);
    expect(await paidBy()).toBe(event.data.payment.id);
  });

  test('a late event does not pay the order if its payment cannot be read, and succeeds when it is redelivered', async () => {
    const event = await oldSuccess();
    paymentIs = 'away';
    expect((await deliver(event)).status).toBe(500);
    expect(await paidBy()).toBeNull();
    paymentIs = undefined;
    expect((await deliver(event)).status).toBe(200);
    expect(await paidBy()).toBe(event.data.payment.id);
  });

  test('the receiver applies an event that is delivered without delay, and does not read the payment', async () => {
    const event = eventOf('payment.succeeded', await newOrder());
    expect((await deliver(event, { at: new Date(event.timestamp) })).status).toBe(200);
    expect(paymentsRead).toEqual([]);
  });

  test('a conflict event marks the order as unpaid only if the event is about the payment that paid the order', async () => {
    const event = eventOf('payment.succeeded', await newOrder());
    await deliver(event);
    const conflict = { orderUpdate: 'conflict' };
    const other = eventOf('payment.conflict', orderId, { payment: conflict });
    expect((await deliver(other)).status).toBe(200);
    expect(await paidBy()).toBe(event.data.payment.id);
    const payment = { ...event.data.payment, ...conflict };
    expect((await deliver(eventOf('payment.conflict', orderId, { version: 2, payment }))).status).toBe(200);
    expect(await paidBy()).toBeNull();
    expect((await deliver(event)).status).toBe(200);
    expect(await paidBy()).toBeNull();
  });

  test('an event of an unknown type is acknowledged, with or without a payment', async () => {
    await newOrder();
    expect(
      (await deliver({ ...eventOf('dispute.opened', orderId), data: { dispute: { id: 'd' } } })).status,
    ).toBe(200);
    expect(
      (await deliver(eventOf('payment.thinking', orderId, { payment: { status: 'thinking' } }))).status,
    ).toBe(200);
    expect(await paidBy()).toBeNull();
    // If an event must have a payment but has none, the receiver never acknowledges it.
    expect((await deliver({ type: 'payment.succeeded', data: {} })).status).toBe(500);
  });

  test('a test event is acknowledged and has no effect', async () => {
    const event = eventOf('payment.succeeded', await newOrder());
    await deliver(event);
    const rows = async () => [
      await queryOnce(database.url, 'select * from orders order by id'),
      await queryOnce(database.url, 'select * from nodrop_payments order by id'),
    ];
    const before = await rows();
    for (const { id, body } of testEvents(new Date())) {
      // The receiver must ignore a test event even if its payment belongs to an existing order.
      const { data } = body;
      const payment = {
        ...data.payment,
        id: newId('pay'),
        orderId,
        refundedAmount: 0,
        orderUpdate: 'pending',
      };
      for (const sent of [body, { ...body, data: { ...data, payment } }])
        expect((await deliver(sent, { id })).status, body.type).toBe(200);
    }
    expect(await rows()).toEqual(before);
  });

  test('a test event does not pay an order, even if the receiver does not know the `test` field', async () => {
    const paid = async () =>
      await queryOnce(database.url, 'select * from orders where paid_payment_id is not null order by id');
    const before = await paid();
    for (const { id, body } of testEvents(new Date())) {
      const { test: _, ...unmarked } = body;
      expect((await deliver(unmarked, { id })).status, body.type).toBe(200);
    }
    expect(await paid()).toEqual(before);
  });

  test('each delivery about a second payment of an order is answered 409 with the id of the first payment', async () => {
    const first = eventOf('payment.succeeded', await newOrder());
    const second = eventOf('payment.succeeded', orderId);
    const id = newId('evt');
    await deliver(first);
    for (const _ of [1, 2]) {
      expect(await deliver(second, { id })).toEqual({
        status: 409,
        body: { paidPaymentId: first.data.payment.id },
      });
    }
    expect(await paidBy()).toBe(first.data.payment.id);
  });

  test('an event is answered 404 if its order is unknown, 410 if its order is cancelled, and 422 if its amount or currency differs', async () => {
    expect(await deliver(eventOf('payment.succeeded', newId('order')))).toEqual({
      status: 404,
      body: { code: 'order_unknown' },
    });
    await newOrder();
    for (const payment of [{ amount: 1 }, { currency: 'JPY' }])
      expect((await deliver(eventOf('payment.succeeded', orderId, { payment }))).status).toBe(422);
    await queryOnce(database.url, `update orders set cancelled = true where id = '${orderId}'`);
    expect((await deliver(eventOf('payment.succeeded', orderId))).status).toBe(410);
    expect(await paidBy()).toBeNull();
  });

  test("an event is acknowledged even if the order's amount has changed since the attempt was made", async () => {
    await newOrder();
    const ended = { amount: 1, status: 'cancelled', orderUpdate: null };
    expect((await deliver(eventOf('payment.cancelled', orderId, { payment: ended }))).status).toBe(200);
    for (const [type, orderUpdate] of [
      ['payment.review', 'review'],
      ['payment.conflict', 'conflict'],
      ['refund.succeeded', 'conflict'],
    ] as const)
      expect((await deliver(eventOf(type, orderId, { payment: { amount: 1, orderUpdate } }))).status).toBe(
        200,
      );
    expect(await paidBy()).toBeNull();
  });

  test('a failure during the transaction rolls all changes back, and the redelivery succeeds', async () => {
    const event = eventOf('payment.succeeded', await newOrder());
    const id = newId('evt');
    await queryOnce(database.url, 'alter table nodrop_payments rename to away');
    expect((await deliver(event, { id })).status).toBe(500);
    await queryOnce(database.url, 'alter table away rename to nodrop_payments');
    expect((await deliver(event, { id })).status).toBe(200);
    expect(await paidBy()).toBe(event.data.payment.id);
  });

  test('the transaction of a refused event is rolled back immediately, while its connection is still open', async () => {
    expect((await deliver(eventOf('payment.succeeded', newId('order')))).status).toBe(404);
    await eventually(async () => /\brollback\b/i.test(sqlSent));
  });

  // Only Linux has a second loopback address.
  test.skipIf(process.platform !== 'linux')(
    'the receiver listens on HOST, by default only on 127.0.0.1',
    async () => {
      const elsewhere = receiver.url.replace('127.0.0.1', '127.0.0.2');
      expect(await sendAsWritten(elsewhere, { 'content-length': '0' })).toBe(0);
      const there = await startReceiver(database, secret, nodropUrl, programs, '127.0.0.2');
      try {
        await eventually(async () => there.process.output.includes(there.url));
        expect((await send(there.url, secret, eventOf('payment.succeeded', newId('order')))).status).toBe(
          404,
        );
      } finally {
        await there.process.stop();
      }
    },
  );

  test('the receiver uses the parameters after the database name in DATABASE_URL', async () => {
    const address = new URL(database.url);
    const [user, password] = [address.username, address.password];
    address.username = '';
    address.password = '';
    // The test's database server does not support TLS.
    for (const [query, status] of [
      [`user=${user}&password=${password}&sslmode=require`, 500],
      [`user=${user}&password=${password}`, 200],
    ] as const) {
      address.search = query;
      const own = await startReceiver({ url: address.href }, secret, nodropUrl, programs);
      try {
        const event = eventOf('payment.succeeded', await newOrder());
        expect(await send(own.url, secret, event), query).toMatchObject({ status });
        expect(await paidBy(), query).toBe(status === 200 ? event.data.payment.id : null);
      } finally {
        await own.process.stop();
      }
    }
  });

  /** Runs the program that creates an order and its payment. */
  async function pay(...args: string[]): Promise<{ code: unknown; output: string }> {
    const { payer, env } = programs;
    const command = typeof payer === 'string' ? ([process.execPath, payer] as const) : payer;
    const settings = { DATABASE_URL: database.url, NODROP_URL: nodropUrl, NODROP_KEY: 'sk_of_the_shop' };
    const program = new Example([...command, ...args], { ...settings, ...env }, async () => true);
    const [code] = await once(program.run(), 'close');
    return { code, output: program.output };
  }

  test('a payment is created with the amount of the stored order, and a request with another amount is refused', async () => {
    const id = newId('order');
    const made = { code: 0, output: `Order ${id} is pending: pay at http://127.0.0.1/checkout\n` };
    expect(await pay(id, '1990', 'CNY')).toEqual(made);
    for (const [amount, currency] of [
      ['2990', 'CNY'],
      ['1990', 'JPY'],
    ] as const)
      expect(await pay(id, amount, currency)).toEqual({
        code: 1,
        output: `Order ${id} costs 1990 CNY: pay that amount, or use another ID.\n`,
      });
    expect(await pay(id, '1990', 'CNY', 'Tea')).toEqual(made);
    const order = { id, amount: 1990, currency: 'CNY' };
    expect(paymentsMade.map((body) => JSON.parse(body))).toEqual([
      { order: { ...order, subject: 'Coffee' }, channel: 'simulator' },
      { order: { ...order, subject: 'Tea' }, channel: 'simulator' },
    ]);
  });

  test('no payment is created for a cancelled or paid order', async () => {
    await newOrder();
    await queryOnce(database.url, `update orders set cancelled = true where id = '${orderId}'`);
    expect(await pay(orderId, '6800', 'CNY')).toEqual({
      code: 1,
      output: `Order ${orderId} is cancelled.\n`,
    });
    const event = eventOf('payment.succeeded', await newOrder());
    await deliver(event);
    expect(await pay(orderId, '6800', 'CNY')).toEqual({
      code: 0,
      output: `Order ${orderId} is paid by ${event.data.payment.id}.\n`,
    });
    expect(paymentsMade).toEqual([]);
  });

  test('if a database connection breaks while an event waits for a lock, only this event fails', async () => {
    const event = eventOf('payment.succeeded', await newOrder());
    const other = new Connection({ connectionString: database.url });
    await other.connect();
    try {
      await other.query('begin');
      await other.query('select 1 from orders where id = $1 for update', [orderId]);
      const waiting = deliver(event);
      // This query does not run on the connection `other`, because pg_stat_activity does not change inside a
      // transaction.
      await eventually(async () => {
        const ended = await queryOnce(
          database.url,
          `select pg_terminate_backend(pid) from pg_stat_activity
           where datname = current_database() and pid <> pg_backend_pid() and wait_event_type = 'Lock'`,
        );
        return ended.length === 1;
      });
      expect((await waiting).status).toBe(500);
    } finally {
      await other.end();
    }
    expect((await deliver(event)).status).toBe(200);
    expect(await paidBy()).toBe(event.data.payment.id);
  });
}
