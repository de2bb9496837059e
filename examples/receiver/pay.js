// node pay.js ID AMOUNT CURRENCY [SUBJECT]: creates an order of the shop and its payment. The amount is in minor units.
import pg from 'pg';

const [id, amount, currency, subject = 'Coffee'] = process.argv.slice(2);
const { DATABASE_URL, NODROP_URL, NODROP_KEY } = process.env;
const db = new pg.Client({ connectionString: DATABASE_URL });
await db.connect();
// Commit the order before the payment starts, because the payment's first event can arrive immediately.
await db.query('insert into orders (id, amount, currency) values ($1, $2, $3) on conflict (id) do nothing', [
  id,
  amount,
  currency,
]);
const [order] = (await db.query('select * from orders where id = $1', [id])).rows;
await db.end();

function refuse(sentence) {
  console.error(sentence);
  process.exit(1);
}
// Send the stored order, because the receiver compares the payment with it.
const stored = { id, amount: Number(order.amount), currency: order.currency, subject };
if (stored.amount !== Number(amount) || stored.currency !== currency)
  refuse(`Order ${id} costs ${stored.amount} ${stored.currency}: pay that amount, or use another ID.`);
if (order.cancelled) refuse(`Order ${id} is cancelled.`);
if (order.paid_payment_id !== null) {
  console.log(`Order ${id} is paid by ${order.paid_payment_id}.`);
  process.exit();
}

const response = await fetch(`${NODROP_URL}/v1/payments`, {
  method: 'POST',
  headers: { authorization: `Bearer ${NODROP_KEY}`, 'content-type': 'application/json' },
  body: JSON.stringify({ order: stored, channel: 'simulator' }),
  signal: AbortSignal.timeout(15_000),
});
const answer = await response.json();
// An error is a problem document with a code. Repeating the request returns the same payment.
if (!response.ok) throw new Error(`nodrop answered ${answer.code}: ${answer.detail}`);
console.log(`Order ${id} is ${answer.status}: pay at ${answer.checkoutUrl}`);
