import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type StripeDouble, startStripeDouble } from '../doubles/stripe/start.ts';
import { eventually } from '../support/stack.ts';
import { type Answer, type System, startSystem } from '../support/system.ts';

/**
 * Tests Stripe from a user's point of view. A command adds an account, and payments then run through the real
 * processes. Stripe is a double in a separate process, and the tests decide whether it sends callbacks. No
 * secret may leak.
 */

const KEY = 'sk_test_canary5d2b71';
const NEXT_KEY = 'rk_test_canary90c4aa';
const WEBHOOK_SECRET = 'whsec_canary18f6e3';
const CANARY = /canary(5d2b71|90c4aa|18f6e3)/;

/** Collects all answers and outputs, to search them for secrets. */
const said: string[] = [];

let double: StripeDouble;
let system: System;
let callbackAddress: string;
beforeAll(async () => {
  double = await startStripeDouble();
  await double.tell('secretKeys', [KEY]);
  system = await startSystem({
    withWorker: true,
    env: {
      NODROP_STRIPE_URL: double.url,
      NODROP_STRIPE_SCRIPT_URL: `${double.url}/stripe.js`,
      // The first scheduled query is sent late, so each test controls what detects the payment.
      NODROP_QUERY_SCHEDULE_STRIPE: '60s',
      NODROP_LOG_LEVEL: 'trace',
    },
  });
});
afterAll(async () => {
  await system?.stop();
  await double?.stop();
});

async function nodrop(input: string, ...args: string[]) {
  const done = await system.nodropGiven(input, ...args);
  said.push(done.output);
  return done;
}

async function api(...request: Parameters<System['api']>): Promise<Answer> {
  const answer = await system.api(...request);
  said.push(JSON.stringify([answer.body, [...answer.headers]]));
  return answer;
}

let orders = 0;
const newPayment = (changes: object = {}) => ({
  order: { id: `stripe-${++orders}`, amount: 1050, currency: 'EUR', subject: 'Two tickets' },
  channel: 'stripe',
  ...changes,
});

/**
 * Repeats the request until the payment has a page on which the payer can pay. On a slow machine, the first answer may
 * come before the page exists.
 */
const payable = (body: object): Promise<Answer> =>
  eventually(async () => {
    const answer = await api('POST', '/v1/payments', body);
    return answer.status < 300 && answer.body.nextAction !== null && answer;
  });

/**
 * Pays at Stripe as the payer's browser does.
 * @returns the URL to which Stripe returns the payer
 */
async function payAt(page: string): Promise<string> {
  const answer = await fetch(page, {
    method: 'POST',
    body: new URLSearchParams({ outcome: 'paid' }),
    redirect: 'manual',
  });
  expect(answer.status).toBe(303);
  return answer.headers.get('location') ?? '';
}

const orderPaid = ({ body }: Answer) =>
  eventually(async () => (await system.orderStatus(body.orderId)) === 'succeeded');
const row = (id: string) => system.db.payment.findUniqueOrThrow({ where: { id } });

test('with only an API key, one command adds the Stripe account, a payment is possible, and nodrop queries Stripe when the payer returns', async () => {
  const none = await api('POST', '/v1/payments', newPayment());
  expect(none.status).toBe(422);
  const added = await nodrop(`secret_key=${KEY}\n`, 'channels', 'add', 'stripe', '--file', '-');
  expect(added).toMatchObject({ status: 0, output: expect.stringContaining('the account main at stripe') });
  callbackAddress = /^Callback address: (.*)$/m.exec(added.output)?.[1] ?? '';
  expect(callbackAddress).toContain(`${system.apiUrl}/callbacks/stripe`);
  const listed = await nodrop('', 'channels', 'list');
  expect(listed.output).toMatch(/stripe +main +test +yes/);
  const check = await nodrop('', 'channels', 'check', 'stripe');
  expect(check).toMatchObject({ status: 0, output: expect.stringContaining('works.') });

  const made = await payable(newPayment());
  expect(made.body.payUrl).toMatch(new RegExp(`^${double.url}/pay/cs_`));
  const back = await payAt(made.body.payUrl);
  expect(await system.orderStatus(made.body.orderId)).toBe('paying');
  said.push(await (await fetch(back)).text());
  await orderPaid(made);
  expect(await row(made.body.id)).toMatchObject({ settledBy: 'hint' });
});

