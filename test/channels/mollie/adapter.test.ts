import { describe, expect, test } from 'vitest';
import { createMollieAdapter } from '../../../src/channels/mollie/adapter.ts';
import { declaration, modeOf } from '../../../src/channels/mollie/declaration.ts';
import type { CallbackRequest } from '../../../src/domain/channel.ts';
import { serve } from '../contract/http.ts';
import { adapter, become, close, double, paid, query, requests } from './adapter-support.ts';
import {
  ACCOUNT,
  accountOf,
  adapterAt,
  created,
  errorOf,
  idOf,
  newTrade,
  refundOf,
  stateOf,
  THEIRS,
} from './support.ts';

/**
 * Tests what is specific to Mollie: its requests, the states of its payments, and its refusals. The contract suite
 * covers everything else.
 */

describe('createTrade', () => {
  test("createTrade sends the amount as a string, nodrop's number as metadata, and the payment's own callback address", async () => {
    const trade = newTrade();
    await created(adapter, trade);
    const [sent] = await requests();
    expect(sent).toMatchObject({ method: 'POST', path: '/v2/payments' });
    expect(sent?.headers).toMatchObject({
      authorization: `Bearer ${ACCOUNT.credentials[0]?.api_key}`,
      'idempotency-key': trade.outTradeNo,
      'content-type': 'application/json',
    });
    expect(JSON.parse(sent?.body ?? '')).toEqual({
      amount: { currency: 'EUR', value: '10.50' },
      description: 'Two tickets',
      redirectUrl: trade.returnUrl,
      webhookUrl: trade.notifyUrl,
      metadata: { nodrop_payment: trade.outTradeNo },
    });
  });

  test.each([
    ['JPY', 1050, '1050'],
    ['ISK', 7, '7'],
    ['HUF', 5, '0.05'],
  ])(
    'createTrade with an amount in %s uses the decimals that Mollie expects',
    async (currency, amount, value) => {
      await created(adapter, newTrade({ currency, amount }));
      const [sent] = await requests();
      expect(JSON.parse(sent?.body ?? '').amount).toEqual({ currency, value });
    },
  );

  test('createTrade names the payment method, except for the method `checkout`, with which the payer chooses', async () => {
    for (const { name } of declaration.methods) await created(adapter, newTrade({ method: name }));
    const methods = (await requests()).map(({ body }) => JSON.parse(body).method);
    expect(methods).toEqual([undefined, 'ideal', 'creditcard', 'bancontact', 'paypal']);
  });

  test('createTrade sends no loopback callback address to the real Mollie, because Mollie would refuse the payment', async () => {
    let body = '';
    const elsewhere = createMollieAdapter({
      url: 'http://mollie.example',
      fetch: async (_, init) => {
        body = String(init?.body);
        return new Response('', { status: 503 });
      },
    });
    for (const [notifyUrl, isSent] of [
      ['http://127.0.0.1:3000/callbacks/mollie/a/p/x', false],
      ['http://localhost:3000/callbacks/mollie/a/p/x', false],
      ['http://[::1]:3000/callbacks/mollie/a/p/x', false],
      ['https://localhost.shop.example/callbacks/mollie/a/p/x', true],
    ] as const) {
      await errorOf(elsewhere.createTrade(ACCOUNT, newTrade({ notifyUrl })));
      expect(JSON.parse(body).webhookUrl, notifyUrl).toBe(isSent ? notifyUrl : undefined);
    }
  });

  test('if Mollie answers 409, the result of createTrade is unknown, and repeated calls create only one payment', async () => {
    const trade = newTrade();
    await double.tell('faults', [{ kind: '409', of: 'POST /v2/payments' }]);
    expect((await errorOf(adapter.createTrade(ACCOUNT, trade))).kind).toBe('unreachable');
    await created(adapter, trade);
    await created(adapter, trade);
    expect((await stateOf(double)).payments).toHaveLength(1);
  });

  test('an hour after the first call, a repeated createTrade creates a second payment, because Mollie has forgotten the key', async () => {
    const trade = newTrade();
    const first = await created(adapter, trade);
    await double.tell('clock', { offsetMs: 61 * 60_000 });
    const second = await created(adapter, trade);
    expect(idOf(second)).not.toBe(idOf(first));
    expect(declaration.repeatableForMs.create).toBe(60 * 60_000);
  });

  test('createTrade reports a currency that Mollie refuses as rejected', async () => {
    const error = await errorOf(adapter.createTrade(ACCOUNT, newTrade({ currency: 'KWD' })));
    expect(error).toMatchObject({ kind: 'rejected', message: expect.stringContaining('invalid currency') });
  });

  test('a disabled method is reported as rejected, and a callback address that Mollie cannot reach is reported as misconfigured', async () => {
    await double.tell('methods', ['creditcard']);
    const error = await errorOf(adapter.createTrade(ACCOUNT, newTrade({ method: 'ideal' })));
    expect(error).toMatchObject({ kind: 'rejected', message: expect.stringContaining('not enabled') });
    const notifyUrl = 'https://unreachable.example/callbacks';
    const unreached = await errorOf(adapter.createTrade(ACCOUNT, newTrade({ notifyUrl })));
    expect(unreached.kind).toBe('misconfigured');
    expect((await stateOf(double)).payments).toEqual([]);
  });

  test('a repeated createTrade returns the same checkout page only while the payment is open', async () => {
    const trade = await created(adapter);
    const again = await adapter.createTrade(ACCOUNT, trade);
    expect(again).toMatchObject({ reference: trade.reference, action: { type: 'redirect' } });
    await become(trade, 'expired');
    expect(await adapter.createTrade(ACCOUNT, trade)).toBe('not_renewable');
    expect((await stateOf(double)).payments).toHaveLength(1);
  });
});

