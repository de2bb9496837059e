// Shows what the types of the installed package accept and refuse. test/clients/package.test.ts compiles this file and
// never runs it.
import { createClient, NodropError as PayerError } from '@nodrop/client';
import {
  createServerClient,
  type DeliveredEvent,
  type Event,
  type KnownPaymentStatus,
  type NewPayment,
  NodropError,
} from '@nodrop/client/server';

const server = createServerClient({ baseUrl: 'https://pay.example', key: 'sk_1' });
const payer = createClient({ baseUrl: 'https://pay.example' });
const order = { id: 'order-1', amount: 1050, currency: 'CNY' };
const maybe = process.argv[2];

// A request has exactly one of `order` and `orderId`. An optional field may be undefined.
const takes: NewPayment[] = [
  { order, channel: 'simulator' },
  { orderId: 'order-1', channel: 'simulator', method: maybe, returnUrl: maybe },
  { order: { ...order, subject: maybe }, orderId: undefined, channel: 'simulator' },
];
for (const one of takes) await server.createPayment(one, { idempotencyKey: maybe, signal: undefined });
// @ts-expect-error: both order and orderId
await server.createPayment({ order, orderId: 'order-1', channel: 'simulator' });
// @ts-expect-error: neither order nor orderId
await server.createPayment({ channel: 'simulator' });
// @ts-expect-error: a field that does not exist
await server.createPayment({ order, channel: 'simulator', amount: 1 });

// A request for a refund needs an idempotency key that the caller chooses.
await server.createRefund(
  'pay_1',
  { amount: maybe === undefined ? undefined : 1 },
  { idempotencyKey: 'return-1' },
);
// @ts-expect-error: no options
await server.createRefund('pay_1', {});
// @ts-expect-error: no key
await server.createRefund('pay_1', {}, {});
// @ts-expect-error: a key that may be missing
await server.createRefund('pay_1', {}, { idempotencyKey: maybe });

// The answer to a creation has the client token and the checkout URL. The answer to a read does not have them.
const created = await server.createPayment({ order, channel: 'simulator' });
const opens: readonly string[] = [created.clientToken, created.checkoutUrl];
const token: string = (await server.switchPayment(created.id, { channel: 'simulator2' })).clientToken;
// @ts-expect-error: clientToken may be null
const none: string = (await server.getPayment(created.id)).clientToken;

// An answer to a request with a client token has the state of the order. An answer to a request with a key has the
// order's id.
const seen = await payer.getPayment(created.id, { token });
const state: 'open' | 'undecided' | 'paid' | 'over' = seen.orderState;
const orderId: string = (await server.getPayment(created.id)).orderId;
const next: string = (await payer.switchChannel(seen.id, { channel: 'simulator2' }, { token })).clientToken;
// @ts-expect-error: a payer's call needs a token
await payer.getPayment(created.id);
// @ts-expect-error: a page has no key
createClient({ baseUrl: 'https://pay.example', key: 'sk_1' });
// @ts-expect-error: a page starts no payments
payer.createPayment;

// The types of statuses and codes are literals.
const status: KnownPaymentStatus = seen.status;
// @ts-expect-error: a misspelt value
if (seen.status === 'suceeded') console.log(status);
const isOver: Record<typeof seen.status, boolean> = {
  created: false,
  paying: false,
  succeeded: true,
  failed: true,
  cancelled: true,
  closed: true,
};
const update: 'pending' | 'applied' | 'conflict' | 'review' | null = seen.orderUpdate;
// @ts-expect-error: a misspelt value
server.listPayments({ status: 'suceeded' });
server.listPayments({ attention: true, cursor: maybe });

function codeOf(error: unknown): string | undefined {
  if (!(error instanceof NodropError) && !(error instanceof PayerError)) return undefined;
  // @ts-expect-error: a misspelt value
  if (error.code === 'no_answers') return undefined;
  const where: string | undefined = error.errors[0]?.path;
  return error.code === 'no_answer' ? error.idempotencyKey : (error.requestId ?? where);
}

function refunded(event: Event): number {
  // @ts-expect-error: not every event has a refund
  event.data.refund;
  return event.type === 'refund.succeeded' ? event.data.refund.amount : event.data.payment.refundedAmount;
}

for await (const event of server.listEvents({ after: maybe })) console.log(refunded(event));
for await (const { amount } of server.listRefunds(created.id)) console.log(amount);

// A delivered event may be a test event. An event of the feed is never a test event.
function isReal(event: DeliveredEvent): boolean {
  const mark: boolean | undefined = event.test;
  return mark !== true;
}
// @ts-expect-error: events of the feed have no `test`
for await (const event of server.listEvents()) console.log(event.test);

export { codeOf, isOver, isReal, next, none, opens, orderId, state, update };
