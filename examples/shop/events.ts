import { randomInt } from 'node:crypto';
import express, { type Request, Router } from 'express';
import type { Pool, PoolClient } from 'pg';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';
import { BODY_LIMIT } from './bodies.ts';
import { inTransaction, isStorable } from './database.ts';
import type { Nodrop, PaymentNow } from './nodrop.ts';
import { money } from './products.ts';

/**
 * Where nodrop tells the shop what became of payments, and reads whether the shop knows. The only code that makes an
 * order paid.
 */

/** What the shop reads of an event; there is more in it. */
interface PaymentEvent {
  readonly type: string;
  readonly timestamp: string;
  /** It is about nothing: `merchants test-event` sent it. */
  readonly test?: true;
  readonly data: { readonly version: number; readonly payment: PaymentOfEvent };
}

interface PaymentOfEvent extends PaymentNow {
  readonly id: string;
  readonly orderId: string;
  readonly amount: number;
  readonly currency: string;
}

/**
 * An event is old when nodrop sent it so long after it happened, both by nodrop's clock. One that is told at once
 * arrives within a second or two; one that had to wait says what was true then, and its money may have gone back
 * meanwhile.
 */
const OLD_AFTER_MS = 10_000;

/** An answer that undoes the transaction: the same event is decided afresh when it comes again. */
class Refusal extends Error {
  readonly status: number;
  readonly body: object;

  constructor(status: number, body: object) {
    super(String(status));
    this.status = status;
    this.body = body;
  }
}

/** Told again, for 24 h by default: an order of which the shop does not know yet may still be on its way into the database. */
const orderUnknown = () => new Refusal(404, { code: 'order_unknown', error: 'There is no such order here.' });

export function nodropRoutes(db: Pool, secret: string, nodrop: Pick<Nodrop, 'readPayment'>): Router {
  const webhook = new Webhook(secret);
  const router = Router();
  // The reason stands beside what nodrop was doing, and in nodrop's own log of deliveries.
  router.use('/nodrop', (request, response, next) => {
    response.on('finish', () => {
      if (response.statusCode < 300) return;
      const id = request.headers['webhook-id'] ?? 'without an id';
      const reason = response.locals.reason ?? 'There is nothing here.';
      console.error(
        `${request.method} ${request.originalUrl} (${id}) answered ${response.statusCode}: ${reason}`,
      );
    });
    next();
  });
  // The signature is of the bytes as they came.
  const raw = express.raw({ type: () => true, limit: BODY_LIMIT });

  router.post('/nodrop/events', raw, async (request, response) => {
    const event = toEvent(verified(webhook, request));
    const id = request.headers['webhook-id'] as string;
    const sentAt = Number(request.headers['webhook-timestamp']) * 1000;
    if (event !== null) {
      // Also when it does not say when it happened.
      const isOld = !(sentAt - Date.parse(event.timestamp) <= OLD_AFTER_MS);
      try {
        await inTransaction(db, (tx) => applyEvent(tx, id, event, isOld));
      } catch (error) {
        if (!(error instanceof ReadingNeeded)) throw error;
        const current = await withPaymentNow(nodrop, event);
        await inTransaction(db, (tx) => applyEvent(tx, id, current, false));
      }
    }
    // Only now: after this answer nodrop does not come again.
    response.sendStatus(204);
  });

  router.get('/nodrop/orders/:id', raw, async (request, response) => {
    verified(webhook, request);
    if (!isStorable(request.params.id)) throw orderUnknown();
    const { rows } = await db.query<{ paidPaymentId: string | null }>(
      'select paid_payment_id as "paidPaymentId" from orders where id = $1',
      [request.params.id],
    );
    if (rows[0] === undefined) throw orderUnknown();
    response.set('Cache-Control', 'no-store').json(rows[0]);
  });

  // Somebody tries the address in a browser.
  router.all('/nodrop/events', (_request, response) => {
    response.set('Allow', 'POST');
    throw new Refusal(405, { error: 'Events come here by POST, from nodrop alone.' });
  });

  // In nodrop's log of deliveries a sentence says more than a page for people.
  const refuse: express.ErrorRequestHandler = (error, _request, response, next) => {
    response.locals.reason = error instanceof Refusal ? JSON.stringify(error.body) : error.message;
    if (error instanceof Refusal) return void response.status(error.status).json(error.body);
    if (!(error.status >= 400 && error.status < 500)) return next(error);
    response.status(error.status).json({ error: error.message });
  };
  router.use('/nodrop', refuse);
  return router;
}

/** @throws Refusal */
function verified(webhook: Webhook, request: Request): unknown {
  const body = Buffer.isBuffer(request.body) ? request.body : '';
  try {
    return webhook.verify(body, request.headers as Record<string, string>);
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw new Refusal(400, { error: 'This is no event.' });
    throw new Refusal(401, { error: error.message });
  }
}

/**
 * @returns null for a test, and for an event of another kind: there will be more of them. Both are acknowledged.
 * @throws Refusal, so that what the shop cannot read is repeated and shown, and never taken for applied.
 */
