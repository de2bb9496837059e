import { describe, expect, test } from 'vitest';
import type { OrderChange } from '../../src/ledger/change-order.ts';
import type { LedgerClient } from '../../src/ledger/client.ts';
import { Connection } from '../../src/ledger/connection.ts';
import { isDatabaseUnavailable } from '../../src/ledger/database-errors.ts';
import { createOrder, type UnaskedAttempts } from '../../src/ledger/new-payment.ts';
import { cancelOrder, releaseEndingOrder } from '../../src/ledger/orders.ts';
import {
  endPayment,
  recordAnswer,
  recordCreated,
  recordSilence,
  settlePayment,
} from '../../src/ledger/payments.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { TooBusy } from '../../src/ledger/transaction-limits.ts';
import { eventually, queryOnce } from '../support/stack.ts';
import {
  attempt,
  change,
  code,
  connect,
  databaseUrl,
  db,
  ended,
  inSeconds,
  merchantId,
  merchants,
  newOrder,
  now,
  orderRow,
  paid,
  pay,
  row,
} from './change-order-support.ts';

/**
 * Tests changes of an order, which nodrop makes under the order's lock. If the amount of an attempt differs from the
 * order's amount, the attempt's money pays the order only if an operator accepts it.
 */

/** A database client that acts as another process. */
const other = connect();
const timeline = async (paymentId: string) =>
  (await db.timelineEntry.findMany({ where: { paymentId }, orderBy: { id: 'asc' } })).map(
    ({ detail }) => detail,
  );

