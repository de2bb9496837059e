import { randomInt } from 'node:crypto';
import express, { type Request, Router } from 'express';
import type { Pool, PoolClient } from 'pg';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';
import { BODY_LIMIT } from './bodies.ts';
import { inTransaction, isStorable } from './database.ts';
import type { Nodrop, PaymentNow } from './nodrop.ts';
import { money } from './products.ts';

/** The routes on which nodrop delivers events and reads an order back. Only this file marks an order as paid. */

/** The fields of an event that the shop uses. */
interface PaymentEvent {
  readonly type: string;
  readonly timestamp: string;
  /** True for a test event, which `merchants test-event` sends. A test event is not about a real payment. */
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
 * An event is old if nodrop sent it more than this time after the event's timestamp. Both times are by nodrop's clock.
 * Normally nodrop sends an event within a second or two. An old event has the payment's state at the time of the event,
 * and the money may have been refunded since.
 */
const OLD_AFTER_MS = 10_000;

/**
 * An error with the answer that nodrop gets. It rolls the transaction back, so that the shop processes the event again
 * when nodrop redelivers it.
 */
class Refusal extends Error {
  readonly status: number;
  readonly body: object;

  constructor(status: number, body: object) {
    super(String(status));
    this.status = status;
    this.body = body;
  }
}

/**
 * The order is not stored yet. nodrop redelivers after this answer, for 24 h by default, and the order may be stored
 * when a redelivery arrives.
 */
const orderUnknown = () => new Refusal(404, { code: 'order_unknown', error: 'There is no such order here.' });

export function nodropRoutes(db: Pool, secret: string, nodrop: Pick<Nodrop, 'readPayment'>): Router {
  const webhook = new Webhook(secret);
  const router = Router();
  // Log the reason of a refusal together with the request. nodrop logs the answer together with the delivery.
  router.use('/nodrop', (request, response, next) => {
    response.on('finish', () => {
      if (response.statusCode < 300) return;
      const id = request.headers['webhook-id'] ?? 'without an id';
      const reason = response.locals.reason ?? 'There is no such address.';
      console.error(
        `${request.method} ${request.originalUrl} (${id}) answered ${response.statusCode}: ${reason}`,
      );
    });
    next();
  });
  // The body must not be parsed before the check, because the signature covers the bytes as they were received.
  const raw = express.raw({ type: () => true, limit: BODY_LIMIT });

  router.post('/nodrop/events', raw, async (request, response) => {
    const event = toEvent(verified(webhook, request));
    const id = request.headers['webhook-id'] as string;
    const sentAt = Number(request.headers['webhook-timestamp']) * 1000;
    if (event !== null) {
      // An event without a valid timestamp is treated as old.
      const isOld = !(sentAt - Date.parse(event.timestamp) <= OLD_AFTER_MS);
      try {
        await inTransaction(db, (tx) => applyEvent(tx, id, event, isOld));
      } catch (error) {
        if (!(error instanceof ReadingNeeded)) throw error;
        const current = await withPaymentNow(nodrop, event);
        await inTransaction(db, (tx) => applyEvent(tx, id, current, false));
      }
    }
    // Answer only after the commit: nodrop does not redeliver after this answer.
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

  // This answer is for a person who opens the address in a browser.
  router.all('/nodrop/events', (_request, response) => {
    response.set('Allow', 'POST');
    throw new Refusal(405, { error: 'Events come here by POST, from nodrop alone.' });
  });

  // Answer with a short sentence instead of an HTML page, because nodrop logs the answer.
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
    if (!(error instanceof WebhookVerificationError))
      throw new Refusal(400, { error: 'This is not an event.' });
    throw new Refusal(401, { error: error.message });
  }
}

/**
 * @returns null for a test event and for an event of an unknown kind, which later versions may add; both are
 * acknowledged
 * @throws Refusal for an event that the shop cannot read, so that nodrop redelivers and reports it
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
    throw new Refusal(400, { error: 'This is not an event of a payment.' });
  return value as PaymentEvent;
}

/**
 * The state of the event's payment in one word. It depends on the payment and not on the type of the event, because an
 * event of a refund may arrive before `payment.succeeded`. A payment that pays its order is `paid` until all its money
 * is refunded.
 */
function stateOf(payment: PaymentNow): string {
  const { status, orderUpdate, receivedAmount, refundedAmount } = payment;
  if (status !== 'succeeded') return status;
  if (orderUpdate !== 'pending' && orderUpdate !== 'applied') return orderUpdate ?? 'open';
  return refundedAmount < (receivedAmount ?? 0) ? 'paid' : 'refunded';
}

/**
 * Thrown when an old event would grant goods. It rolls the transaction back, so that the shop can read the payment's
 * present state.
 */
class ReadingNeeded extends Error {}

/**
 * Reads the present state of the event's payment from nodrop, and returns the event with this state.
 * @throws Refusal when nodrop does not answer, so that nodrop redelivers the event
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
 * @param isOld true when the event must not grant goods
 * @throws ReadingNeeded when an old event would grant goods. @throws Refusal
 */
async function applyEvent(
  tx: PoolClient,
  id: string,
  { type, data }: PaymentEvent,
  isOld: boolean,
): Promise<void> {
  const { payment, version } = data;
  const state = stateOf(payment);

  // 1. Apply every event once, by its webhook-id. A concurrent delivery of the same event waits here until this
  //    delivery ends.
  const { rowCount: isNew } = await tx.query(
    'insert into events (id, payment_id, version, type) values ($1, $2, $3, $4) on conflict (id) do nothing',
    [id, payment.id, version, type],
  );
  if (isNew !== 1) return;

  // 2. Lock the order's row, so that the events of one order are applied one after the other.
  const { rows: orders } = await tx.query(
    'select amount, currency, cancelled_at, paid_payment_id from orders where id = $1 for update',
    [payment.orderId],
  );
  const order = orders[0];
  if (order === undefined) throw orderUnknown();

  // 3. Ignore an event that is older than the stored version of the payment.
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

  // 4. Only one payment pays the order, and only once.
  if (state === 'paid' && order.paid_payment_id !== payment.id) {
    // Compare the price only when the payment pays the order. The price may have changed since an ended or refunded
    // payment was created.
    if (order.amount !== payment.amount || order.currency !== payment.currency) {
      // Neither hand out goods nor refund money until a person has checked the order. nodrop redelivers the event, and
      // reports this refusal to its operator.
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
  // An operator of nodrop has decided that this payment no longer pays the order. Take the goods back.
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

/** The letters and digits of a pickup code. The list omits signs that look alike, such as 0 and O. */
const SIGNS = '23456789ABCDEFGHJKMNPQRSTUVWXYZ';

function pickupCode(): string {
  const signs = Array.from({ length: 8 }, () => SIGNS[randomInt(SIGNS.length)]);
  return `${signs.slice(0, 4).join('')}-${signs.slice(4).join('')}`;
}