function toEvent(value: unknown): PaymentEvent | null {
  const { type, timestamp, test, data } = (value ?? {}) as Partial<PaymentEvent>;
  if (test === true) return null;
  if (typeof type === 'string' && !/^(payment|refund)\./.test(type)) return null;
  const payment = data?.payment;
  const texts = [type, timestamp, payment?.id, payment?.orderId, payment?.currency, payment?.status];
  const numbers = [data?.version, payment?.amount, payment?.refundedAmount];
  if (payment?.status === 'succeeded') numbers.push(payment.receivedAmount ?? undefined);
  if (!texts.every((text) => typeof text === 'string') || !numbers.every(Number.isSafeInteger))
    throw new Refusal(400, { error: 'This is no event of a payment.' });
  return value as PaymentEvent;
}

/**
 * What the event says of its payment, in one word. The state decides and not the type: an event that overtook
 * `payment.succeeded`, as that of a refund can, carries the same success, as long as money is left of it.
 */
function stateOf(payment: PaymentNow): string {
  const { status, orderUpdate, receivedAmount, refundedAmount } = payment;
  if (status !== 'succeeded') return status;
  if (orderUpdate !== 'pending' && orderUpdate !== 'applied') return orderUpdate ?? 'open';
  return refundedAmount < (receivedAmount ?? 0) ? 'paid' : 'refunded';
}

/** Undoes the transaction: goods would go out by an old event. */
class ReadingNeeded extends Error {}

/**
 * The event with the state that its payment has now.
 * @throws Refusal while nodrop does not answer: the event comes again.
 */
async function withPaymentNow(
  nodrop: Pick<Nodrop, 'readPayment'>,
  event: PaymentEvent,
): Promise<PaymentEvent> {
  const { payment } = event.data;
  const now = await nodrop.readPayment(payment.id);
  if (now === 'unknown')
    throw new Refusal(503, { error: 'The event is old, and its payment cannot be read.' });
  return { ...event, data: { ...event.data, payment: { ...payment, ...now } } };
}

/**
 * @param isOld no goods may go out by it
 * @throws ReadingNeeded when they would. @throws Refusal
 */
async function applyEvent(
  tx: PoolClient,
  id: string,
  { type, data }: PaymentEvent,
  isOld: boolean,
): Promise<void> {
  const { payment, version } = data;
  const state = stateOf(payment);

  // 1. Every event once, by its webhook-id. The same one at the same time waits here until this one is decided.
  const { rowCount: isNew } = await tx.query(
    'insert into events (id, payment_id, version, type) values ($1, $2, $3, $4) on conflict (id) do nothing',
    [id, payment.id, version, type],
  );
  if (isNew !== 1) return;

  // 2. The order's row is locked, so that events of one order come one after the other.
  const { rows: orders } = await tx.query(
    'select amount, currency, cancelled_at, paid_payment_id from orders where id = $1 for update',
    [payment.orderId],
  );
  const order = orders[0];
  if (order === undefined) throw orderUnknown();

  // 3. An event that is older than what is known of the payment is ignored.
  await tx.query('insert into payments (id, order_id) values ($1, $2) on conflict (id) do nothing', [
    payment.id,
    payment.orderId,
  ]);
  const { rowCount: newer } = await tx.query(
    'update payments set version = $2, state = $3, refunded = $4 where id = $1 and version < $2',
    [payment.id, version, state, payment.refundedAmount],
  );
  if (newer !== 1) {
    await tx.query("update events set outcome = 'older' where id = $1", [id]);
    return;
  }

  // 4. The order: paid once, by one payment.
  if (state === 'paid' && order.paid_payment_id !== payment.id) {
    // Only here: an attempt that ended, or money that goes back, may be of what the order cost before.
    if (order.amount !== payment.amount || order.currency !== payment.currency) {
      // Neither goods nor money move before a person has looked: nodrop repeats it, and shows it after a while.
      throw new Refusal(422, { error: `The order is of ${money(order.amount, order.currency)}.` });
    }
    if (order.paid_payment_id !== null) throw new Refusal(409, { paidPaymentId: order.paid_payment_id });
    if (order.cancelled_at !== null) throw new Refusal(410, { error: 'The order is cancelled.' });
    if (isOld) throw new ReadingNeeded();
    await tx.query(
      'update orders set paid_payment_id = $2, paid_at = now(), pickup_code = $3 where id = $1',
      [payment.orderId, payment.id, pickupCode()],
    );
  }
  // nodrop gave the payment up, which nothing but a person's word does to one that paid here: the goods come back.
  if (state === 'conflict') {
    await tx.query(
      `update orders set paid_payment_id = null, paid_at = null, pickup_code = null, refunded = 0
       where id = $1 and paid_payment_id = $2`,
      [payment.orderId, payment.id],
    );
  }
  await tx.query(
    `update orders set revision = revision + 1,
       refunded = case when paid_payment_id = $2 then $3 else refunded end where id = $1`,
    [payment.orderId, payment.id, payment.refundedAmount],
  );
}

/** Letters and digits that nobody mistakes for each other. */
const SIGNS = '23456789ABCDEFGHJKMNPQRSTUVWXYZ';

function pickupCode(): string {
  const signs = Array.from({ length: 8 }, () => SIGNS[randomInt(SIGNS.length)]);
  return `${signs.slice(0, 4).join('')}-${signs.slice(4).join('')}`;
}