describe('a change of an order', () => {
  test('every field can be changed, and a repeated change has no effect, even after the order is paid', async () => {
    const { id, orderId } = await ended();
    const changes = { amount: 1250, subject: 'Three tickets', metadata: { c: 'd' }, expiresInSeconds: 7200 };
    await change(orderId, changes);
    const changed = await orderRow(orderId);
    expect(changed).toMatchObject({
      ...{ amount: 1250n, currency: 'CNY', subject: 'Three tickets', metadata: { c: 'd' }, status: 'unpaid' },
      expiresAt: new Date(changed.createdAt.getTime() + 7_200_000),
    });
    const said = await timeline(id);
    expect(said.at(-1)).toBe(`The amount of order ${orderId} was changed from CNY 10.00 to CNY 12.50.`);
    const events = await db.event.count();
    await change(orderId, changes);
    await change(orderId, {});
    expect(await orderRow(orderId)).toEqual(changed);

    expect(await attempt({ id: orderId })).toMatchObject({ amount: 1250n, subject: 'Three tickets' });
    const [second] = await db.payment.findMany({ where: { orderId, id: { not: id } } });
    expect(await pay(second?.id ?? '', 1250)).toMatchObject({ orderUpdate: 'applied' });
    const before = await orderRow(orderId);
    await change(orderId, changes);
    expect(await orderRow(orderId)).toEqual(before);
    expect(await timeline(id)).toEqual(said);
    // The only new event reports the second attempt's success.
    expect(await db.event.count()).toBe(events + 1);
  });

  test('an order that is paid, cancelled, expired or being cancelled refuses changes', async () => {
    const { id, orderId } = await attempt();
    await pay(id, 1000);
    await expect(change(orderId, { amount: 1 })).rejects.toMatchObject(code('order_already_paid'));
    await expect(change(orderId, { subject: 'x' })).rejects.toMatchObject(code('order_already_paid'));

    const over = newOrder();
    await createOrder(db, merchantId, over, now());
    await cancelOrder(db, merchantId, over.id, now());
    await expect(change(over.id, { amount: 1 })).rejects.toMatchObject(code('order_not_payable'));

    const ending = await attempt();
    await cancelOrder(db, merchantId, ending.orderId, now());
    await expect(change(ending.orderId, { subject: 'x' })).rejects.toMatchObject(code('order_not_payable'));

    const brief = newOrder({ expiresInSeconds: 60 });
    await createOrder(db, merchantId, brief, now());
    const late = { at: inSeconds(61) };
    await expect(change(brief.id, { expiresInSeconds: 3600 }, late)).rejects.toMatchObject(
      code('order_not_payable'),
    );
    await expect(change('nobody', { amount: 1 })).rejects.toMatchObject(code('order_not_found'));
    await expect(change(brief.id, { amount: 1 }, { merchant: merchants.review })).rejects.toMatchObject(
      code('order_not_found'),
    );
  });

  test('a change of the amount is refused while an attempt can be paid or received money waits for a decision', async () => {
    const live = await attempt();
    const unasked = await change(live.orderId, { amount: 1250 }).catch((error: unknown) => error);
    expect((unasked as UnaskedAttempts).attempts.map(({ id }) => id)).toEqual([live.id]);
    // The channel was queried, and its answer could not be read.
    await recordSilence(db, live.id, 'no answer', 60_000, now());
    const asked = { asked: [live.id] };
    await expect(change(live.orderId, { amount: 1250 }, asked)).rejects.toMatchObject(
      code('attempt_unresolved'),
    );
    await recordAnswer(db, live.id, { state: 'processing' }, 'query', now());
    await expect(change(live.orderId, { amount: 1250 }, asked)).rejects.toMatchObject(
      code('attempt_unresolved'),
    );
    // In this case, money is recorded for a payment that had ended.
    const late = await ended();
    await recordAnswer(db, late.id, paid(1000), 'query', now());
    await expect(change(late.orderId, { amount: 1250 })).rejects.toMatchObject(code('attempt_unresolved'));
    expect((await pay(late.id, 1000)).orderUpdate).toBe('applied');
    await expect(change(late.orderId, { amount: 1250 })).rejects.toMatchObject(code('order_already_paid'));
    // In this case, money waits for a decision while another attempt is live. The change is refused, and the live
    // attempt is not closed.
    const short = await attempt();
    await attempt({ id: short.orderId }, { channel: 'simulator2' });
    await pay(short.id, 900);
    await expect(change(short.orderId, { amount: 900 })).rejects.toMatchObject(code('attempt_unresolved'));
    for (const { orderId } of [live, late, short]) expect((await orderRow(orderId)).amount).toBe(1000n);
  });

  test('changing the subject or the metadata, or making the expiry later, ends no attempt', async () => {
    const live = await attempt(newOrder({ expiresInSeconds: 120 }));
    await recordAnswer(db, live.id, { state: 'processing' }, 'query', now());
    await change(live.orderId, { subject: 'x', metadata: {}, expiresInSeconds: 240, amount: 1000 });
    expect(await row(live.id)).toMatchObject({ status: 'created', cancelRequestedAt: null, amount: 1000n });
    // The trade of the attempt keeps the subject with which the attempt was created.
    expect((await row(live.id)).subject).toBe('Two tickets');
    expect((await orderRow(live.orderId)).subject).toBe('x');
  });

  test('when the subject of an order changes, a payment that an older release created keeps the old subject', async () => {
    const old = await attempt(newOrder());
    await db.$transaction([
      db.$executeRaw`SET LOCAL session_replication_role = replica`,
      db.$executeRaw`UPDATE payments SET subject = NULL WHERE id = ${old.id}`,
    ]);
    await change(old.orderId, { subject: 'x' });
    expect((await row(old.id)).subject).toBe('Two tickets');
  });

  test('a change is refused if the new expiry is in the past or earlier than the expiry of a live payment', async () => {
    const live = await attempt(newOrder({ expiresInSeconds: 3600 }));
    const { createdAt } = await orderRow(live.orderId);
    const at = new Date(createdAt.getTime() + 30_000);
    await expect(change(live.orderId, { expiresInSeconds: 30 }, { at })).rejects.toMatchObject({
      code: 'invalid_request',
      errors: [{ path: 'expiresInSeconds', message: expect.stringContaining('30 seconds') }],
    });
    const least = Math.ceil((live.expiresAt.getTime() - createdAt.getTime()) / 1000);
    await expect(change(live.orderId, { expiresInSeconds: least - 1 }, { at })).rejects.toMatchObject({
      code: 'invalid_request',
      errors: [{ path: 'expiresInSeconds', message: expect.stringContaining(`at least ${least}, `) }],
    });
    await change(live.orderId, { expiresInSeconds: least }, { at });
    // This request is refused only because its expiry is in the past. The refused request must not end any attempt.
    await expect(change(live.orderId, { amount: 1, expiresInSeconds: 30 }, { at })).rejects.toMatchObject(
      code('invalid_request'),
    );
    await endPayment(db, live.id, 'closed', 'closed.', now());
    await change(live.orderId, { expiresInSeconds: 45 }, { at });
    expect((await orderRow(live.orderId)).expiresAt).toEqual(new Date(createdAt.getTime() + 45_000));
  });
});

