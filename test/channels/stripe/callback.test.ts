import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createStripeAdapter } from '../../../src/channels/stripe/adapter.ts';
import { EVENT_TYPES } from '../../../src/channels/stripe/callback.ts';
import type { CallbackError, CallbackRequest } from '../../../src/domain/channel.ts';
import { type StripeDouble, startStripeDouble } from '../../doubles/stripe/start.ts';
import { eventually } from '../../support/progress.ts';
import { ACCOUNT, accountOf, adapterAt, CREDENTIALS, created, idOf, newTrade, signed } from './support.ts';

/**
 * Tests how the adapter verifies a callback, and what it reports for each event. Stripe's own library or the double
 * makes the signatures.
 */

const adapter = createStripeAdapter();
const verify = (request: CallbackRequest, account = ACCOUNT) => adapter.verifyCallback(account, request);
const refusalOf = (request: CallbackRequest, account = ACCOUNT) =>
  verify(request, account).then(
    (callback) => callback.kind,
    (error: CallbackError) => error.kind,
  );

const eventOf = (type: string, object: object, more: object = {}) => ({
  id: 'evt_1',
  object: 'event',
  type,
  api_version: '2026-10-28.endive',
  created: 1_790_000_000,
  livemode: false,
  data: { object },
  ...more,
});
const text = (...event: Parameters<typeof eventOf>) => JSON.stringify(eventOf(...event));

const OURS = { nodrop_payment: 'pay_1' };
const session = {
  id: 'cs_1',
  object: 'checkout.session',
  status: 'complete',
  payment_status: 'paid',
  amount_total: 1050,
  currency: 'eur',
  payment_intent: 'pi_1',
  metadata: OURS,
};
const intent = {
  id: 'pi_1',
  object: 'payment_intent',
  status: 'succeeded',
  amount: 1050,
  amount_received: 1050,
  currency: 'eur',
  created: 1_780_000_000,
  metadata: OURS,
  latest_charge: 'ch_1',
};
const refund = {
  id: 're_1',
  object: 'refund',
  amount: 50,
  currency: 'eur',
  created: 1_790_000_000,
  status: 'succeeded',
  payment_intent: 'pi_1',
  metadata: { ...OURS, nodrop_refund: 'ref_1' },
};

describe('signatures', () => {
  const body = text('payment_intent.succeeded', intent);

  test('a signature is accepted if it was made with any of the valid secrets', async () => {
    const rotated = accountOf({ ...CREDENTIALS, webhook_secret: 'whsec_new' }, CREDENTIALS);
    for (const secret of ['whsec_new', CREDENTIALS.webhook_secret]) {
      expect(await refusalOf(signed(body, { secret }), rotated)).toBe('trade');
    }
    expect(await refusalOf(signed(body, { secret: 'whsec_other' }), rotated)).toBe('unverified');
  });

  test('a signature is accepted if its time is at most 300 s before or after the current time', async () => {
    for (const ageS of [295, -295]) expect(await refusalOf(signed(body, { ageS }))).toBe('trade');
    for (const ageS of [305, -305, -3600]) expect(await refusalOf(signed(body, { ageS }))).toBe('unverified');
  });

  test('a signature covers every byte of the body', async () => {
    const { headers, rawBody } = signed(body);
    const tampered = Buffer.from(rawBody.toString().replace('1050', '1051'));
    const notUtf8 = signed(body.replace('eur', 'e\uFFFDr'));
    const bytes = Buffer.from(notUtf8.rawBody.toString('latin1').replace('\xEF\xBF\xBD', '\xFF'), 'latin1');
    for (const rawBody of [
      tampered,
      Buffer.from(body.slice(0, -1)),
      Buffer.from(`${body} `),
      Buffer.alloc(0),
    ]) {
      expect(await refusalOf({ headers, rawBody })).toBe('unverified');
    }
    expect(await refusalOf({ headers: notUtf8.headers, rawBody: bytes })).toBe('unverified');
  });

  test('a signature header without a time, or without a signature of the scheme v1, is refused', async () => {
    const { headers, rawBody } = signed(body);
    const header = headers['stripe-signature'] as string;
    const [time, signature] = header.split(',') as [string, string];
    for (const value of [
      '',
      time,
      signature,
      `${time},${signature.replace('v1', 'v0')}`,
      `t=,${signature}`,
      header.slice(0, -1),
    ]) {
      expect(await refusalOf({ headers: { 'stripe-signature': value }, rawBody }), value).toBe('unverified');
    }
    expect(await refusalOf({ headers: {}, rawBody })).toBe('unverified');
    const among = `${time},v1=${'0'.repeat(64)},v0=${'1'.repeat(64)},${signature}`;
    expect(await refusalOf({ headers: { 'stripe-signature': among }, rawBody })).toBe('trade');
  });
});

