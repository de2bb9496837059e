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
      'Pays an existing order, or an order that the request creates. While an attempt for the same order, channel and method ' +
      'is live, the same request returns that attempt: a payer who presses pay twice makes one payment. `returnUrl` and ' +
      '`metadata` of the request replace those of the live attempt. A different `payer.id` is refused. `payer.ip` and ' +
      '`expiresInSeconds` are not compared: the answer has the values that apply. If the live attempt expires within 30 s (or ' +
      'within half of its time to pay, if that is less than a minute), it is closed at the channel and a new one is created, ' +
      'unless the new one would expire at the same time because the order does. Every request refused with 5xx may be repeated: ' +
      'after `channel_misconfigured` the payment stays, and the same request continues it. An amount, an expiry or a ' +
      'payer that the channel does not accept is refused before anything is created.',
    auth: 'key',
    body: newPayment,
    bodyExamples: {
      inline: {
        summary: 'With a new order',
        value: {
          order: { id: 'order-1001', amount: 1050, currency: 'CNY', subject: 'Two tickets' },
          channel: 'simulator',
          returnUrl: 'https://shop.example/thanks',
        },
      },
      existing: {
        summary: 'For an existing order',
        value: { orderId: 'order-1001', channel: 'simulator' },
      },
      adopt: {
        summary: 'For an existing trade',
        value: { orderId: 'order-1001', channel: 'stripe', adopt: { reference: 'cs_test_a1b2c3' } },
      },
    },
    answers: {
      201: { description: 'Created: send the payer to `payUrl`.', schema: payment },
      200: { description: 'The live payment of the same order, channel and method.', schema: payment },
      202: {
        description:
          'The payer cannot pay yet. Status `created`: the channel has not answered yet; get the payment with `wait`. Status `paying`: the next action has expired, and the channel gave no new one in time; repeat the request.',
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
 * Checks the scheme of the return URL. A request with the return URL of a live attempt is accepted, even if the
 * merchant no longer allows the scheme.
 * @throws Refusal `invalid_request` for an app's scheme that the merchant does not allow
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