describe('payments', () => {
  test.each([
    ['pending', { state: 'processing' }],
    ['authorized', { state: 'processing' }],
    ['canceled', { state: 'closed' }],
    ['expired', { state: 'closed' }],
    ['failed', { state: 'failed', reason: 'refused_by_issuer' }],
  ] as const)(
    "a payment with Mollie's status %s is reported with the matching state of nodrop",
    async (status, answer) => {
      const trade = await created(adapter);
      expect(await query(trade)).toEqual({ state: 'unpaid' });
      await become(trade, status);
      expect(await query(trade)).toEqual(answer);
    },
  );

  test('a paid payment is reported with its amount, currency and time', async () => {
    const trade = await paid({ currency: 'JPY', amount: 1050 });
    const answer = await query(trade);
    expect(answer).toMatchObject({
      ...{ state: 'paid', channelPaymentId: idOf(trade), amount: 1050, currency: 'JPY', refunds: [] },
      paidAt: expect.stringMatching(/Z$/),
    });
    expect(answer).not.toHaveProperty('disputes');
  });

  test('a query by id accepts a payment that was created outside nodrop, but not a payment of another nodrop trade', async () => {
    const foreign = (metadata: unknown) =>
      double.tell('foreignPayment', { amount: 1990, metadata }) as Promise<{ id: string }>;
    for (const metadata of [null, 'order 66', { order_id: 66 }, [1], { nodrop_payment: 7 }]) {
      const { id } = await foreign(metadata);
      await double.tell('become', { payment: id, status: 'paid' });
      const trade = { ...newTrade(), reference: { id } };
      expect(await query(trade)).toMatchObject({ state: 'paid', amount: 1990, currency: 'EUR' });
    }
    const { id } = await foreign({ nodrop_payment: 'pay_another' });
    expect((await errorOf(query({ ...newTrade(), reference: { id } }))).kind).toBe('garbage');
  });

  test('every call about a payment of another website profile reports that the key is wrong', async () => {
    const trade = await paid();
    const error = await errorOf(adapter.queryTrade(accountOf(THEIRS), trade));
    expect(error).toMatchObject({
      kind: 'misconfigured',
      message: expect.stringContaining('website profile'),
    });
    const refused = await errorOf(adapter.refundTrade(accountOf(THEIRS), trade, refundOf(trade)));
    expect(refused.kind).toBe('misconfigured');
  });

  test('a payment of test mode is not accepted with a live key', async () => {
    const trade = await paid();
    await double.tell('keys', { live_doubleOursOursOursOurs: 'pfl_ours' });
    const live = accountOf({ api_key: 'live_doubleOursOursOursOurs' });
    expect((await errorOf(adapter.queryTrade(live, trade))).kind).toBe('garbage');
  });
});

