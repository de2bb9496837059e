import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { CallbackRequest, ChannelAdapter, NewTrade } from '../../../src/domain/channel.ts';
import { eventually } from '../../support/progress.ts';
import { folderOf, type Passed, type RunningServer, startProxy, startStripeServer } from './servers.ts';
import { ACCOUNT, adapterAt, CREDENTIALS, created, errorOf, idOf, newTrade } from './support.ts';

/** Tests the adapter against servers that third parties wrote from Stripe's documents. */

const localstripe = folderOf('localstripe');
const stripeMock = folderOf('stripe-mock');

/**
 * The server localstripe has payment intents and refunds, but no Checkout. It accepts no `description` and no time
 * limits, and ignores idempotency keys. So the proxy removes the description and the time limits, and records the
 * keys.
 */
describe.skipIf(localstripe === undefined)('localstripe', () => {
  let server: RunningServer;
  let proxy: Awaited<ReturnType<typeof startProxy>>;
  let adapter: ChannelAdapter;

  const withoutTimes = ({ path, body }: Passed) => {
    const url = new URL(path, 'http://proxy');
    for (const name of [...url.searchParams.keys()]) {
      if (name.startsWith('created')) url.searchParams.delete(name);
    }
    const form = new URLSearchParams(body);
    form.delete('description');
    return { path: `${url.pathname}${url.search}`, body: form.toString() };
  };

  beforeAll(async () => {
    server = await startStripeServer('localstripe', localstripe ?? '');
    proxy = await startProxy(server.url, withoutTimes);
    adapter = adapterAt(proxy.url);
  });
  afterAll(async () => {
    await proxy?.stop();
    await server?.stop();
  });

  async function post(path: string, form: Record<string, string>): Promise<Record<string, unknown>> {
    const answer = await fetch(`${server.url}${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${CREDENTIALS.secret_key}` },
      body: new URLSearchParams(form),
    });
    const said = (await answer.json().catch(() => ({}))) as Record<string, unknown>;
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${JSON.stringify(said)}`);
    return said;
  }

  /** Pays the trade, as the payer's browser does. The card requires authentication, which succeeds. */
  async function pay(trade: NewTrade): Promise<void> {
    const { id: method } = await post('/v1/payment_methods', {
      type: 'card',
      'card[number]': '4000002500003155',
      'card[exp_month]': '12',
      'card[exp_year]': '2030',
      'card[cvc]': '123',
    });
    await post(`/v1/payment_intents/${idOf(trade)}`, { payment_method: String(method) });
    const begun = await post(`/v1/payment_intents/${idOf(trade)}/confirm`, {});
    expect(begun.status).toBe('requires_action');
    expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({ state: 'unpaid' });
    await post(`/v1/payment_intents/${idOf(trade)}/_authenticate`, {
      client_secret: String(begun.client_secret),
      success: 'true',
    });
  }

  const intent = (changes: Partial<NewTrade> = {}) =>
    created(adapter, newTrade({ method: 'payment_intent', ...changes }));

  test('a query shows that the trade is paid, even if no callback arrives', async () => {
    const trade = await intent();
    expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({ state: 'unpaid' });
    await pay(trade);
    expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({
      state: 'paid',
      channelPaymentId: idOf(trade),
      amount: 1050,
      currency: 'EUR',
      paidAt: expect.any(String),
      refunds: [],
    });
    expect(await adapter.closeTrade(ACCOUNT, trade)).toEqual({ state: 'already_paid' });
  });

  test('the adapter verifies the callbacks of localstripe', async () => {
    const received: CallbackRequest[] = [];
    const receiver: Server = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      received.push({ headers: request.headers, rawBody: Buffer.concat(chunks) });
      response.end('{}');
    });
    await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve));
    const { port } = receiver.address() as AddressInfo;
    await post('/_config/webhooks/nodrop', {
      url: `http://127.0.0.1:${port}/`,
      secret: CREDENTIALS.webhook_secret,
    });
    const trade = await intent();
    await pay(trade);
    const callbacks = async () =>
      Promise.all(received.map((request) => adapter.verifyCallback(ACCOUNT, request)));
    await eventually(async () =>
      expect(await callbacks()).toContainEqual(
        expect.objectContaining({
          kind: 'trade',
          about: { outTradeNo: trade.outTradeNo },
          answer: expect.objectContaining({ state: 'paid', amount: 1050, currency: 'EUR' }),
        }),
      ),
    );
    receiver.close();
  });

  test("a trade can be closed, found by nodrop's number, and refunded", async () => {
    const closed = await intent();
    expect(await adapter.closeTrade(ACCOUNT, closed)).toEqual({ state: 'closed' });
    expect(await adapter.queryTrade(ACCOUNT, closed)).toEqual({ state: 'closed' });
    expect(await adapter.createTrade(ACCOUNT, closed)).toBe('not_renewable');
    expect(await adapter.findTrade?.(ACCOUNT, closed)).toEqual(closed.reference);

    const paid = await intent();
    await pay(paid);
    const refund = {
      outRefundNo: 'ref_1',
      channelRefundId: null,
      attempt: 1,
      amount: 50,
      currency: 'EUR',
      total: 1050,
    };
    const answer = await adapter.refundTrade(ACCOUNT, paid, refund);
    expect(answer).toMatchObject({ state: 'succeeded', amount: 50 });
    expect(await adapter.queryRefund(ACCOUNT, paid, refund)).toEqual(answer);
    expect(await adapter.queryTrade(ACCOUNT, paid)).toMatchObject({
      state: 'paid',
      refunds: [{ outRefundNo: 'ref_1', amount: 50, state: 'succeeded' }],
    });
    const key = ({ method, path }: Passed) => method === 'POST' && path === '/v1/refunds';
    expect(proxy.passed.find(key)?.key).toBe('ref_1');
  });
});