describe('events', () => {
  test('an event about a paid payment intent reports the received amount, and identifies the payment by nodrop’s number', async () => {
    const event = text('payment_intent.succeeded', { ...intent, amount_received: 1000 });
    expect(await verify(signed(event))).toEqual({
      kind: 'trade',
      notificationId: 'evt_1',
      about: { outTradeNo: 'pay_1' },
      answer: {
        state: 'paid',
        channelPaymentId: 'pi_1',
        amount: 1000,
        currency: 'EUR',
        paidAt: '2026-09-21T14:13:20.000Z',
      },
    });
  });

  test.each([
    ['checkout.session.completed', session],
    ['checkout.session.async_payment_succeeded', session],
    ['checkout.session.completed', { ...session, payment_status: 'unpaid' }],
    ['checkout.session.async_payment_failed', { ...session, payment_status: 'unpaid' }],
    ['payment_intent.processing', { ...intent, status: 'processing' }],
    ['payment_intent.payment_failed', { ...intent, status: 'requires_payment_method' }],
    ['payment_intent.canceled', { ...intent, status: 'canceled' }],
    ['payment_intent.succeeded', { ...intent, amount: 'of another version' }],
    ['charge.refunded', { id: 'ch_1', metadata: OURS }],
  ])('the event %s is a notice, which makes nodrop query Stripe', async (type, object) => {
    expect(await verify(signed(text(type, object)))).toEqual({
      kind: 'notice',
      notificationId: 'evt_1',
      about: { outTradeNo: 'pay_1' },
      isProven: true,
    });
  });

  test('an event about an expired session closes the trade', async () => {
    const expired = { ...session, status: 'expired', payment_status: 'unpaid', payment_intent: null };
    expect(await verify(signed(text('checkout.session.expired', expired)))).toMatchObject({
      kind: 'trade',
      answer: { state: 'closed' },
    });
  });

  test("an event about a refund that nodrop requested contains nodrop's numbers and Stripe's id of the refund", async () => {
    expect(await verify(signed(text('refund.created', refund)))).toEqual({
      kind: 'refund',
      notificationId: 'evt_1',
      about: { outTradeNo: 'pay_1', channelPaymentId: 'pi_1' },
      refund: {
        outRefundNo: 'ref_1',
        channelRefundId: 're_1',
        answer: {
          state: 'succeeded',
          channelRefundId: 're_1',
          amount: 50,
          refundedAt: '2026-09-21T14:13:20.000Z',
        },
      },
    });
  });

  test.each([
    ['150 ISK', 'isk', 150, 2],
    ['40 ISK', 'isk', 40, 1],
    ['155 KWD', 'kwd', 155, 155],
  ])(
    'an event about a refund or dispute of %s is accepted, and its amount is rounded if necessary',
    async (_, currency, amount, ours) => {
      expect(await verify(signed(text('refund.created', { ...refund, currency, amount })))).toMatchObject({
        refund: { answer: { state: 'succeeded', amount: ours } },
      });
      const dispute = { id: 'dp_1', object: 'dispute', created: 1, status: 'lost', payment_intent: 'pi_1' };
      const disputed = text('charge.dispute.closed', { ...dispute, currency, amount });
      expect(await verify(signed(disputed))).toMatchObject({ dispute: { state: 'lost', amount: ours } });
    },
  );

  test("an event about a refund that was made in the dashboard contains Stripe's id of the payment", async () => {
    expect(await verify(signed(text('refund.created', { ...refund, metadata: {} })))).toMatchObject({
      kind: 'refund',
      about: { channelPaymentId: 'pi_1' },
      refund: { channelRefundId: 're_1' },
    });
  });

  test('an event about a failed refund is reported as reversed if the refund had succeeded before', async () => {
    const failed = { ...refund, status: 'failed', failure_reason: 'merchant_request' };
    const data = { object: failed, previous_attributes: { status: 'succeeded' } };
    const of = async (more: object) => verify(signed(text('refund.failed', failed, more)));
    expect(await of({ data })).toMatchObject({ refund: { answer: { state: 'reversed' } } });
    expect(await of({ data: { object: failed } })).toMatchObject({ refund: { answer: { state: 'failed' } } });
  });

  test.each([
    ['needs_response', 'open'],
    ['warning_needs_response', 'open'],
    ['under_review', 'open'],
    ['appeal_under_review', 'open'],
    ['of a later version', 'open'],
    ['won', 'won'],
    ['warning_closed', 'won'],
    ['lost', 'lost'],
    ['prevented', 'lost'],
  ])('an event about a dispute with the status "%s" reports the state %s', async (status, state) => {
    const dispute = {
      id: 'dp_1',
      object: 'dispute',
      amount: 1050,
      currency: 'eur',
      created: 1_790_000_000,
      status,
      reason: 'fraudulent',
      payment_intent: 'pi_1',
      evidence_details: { due_by: 1_800_000_000 },
    };
    expect(await verify(signed(text('charge.dispute.updated', dispute)))).toMatchObject({
      kind: 'dispute',
      about: { channelPaymentId: 'pi_1' },
      dispute: {
        ...{ id: 'dp_1', amount: 1050, currency: 'EUR', state, reason: 'fraudulent' },
        ...(status.startsWith('warning_') ? { isInquiry: true } : {}),
      },
    });
    if (!status.startsWith('warning_')) {
      const plain = await verify(signed(text('charge.dispute.updated', dispute)));
      expect('dispute' in plain && plain.dispute).not.toHaveProperty('isInquiry');
    }
  });

  test.each([
    ['of another type', text('payout.paid', { id: 'po_1' })],
    ['of the account', text('account.updated', { id: 'acct_1', metadata: OURS })],
    ['of live mode', text('checkout.session.completed', session, { livemode: true })],
    ['of a connected account', text('checkout.session.completed', session, { account: 'acct_2' })],
    ['of a session that is not ours', text('checkout.session.completed', { ...session, metadata: {} })],
    [
      'of a session with an invalid number',
      text('checkout.session.completed', { ...session, metadata: { nodrop_payment: "'" } }),
    ],
    ['of a charge that is not ours', text('charge.refunded', { id: 'ch_1', metadata: {} })],
    ['of a refund without a payment intent', text('refund.created', { ...refund, payment_intent: null })],
    ['of the second version', JSON.stringify({ id: 'evt_2', object: 'v2.core.event', type: 'v1.billing' })],
  ])('an event %s is acknowledged and ignored', async (_, body) => {
    expect(await verify(signed(body))).toMatchObject({ kind: 'ignored', reason: expect.any(String) });
  });

  test.each([
    ['not JSON', '{'],
    ['not an event', '{}'],
    ['an event without an object', JSON.stringify({ id: 'evt_1', object: 'event', type: 'x' })],
    ['an impossible amount', text('payment_intent.succeeded', { ...intent, amount_received: 0 })],
  ])('an event that is %s is malformed', async (_, body) => {
    expect(await refusalOf(signed(body))).toBe('malformed');
  });

  test('peekOutTradeNo returns the number of nodrop from an unverified event only if the number is valid', () => {
    const peek = (body: string) => adapter.peekOutTradeNo(Buffer.from(body));
    expect(peek(text('checkout.session.completed', session))).toBe('pay_1');
    for (const body of [
      '',
      '{}',
      '{"data":{"object":{"metadata":7}}}',
      text('x', { metadata: { nodrop_payment: '../' } }),
    ]) {
      expect(peek(body)).toBeUndefined();
    }
  });
});

