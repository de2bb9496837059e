import express from 'express';
import pg from 'pg';
import { WebhookVerificationError as Forged, Webhook } from 'standardwebhooks';
import { DATABASE_URL, LISTEN, NODROP_KEY, NODROP_URL, NODROP_WEBHOOK_SECRET, started } from './settings.js';

const webhook = new Webhook(NODROP_WEBHOOK_SECRET);
const db = new pg.Pool({ connectionString: DATABASE_URL }).on('error', console.error);
db.on('connect', (client) => client.on('error', console.error)); // A connection that breaks while in use.
const isHere = (payment) => payment.status === 'succeeded' && payment.refundedAmount < payment.receivedAmount;
const pays = (payment) => isHere(payment) && ['pending', 'applied'].includes(payment.orderUpdate);

async function current({ type, timestamp, test, data: { payment, version } }, sentAt) {
  if (test || !/^(payment|refund)\./.test(type)) return; // A test, or a type that this code does not know.
  if (sentAt * 1000 - Date.parse(timestamp) < 10_000 || !pays(payment)) return [payment, version];
  const init = { headers: { authorization: `Bearer ${NODROP_KEY}` }, signal: AbortSignal.timeout(5_000) };
  const read = await (await fetch(`${NODROP_URL}/v1/payments/${payment.id}`, init)).json(); // For late events.
  if (read.id !== payment.id) throw new Error(`nodrop answered ${read.detail}`);
  return [read, version];
}

async function apply(tx, payment, version) {
  const [order] = (await tx.query('select * from orders where id = $1 for update', [payment.orderId])).rows;
  const newer = `insert into nodrop_payments as known values ($1, $2) on conflict (id) do update set version = $2 where known.version < $2`;
  if ((await tx.query(newer, [payment.id, version])).rowCount === 0) return; // Duplicate or older event.
  const off = 'update orders set paid_payment_id = null where paid_payment_id = $1';
  if (payment.orderUpdate === 'conflict') await tx.query(off, [payment.id]); // Take the goods back.
  if (!pays(payment) || order?.paid_payment_id === payment.id) return;
  if (!order) return [404, { code: 'order_unknown' }]; // nodrop redelivers, for 24 h by default.
  if (+order.amount !== payment.amount || order.currency !== payment.currency) return [422, { code: 'sum' }];
  if (order.paid_payment_id) return [409, { paidPaymentId: order.paid_payment_id }];
  if (order.cancelled) return [410, { code: 'cancelled' }];
  await tx.query('update orders set paid_payment_id = $2 where id = $1', [order.id, payment.id]); // Grant the goods here.
}

async function receive({ body, headers }, response) {
  const event = await current(webhook.verify(body, headers), headers['webhook-timestamp']);
  const tx = await db.connect();
  try {
    await tx.query('begin');
    const [status, answer = {}] = (event && (await apply(tx, ...event))) ?? [200];
    if (status === 200) await tx.query('commit');
    response.reason = answer.code ?? answer;
    response.status(status).json(answer);
  } finally {
    await tx.query('rollback').finally(() => tx.release()); // Does nothing after a commit.
  }
}

function log({ method, path, headers }, { statusCode, statusMessage, reason = statusMessage }) {
  if (statusCode >= 300) console.error(method, path, headers['webhook-id'], statusCode, reason);
}

const app = express().use((req, res, next) => next(void res.on('finish', () => log(req, res))));
app.post('/nodrop/events', express.raw({ type: '*/*', limit: '1mb' }), receive);
app.use((error, _req, res, next) => {
  res.reason = error.message;
  return error instanceof Forged ? res.sendStatus(401) : next(error);
});
app.listen(LISTEN, started);
