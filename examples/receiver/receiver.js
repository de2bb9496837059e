import express from 'express';
import pg from 'pg';
import { Webhook } from 'standardwebhooks';

const webhook = new Webhook(process.env.NODROP_WEBHOOK_SECRET);
const db = new pg.Pool({ connectionString: process.env.DATABASE_URL }).on('error', console.error);

async function apply(tx, id, { payment, version }) {
  const isNew = 'insert into nodrop_events values ($1) on conflict do nothing';
  if ((await tx.query(isNew, [id])).rowCount === 0) return [200]; // Told before.
  const [order] = (await tx.query('select * from orders where id = $1 for update', [payment.orderId])).rows;
  if (!order) return [410];
  if (Number(order.amount) !== payment.amount || order.currency !== payment.currency) return [422];
  const newer = `insert into nodrop_payments as known values ($1, $2) on conflict (id) do update set version = $2 where known.version < $2`;
  if ((await tx.query(newer, [payment.id, version])).rowCount === 0) return [200]; // Newer is known.
  const isHere = payment.status === 'succeeded' && payment.refundedAmount < payment.receivedAmount;
  const paid = isHere && ['pending', 'applied'].includes(payment.orderUpdate);
  if (!paid || order.paid_payment_id === payment.id) return [200];
  if (order.paid_payment_id) return [409, { paidPaymentId: order.paid_payment_id }];
  if (order.cancelled) return [410];
  await tx.query('update orders set paid_payment_id = $2 where id = $1', [order.id, payment.id]);
  return [200]; // Grant the goods above this line, in the same transaction.
}

async function receive({ body, headers }, response) {
  const event = webhook.verify(body, headers);
  const tx = await db.connect();
  try {
    await tx.query('begin');
    const [status, answer = {}] = await apply(tx, headers['webhook-id'], event.data);
    if (status === 200) await tx.query('commit');
    response.status(status).json(answer);
  } finally {
    await tx.query('rollback').finally(() => tx.release()); // Does nothing after a commit.
  }
}

const app = express().post('/nodrop/events', express.raw({ type: '*/*', limit: '1mb' }), receive);
app.listen(process.env.PORT ?? 3200);