test('docs/channels/stripe.md lists the events that the merchant registers at Stripe', () => {
  const listed = /```text\n([^`]*)```/.exec(readFileSync('docs/channels/stripe.md', 'utf8'))?.[1] ?? '';
  expect(listed.trim().split(/\s+/)).toEqual(EVENT_TYPES);
});

describe('the events of a payment that the double sends', () => {
  let double: StripeDouble;
  let server: Server;
  const received: CallbackRequest[] = [];

  beforeAll(async () => {
    double = await startStripeDouble();
    server = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      received.push({ headers: request.headers, rawBody: Buffer.concat(chunks) });
      response.end('{}');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const secret = CREDENTIALS.webhook_secret;
    await double.tell('webhooks', [{ url: `http://127.0.0.1:${port}/`, secret, types: [...EVENT_TYPES] }]);
  });
  afterAll(async () => {
    server.close();
    await double.stop();
  });

  test('the events of a payment are verified, and report the payment, its refund and its dispute', async () => {
    const trade = await created(adapterAt(double.url), newTrade());
    const { payment } = (await double.tell('pay', { id: idOf(trade), outcome: 'paid' })) as {
      payment: string;
    };
    await double.tell('dashboardRefund', { payment, amount: 50 });
    await double.tell('dispute', { payment, status: 'needs_response', dueBy: 1_800_000_000 });
    await eventually(() => expect(received).toHaveLength(5));
    const told = await Promise.all(received.map((request) => verify(request)));
    const kinds = told.map((callback) => ('about' in callback ? [callback.kind, callback.about] : callback));
    const atStripe = { channelPaymentId: payment };
    expect(kinds).toEqual(
      expect.arrayContaining([
        ['trade', { outTradeNo: trade.outTradeNo }],
        ['refund', atStripe],
        ['notice', { outTradeNo: trade.outTradeNo }],
        ['dispute', atStripe],
      ]),
    );
  });
});
