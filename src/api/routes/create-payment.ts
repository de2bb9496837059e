import { clientToken } from '../../client-token.ts';
import { Refusal } from '../../domain/refusal.ts';
import { isWeb, schemeOf } from '../../domain/return-scheme.ts';
import { isLive } from '../../domain/states.ts';
import type { LedgerClient } from '../../ledger/client.ts';
import { allowsReturnScheme, type Caller } from '../../ledger/merchants.ts';
import { getPayment, type PaymentWithRefund } from '../../ledger/queries.ts';
import type { Api } from '../api-deps.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { ADOPT_REFUSALS, createAdoptTrade } from '../payments/adopt-trade.ts';
import { presentPayment } from '../payments/present.ts';
import { presentationFor } from '../payments/presentation.ts';
import { requireExpiry } from '../payments/require-expiry.ts';
import { ATTEMPT_REFUSALS, createStartPayment } from '../payments/start-payment.ts';
import { newPayment, payment, RETURN_URL_RULE } from '../schemas/payment.ts';
import { requireCurrentCurrency, toNewOrder } from './orders.ts';

/** `POST /v1/payments`. */
export function createPaymentRoute(api: Api): Endpoint {
  const { db, config } = api;
  const startPayment = createStartPayment(api);
  const adoptTrade = createAdoptTrade(api);

  const view = (row: PaymentWithRefund, caller: Caller) =>
    presentPayment(row, presentationFor(api, caller), clientToken(config.secret, row.id));

  return endpoint({
    method: 'post',
    path: '/v1/payments',
    operationId: 'createPayment',
    tag: 'Payments',
    summary: 'Start a payment',
    description:
      'For an order that exists or comes along. While an attempt for the same order, channel and method is live, ' +
      'the same request returns it: pressing pay twice is one payment. A `returnUrl` and `metadata` that are given ' +
      'replace those it has, a `payer.id` that differs is refused, and `payer.ip` and `expiresInSeconds` are not ' +
      'compared: the answer says what holds. With less than 30 s left (of a payment of less than a minute: half of its ' +
      'time) it is closed at the channel and a new one is made, unless that would end at the same time, with the order. Every refusal with 5xx may be repeated: ' +
      'after `channel_misconfigured` the payment stays, and the same request goes on with it. An amount, a time to pay or a ' +
      'payer that the channel does not take is refused before anything is made.',
    auth: 'key',
    body: newPayment,
    bodyExamples: {
      inline: {
        summary: 'With the order',
        value: {
          order: { id: 'order-1001', amount: 1050, currency: 'CNY', subject: 'Two tickets' },
          channel: 'simulator',
          returnUrl: 'https://shop.example/thanks',
        },
      },
      existing: {
        summary: 'For an order that exists',
        value: { orderId: 'order-1001', channel: 'simulator' },
      },
      adopt: {
        summary: 'Of a trade that is there',
        value: { orderId: 'order-1001', channel: 'stripe', adopt: { reference: 'cs_test_a1b2c3' } },
      },
    },
    answers: {
      201: { description: 'Created: send the payer to `payUrl`.', schema: payment },
      200: { description: 'The live payment of the same order, channel and method.', schema: payment },
      202: {
        description:
          'There is nothing to pay with yet. `created`: the channel is still being asked, get the payment with `wait`. `paying`: the next action has expired and the channel gave no new one in time, repeat the request.',
        schema: payment,
      },
    },
    refusals: ['order_not_found', 'order_exists', ...ATTEMPT_REFUSALS, ...ADOPT_REFUSALS],
    async handle({ answer, access: { caller }, body: given, startedAt }) {
      requireExpiry(config.mode, {
        expiresInSeconds: given.expiresInSeconds,
        'order.expiresInSeconds': given.order?.expiresInSeconds,
      });
      if (given.order !== undefined)
        await requireCurrentCurrency(db, caller.merchantId, given.order, 'order.currency');
      if (given.returnUrl !== undefined)
        await requireReturnScheme(
          db,
          { merchantId: caller.merchantId, orderId: given.order?.id ?? given.orderId ?? '' },
          given.returnUrl,
        );
      const order = given.order === undefined ? { id: given.orderId ?? '' } : toNewOrder(given.order);
      const attempt = {
        channel: given.channel,
        method: given.method,
        account: given.account,
        payer: given.payer as { id?: string; ip?: string } | undefined,
        returnUrl: given.returnUrl,
        metadata: given.metadata,
        isExpiryStated: given.expiresInSeconds !== undefined,
        expiresInMs:
          given.expiresInSeconds === undefined ? config.paymentExpiryMs : given.expiresInSeconds * 1000,
      };
      const { adopt } = given;
      const { status, payment: row } =
        adopt === undefined
          ? await startPayment(caller.merchantId, order, attempt, startedAt)
          : await adoptTrade(
              caller.merchantId,
              order,
              attempt,
              { reference: adopt.reference, own: adopt.own ?? false },
              startedAt,
            );
      await answer(status, view(row, caller));
    },
    async replay(id, { caller }) {
      return view(await getPayment(db, id), caller);
    },
  });
}

/**
 * A live attempt of the order keeps its URL when the scheme is not allowed any more, and its request can be repeated.
 * @throws Refusal `invalid_request` for the scheme of an app that the merchant has not allowed.
 */
async function requireReturnScheme(
  db: LedgerClient,
  order: { readonly merchantId: string; readonly orderId: string },
  returnUrl: string,
): Promise<void> {
  if (isWeb(returnUrl) || (await allowsReturnScheme(db, order.merchantId, schemeOf(returnUrl) ?? ''))) return;
  const same = await db.payment.findMany({ where: { ...order, returnUrl }, select: { status: true } });
  if (same.some(({ status }) => isLive(status))) return;
  throw new Refusal('invalid_request', `returnUrl: ${RETURN_URL_RULE}.`, {
    errors: [{ path: 'returnUrl', message: RETURN_URL_RULE }],
  });
}