test('if a webhook is set, Stripe sends a callback, and a partial refund succeeds', async () => {
  const more = `publishable_key=pk_test_double\nwebhook_secret=${WEBHOOK_SECRET}\n`;
  const rotated = await nodrop(more, 'channels', 'rotate', 'stripe', '--file', '-');
  expect(rotated.status).toBe(0);
  const smoke = await nodrop('', 'channels', 'smoke', 'stripe');
  expect(smoke).toMatchObject({ status: 0, output: expect.stringContaining('everything that nodrop needs') });

  await double.tell('webhooks', [{ url: callbackAddress, secret: WEBHOOK_SECRET }]);
  const made = await payable(newPayment());
  await payAt(made.body.payUrl);
  await orderPaid(made);
  expect(await row(made.body.id)).toMatchObject({ settledBy: 'callback', receivedAmount: 1050n });

  const path = `/v1/payments/${made.body.id}/refunds`;
  const refund = await api('POST', path, { amount: 300 }, { 'idempotency-key': 'part' });
  expect(refund.status).toBe(201);
  await eventually(
    async () => (await api('GET', `/v1/refunds/${refund.body.id}`)).body.status === 'succeeded',
  );
  const { refunds } = (await double.tell('state', {})) as { refunds: { metadata: object; amount: number }[] };
  const ours = refunds.filter(({ metadata }) => Object.values(metadata).includes(refund.body.id));
  expect(ours).toMatchObject([{ amount: 300, status: 'succeeded' }]);
});

test("a payment succeeds in a form of the cashier page, whose content security policy allows Stripe's script", async () => {
  const made = await payable(newPayment({ method: 'payment_intent' }));
  const { nextAction, checkoutUrl } = made.body;
  expect(nextAction).toMatchObject({ type: 'sdk', params: { publishable_key: 'pk_test_double' } });
  const page = await fetch(checkoutUrl);
  said.push(await page.text());
  expect(page.headers.get('content-security-policy')).toContain(`script-src 'self' ${double.url}`);
  const [id = ''] = nextAction.params.client_secret.split('_secret_');
  await double.tell('pay', { id, outcome: 'paid' });
  await orderPaid(made);
});

test('while the key is revoked at Stripe, a new payment is answered 503 with an explanation, and the payment continues after the key is rotated', async () => {
  await double.tell('secretKeys', [NEXT_KEY]);
  const body = newPayment();
  const refused = await eventually(async () => {
    const answer = await api('POST', '/v1/payments', body);
    return answer.status === 503 && answer;
  });
  expect(refused.body).toMatchObject({ code: 'channel_misconfigured' });
  const waiting = await system.db.payment.findFirstOrThrow({ where: { orderId: body.order.id } });
  expect(waiting).toMatchObject({ status: 'created', attention: 'channel_misconfigured' });
  const check = await nodrop('', 'channels', 'check', 'stripe');
  expect(check).toMatchObject({ status: 1, output: expect.stringContaining('does not work') });

  const rotated = await nodrop(`secret_key=${NEXT_KEY}`, 'channels', 'rotate', 'stripe', '--file', '-');
  expect(rotated.status).toBe(0);
  const made = await payable(body);
  expect(made.body.id).toBe(waiting.id);
  await payAt(made.body.payUrl);
  await orderPaid(made);
  expect(await row(made.body.id)).toMatchObject({ attention: null, settledBy: 'callback' });
});

test('no secret appears in a log, the database, an answer, a listing or a workflow history', async () => {
  const { home, admin } = system.config;
  for (const path of [
    '/v1/payments',
    '/v1/callbacks',
    '/v1/refunds',
    `http://127.0.0.1:${admin.port}/details`,
  ])
    await api('GET', path);
  await nodrop('', 'channels', 'list');
  expect(said.filter((text) => CANARY.test(text))).toEqual([]);

  const files = readdirSync(home, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  expect(files.map(({ name }) => name)).toEqual(expect.arrayContaining(['api.log', 'worker.log']));
  const telling = files.filter(({ parentPath, name }) =>
    CANARY.test(readFileSync(join(parentPath, name), 'latin1')),
  );
  expect(telling.map(({ name }) => name)).toEqual([]);

  let histories = 0;
  for await (const { workflowId, runId } of system.temporal.workflow.list()) {
    const handle = system.temporal.workflow.getHandle(workflowId, runId);
    const [history, { raw }] = [await handle.fetchHistory(), await handle.describe()];
    const inText = JSON.stringify([history, raw], (_, value) =>
      value instanceof Uint8Array || value?.type === 'Buffer'
        ? Buffer.from(value.data ?? value).toString()
        : value,
    );
    expect(inText).not.toMatch(CANARY);
    if (inText.includes('stripe')) histories += 1;
  }
  expect(histories).toBeGreaterThanOrEqual(4);
});