describe('two requests that wait for the lock of one order', () => {
  type Deed = (payment: Payment, ledger: LedgerClient) => Promise<unknown>;

  /**
   * Creates an order with an ended attempt, and lets two processes wait for the order's lock, one behind the other. If
   * a process reaches its timeout, the function starts again with a new order.
   * @returns the outcome of each process, and the attempt.
   */
  async function race(...deeds: readonly [Deed, Deed]) {
    for (;;) {
      const payment = await ended(newOrder({ expiresInSeconds: 60 }));
      const holder = new Connection({ connectionString: databaseUrl });
      await holder.connect();
      await holder.query('BEGIN');
      await holder.query('SELECT FROM orders WHERE id = $1 FOR UPDATE', [payment.orderId]);
      let isOver = false;
      const running: Promise<PromiseSettledResult<unknown>>[] = [];
      for (const [nth, deed] of deeds.entries()) {
        const settled = Promise.allSettled([deed(payment, nth === 0 ? db : other)]);
        running.push(settled.then(([result]) => result));
        void settled.then(() => {
          isOver = true;
        });
        await eventually(async () => {
          // This query does not run on `holder`, because pg_stat_activity would not be refreshed within the
          // transaction of `holder`.
          const waiting = await queryOnce(
            databaseUrl,
            `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
          );
          return isOver || waiting.length === nth + 1;
        });
      }
      await holder.query('COMMIT');
      await holder.end();
      const results = await Promise.all(running);
      const outcomes = results.map((one) =>
        one.status === 'fulfilled'
          ? 'done'
          : one.reason instanceof TooBusy || isDatabaseUnavailable(one.reason)
            ? 'out of time'
            : (one.reason.code ?? one.reason.name),
      );
      if (!outcomes.includes('out of time')) return { payment, outcomes };
    }
  }

  const changeTo =
    (changes: OrderChange): Deed =>
    async ({ orderId }, ledger) =>
      await change(orderId, changes, { ledger });
  const toAnotherAmount = changeTo({ amount: 1250 });

  test('a new attempt after the change gets the changed amount, and a change after a new attempt fails with UnaskedAttempts', async () => {
    const again: Deed = ({ orderId }, ledger) => attempt({ id: orderId }, { ledger });
    const first = await race(toAnotherAmount, again);
    expect(first.outcomes).toEqual(['done', 'done']);
    const live = { orderId: first.payment.orderId, status: 'created' };
    expect(await db.payment.findMany({ where: live })).toMatchObject([{ amount: 1250n }]);
    const second = await race(again, toAnotherAmount);
    expect(second.outcomes).toEqual(['done', 'UnaskedAttempts']);
    expect((await orderRow(second.payment.orderId)).amount).toBe(1000n);
  });

  test('after a change, a request for a new attempt is refused if it contains the previous content of the order', async () => {
    const withOrder: Deed = async ({ orderId }, ledger) =>
      await attempt(newOrder({ id: orderId, expiresInSeconds: 60 }), { ledger });
    const { payment, outcomes } = await race(toAnotherAmount, withOrder);
    expect(outcomes).toEqual(['done', 'order_exists']);
    expect(await db.payment.count({ where: { orderId: payment.orderId } })).toBe(1);
  });

  test('two different changes are applied one after the other, and two equal changes write only one timeline entry', async () => {
    const said = async ({ id }: Payment) =>
      (await timeline(id)).filter((detail) => detail.includes('was changed')).length;
    const differing = await race(toAnotherAmount, changeTo({ amount: 1300 }));
    expect(differing.outcomes).toEqual(['done', 'done']);
    expect((await orderRow(differing.payment.orderId)).amount).toBe(1300n);
    expect(await said(differing.payment)).toBe(2);
    const same = await race(toAnotherAmount, toAnotherAmount);
    expect(same.outcomes).toEqual(['done', 'done']);
    expect(await said(same.payment)).toBe(1);
  });

  test('a change after a cancellation is refused, and a cancellation after a change cancels the changed order', async () => {
    const cancel: Deed = ({ orderId }, ledger) => cancelOrder(ledger, merchantId, orderId, now());
    expect((await race(cancel, toAnotherAmount)).outcomes).toEqual(['done', 'order_not_payable']);
    const { payment, outcomes } = await race(toAnotherAmount, cancel);
    expect(outcomes).toEqual(['done', 'done']);
    expect(await orderRow(payment.orderId)).toMatchObject({ status: 'cancelled', amount: 1250n });
  });

  test('a change of the expiry keeps the order open if it comes before the order expires, and is refused if it comes later', async () => {
    const close: Deed = ({ orderId: id }, ledger) =>
      releaseEndingOrder(ledger, { merchantId, id }, inSeconds(61));
    const { payment, outcomes } = await race(changeTo({ expiresInSeconds: 3600 }), close);
    expect(outcomes).toEqual(['done', 'done']);
    expect((await orderRow(payment.orderId)).status).toBe('unpaid');
    const late = await ended(newOrder({ expiresInSeconds: 60 }));
    await close(late, db);
    await expect(change(late.orderId, { expiresInSeconds: 3600 })).rejects.toMatchObject(
      code('order_not_payable'),
    );
  });

  test('money of an ended attempt pays the order if it arrives before the change, and waits for an operator if it arrives after the change', async () => {
    const succeed: Deed = ({ id }, ledger) => recordAnswer(ledger, id, paid(1000), 'query', now());
    const first = await race(succeed, toAnotherAmount);
    expect(first.outcomes).toEqual(['done', 'attempt_unresolved']);
    const second = await race(toAnotherAmount, succeed);
    expect(second.outcomes).toEqual(['done', 'done']);
    for (const [{ payment }, orderUpdate] of [
      [first, 'applied'],
      [second, 'review'],
    ] as const) {
      await settlePayment(db, payment.id, now());
      expect((await row(payment.id)).orderUpdate).toBe(orderUpdate);
    }
  });
});

test('a repeated create request is compared with the order’s current content', async () => {
  const order = newOrder();
  const { orderId } = await ended(order);
  await change(orderId, { amount: 1250, subject: 'x', metadata: {} });
  await expect(createOrder(db, merchantId, order, now())).rejects.toMatchObject(code('order_exists'));
  const held = { ...order, amount: 1250, subject: 'x', metadata: {} };
  expect((await createOrder(db, merchantId, held, now())).created).toBe(false);
  expect((await attempt(held)).amount).toBe(1250n);
});

test('if the subject of an order changes, an existing attempt keeps the previous subject', async () => {
  const { id, orderId } = await attempt();
  await recordCreated(db, id, { type: 'redirect', url: 'https://wallet.example' }, now());
  await change(orderId, { subject: 'x' });
  expect((await row(id)).subject).toBe('Two tickets');
});