describe('closeTrade', () => {
  test('closeTrade cancels a payment that can be cancelled', async () => {
    const trade = await created(adapter);
    await double.tell('cancelable', { payment: idOf(trade), is: true });
    expect(await close(trade)).toEqual({ state: 'closed' });
    expect(await query(trade)).toEqual({ state: 'closed' });
    expect((await requests()).map(({ method }) => method)).toContain('DELETE');
  });

  test("if Mollie does not allow a cancellation, closeTrade sends none and returns not_yet with Mollie's expiry", async () => {
    const trade = await created(adapter);
    const { payments } = await stateOf(double);
    await requests();
    const until = new Date(Math.floor((payments[0]?.expiresAt ?? 0) / 1000) * 1000).toISOString();
    expect(await close(trade)).toEqual({ state: 'not_yet', until });
    expect((await requests()).map(({ method }) => method)).toEqual(['GET']);
    await double.tell('clock', { offsetMs: 16 * 60_000 });
    expect(await close(trade)).toEqual({ state: 'closed' });
  });

  test('closeTrade returns already_paid if the payment is paid, and processing if Mollie still decides about it', async () => {
    expect(await close(await paid())).toEqual({ state: 'already_paid' });
    const trade = await created(adapter);
    await become(trade, 'authorized');
    expect(await close(trade)).toEqual({ state: 'processing' });
  });

  // The payer pays between the query and the cancellation. The double then answers as Mollie documents it.
  test('closeTrade reports a payment that is paid while nodrop closes it', async () => {
    const trade = newTrade({ reference: { id: 'tr_crossed' } });
    const answers = ['open', 'refused', 'paid'];
    const crossing = await serve(async ({ method }) => {
      const status = answers.shift();
      const headers = { 'content-type': 'application/hal+json' };
      if (status === 'refused') {
        expect(method).toBe('DELETE');
        const body = {
          status: 422,
          title: 'Unprocessable Entity',
          detail: 'The payment cannot be cancelled',
        };
        return { status: 422, headers, body: JSON.stringify(body) };
      }
      const payment = {
        ...{ resource: 'payment', id: 'tr_crossed', mode: 'test', status, isCancelable: true },
        ...{ amount: { currency: 'EUR', value: '10.50' }, createdAt: '2026-01-02T03:04:05+00:00' },
        ...{ paidAt: '2026-01-02T03:05:05+00:00', metadata: null, _links: {} },
      };
      return { status: 200, headers, body: JSON.stringify(payment) };
    });
    try {
      expect(await adapterAt(crossing.url).closeTrade(ACCOUNT, trade)).toEqual({ state: 'already_paid' });
    } finally {
      crossing.close();
    }
  });
});

describe('callbacks', () => {
  const verify = (body: string) => {
    const request: CallbackRequest = { headers: {}, rawBody: Buffer.from(body) };
    return adapter.verifyCallback(ACCOUNT, request);
  };

  test('a callback is a notice about its payment', async () => {
    const id = 'tr_5B8cwPMGnU6qLbRvo7qEZo';
    const notice = { kind: 'notice', notificationId: id, about: { reference: id } };
    expect(await verify(`id=${id}`)).toEqual(notice);
    expect(await verify(`id=${id}&testmode=true`)).toEqual(notice);
  });

  test.each(['', 'id=', 'id=ord_1', 'id=tr_', 'id=tr_1&id=tr_2', 'id=tr_1%2F..', '{"id":"tr_1"}', 'ID=tr_1'])(
    'a callback with the body %j is rejected because it names no payment',
    async (body) => {
      await expect(verify(body)).rejects.toMatchObject({ name: 'CallbackError', kind: 'malformed' });
    },
  );

  test("Mollie sends the callback of every event to the payment's own address", async () => {
    const trade = await paid();
    await adapter.refundTrade(ACCOUNT, trade, refundOf(trade));
    await double.tell('finishRefunds', {});
    await double.tell('chargeback', { payment: idOf(trade), amount: 1 });
    const calls = (await double.tell('calls', {})) as { url: string; body: string }[];
    // The callbacks report the payment, then each step of the refund, and then the chargeback.
    expect(calls).toHaveLength(4);
    for (const { url, body } of calls) expect([url, body]).toEqual([trade.notifyUrl, `id=${idOf(trade)}`]);
  });
});

describe('accounts', () => {
  test("the prefix of an account's key shows whether the account is in test or live mode", async () => {
    await adapter.checkAccount(ACCOUNT);
    expect(modeOf({ api_key: 'test_x' })).toBe('test');
    expect(modeOf({ api_key: 'live_x' })).toBe('live');
  });

  test('the error of checkAccount names the missing payment method, or says that the clock is wrong', async () => {
    await double.tell('clock', { offsetMs: -10 * 60_000 });
    const off = await errorOf(adapter.checkAccount(ACCOUNT));
    expect(off).toMatchObject({ kind: 'misconfigured', message: expect.stringContaining('clock') });
    await double.tell('clock', { offsetMs: 0 });
    await double.tell('methods', []);
    const none = await errorOf(adapter.checkAccount(ACCOUNT));
    expect(none).toMatchObject({
      kind: 'misconfigured',
      message: expect.stringContaining('enable one at Mollie'),
    });
  });

  test('if the clock is wrong, findTrade fails instead of reporting a trade as absent', async () => {
    await double.tell('clock', { offsetMs: 10 * 60_000 });
    expect((await errorOf(adapter.findTrade?.(ACCOUNT, newTrade()) ?? Promise.resolve())).kind).toBe(
      'misconfigured',
    );
  });
});