/**
 * The server stripe-mock validates each request against Stripe's OpenAPI description, and answers with a sample. The
 * sample does not belong to nodrop's trade, so the adapter does not accept it.
 */
describe.skipIf(stripeMock === undefined)('stripe-mock', () => {
  let server: RunningServer;
  let adapter: ChannelAdapter;

  beforeAll(async () => {
    server = await startStripeServer('stripe-mock', stripeMock ?? '');
    adapter = adapterAt(server.url);
  });
  afterAll(() => server?.stop());

  const known = (method: string): NewTrade => ({
    ...newTrade({ method }),
    reference: { id: method === 'checkout' ? 'cs_test_1' : 'pi_1' },
  });
  const refund = {
    outRefundNo: 'ref_1',
    channelRefundId: null,
    attempt: 1,
    amount: 50,
    currency: 'EUR',
    total: 1050,
  };

  test.each(['checkout', 'payment_intent'])(
    'stripe-mock accepts every request that the adapter sends for the method %s',
    async (method) => {
      const trade = known(method);
      const calls: (() => Promise<unknown>)[] = [
        () => adapter.createTrade(ACCOUNT, newTrade({ method })),
        () => adapter.createTrade(ACCOUNT, trade),
        () => adapter.queryTrade(ACCOUNT, trade),
        () => adapter.refundTrade(ACCOUNT, trade, refund),
        () => adapter.queryRefund(ACCOUNT, trade, { ...refund, channelRefundId: 're_1' }),
      ];
      for (const call of calls) {
        const error = await errorOf(call());
        // The server accepts the request and answers with a sample, which the adapter reports as `garbage`.
        expect(error).toMatchObject({ kind: 'garbage' });
        expect(error.message).toMatch(/^stripe answered (with|200) /);
      }
      expect(await adapter.findTrade?.(ACCOUNT, trade)).toBe('absent');
    },
  );

  test('stripe-mock accepts the requests of closing a trade and checking an account', async () => {
    for (const method of ['checkout', 'payment_intent']) {
      const outcome = await adapter.closeTrade(ACCOUNT, known(method)).catch((error) => error);
      // The sample shows an open session, although the request was to close it. So the adapter may report `garbage`.
      expect(outcome.kind ?? outcome.state).toMatch(/garbage|closed/);
    }
    await expect(
      adapter.checkAccount({ ...ACCOUNT, credentials: [{ ...CREDENTIALS, secret_key: 'sk_test_123' }] }),
    ).resolves.toBeUndefined();
  });

  test('stripe-mock refuses a request with an unknown parameter', async () => {
    const refused = await fetch(`${server.url}/v1/checkout/sessions`, {
      method: 'POST',
      headers: { authorization: 'Bearer sk_test_123' },
      body: new URLSearchParams({ mode: 'payment', out_trade_no: 'pay_1' }),
    });
    expect(refused.status).toBe(400);
  });
});
