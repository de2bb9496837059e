import { clientToken, hashSecret } from '../../client-token.ts';
import { Refusal } from '../../domain/refusal.ts';
import type { Payment } from '../../generated/prisma/client.ts';
import { startPayment, UnaskedAttempts } from '../../ledger/intake.ts';
import type { Caller } from '../../ledger/merchants.ts';
import { recordedAnswer } from '../../ledger/snapshot.ts';
import { findOrder, getPayment, hasAccount, type PaymentWithRefund } from '../../ledger/views.ts';
import type { Api } from '../deps.ts';
import { type Endpoint, endpoint } from '../endpoint.ts';
import { resolveOtherAttempts } from '../resolve-other-attempts.ts';
import { newPayment, payment } from '../schemas/payment.ts';
import { viewerOf } from '../viewer.ts';
import { isPayable, paymentView } from '../views.ts';
import type { z } from '../zod.ts';
import { toNewOrder } from './orders.ts';

/** From the request's start to the answer, whatever the channel and Temporal do. */
const BUDGET_MS = 8_000;
/** What Temporal gets at least, however long the database took. */
const LEAST_MS = 1_000;

type Given = z.output<typeof newPayment>;

/** `POST /v1/payments`: points 1 and 2 of the way of a payment. */
export function createPaymentRoute(api: Api): Endpoint {
  const { db, config, channels, workflows, metrics, now } = api;

  /** @throws Refusal `unknown_channel`, `invalid_request`, `currency_not_supported`, `order_not_found` */
  async function chooseMethod(merchantId: string, given: Given): Promise<string> {
    const adapter = channels.get(given.channel);
    if (adapter === undefined || !(await hasAccount(db, merchantId, given.channel))) {
      throw new Refusal('unknown_channel', `There is no channel ${given.channel} for this merchant.`);
    }
    const method = given.method ?? adapter.methods[0];
    if (!adapter.methods.includes(method)) {
      const message = `must be one of ${adapter.methods.join(', ')}`;
      throw new Refusal('invalid_request', `method: ${message}.`, { errors: [{ path: 'method', message }] });
    }
    const currency = given.order?.currency ?? (await orderCurrency(merchantId, given.orderId ?? ''));
    if (adapter.currencies.length > 0 && !adapter.currencies.includes(currency)) {
      throw new Refusal(
        'currency_not_supported',
        `${given.channel} takes ${adapter.currencies.join(', ')}, not ${currency}.`,
      );
    }
    return method;
  }

  async function orderCurrency(merchantId: string, orderId: string): Promise<string> {
    const order = await findOrder(db, merchantId, orderId);
    if (order === null) throw new Refusal('order_not_found', `There is no order ${orderId}.`);
    return order.currency;
  }

  /** Inserts the payment once every other live attempt of its order has been asked about. */
  async function start(merchantId: string, given: Given, method: string, startedAt: number) {
    const askedAttempts = new Set<string>();
    for (;;) {
      try {
        return await startPayment(
          db,
          merchantId,
          given.order === undefined ? { id: given.orderId ?? '' } : toNewOrder(given.order),
          {
            channel: given.channel,
            method,
            payer: given.payer as { id?: string; ip?: string } | undefined,
            returnUrl: given.returnUrl,
            metadata: given.metadata,
            expiresInMs:
              given.expiresInSeconds === undefined ? config.paymentExpiryMs : given.expiresInSeconds * 1000,
            askedAttempts,
          },
          (id) => hashSecret(clientToken(config.secret, id)),
          now(),
        );
      } catch (error) {
        if (!(error instanceof UnaskedAttempts)) throw error;
        await resolveOtherAttempts(api, error.attempts, () => BUDGET_MS - (Date.now() - startedAt));
        for (const { id } of error.attempts) askedAttempts.add(id);
      }
    }
  }

  /** Makes the payment payable; true when it got so far in time. @throws TemporalUnavailable */
  async function advance(row: Payment, startedAt: number): Promise<boolean> {
    if (row.status === 'paying' && isPayable(row, now())) return true;
    return await workflows.awaitNextAction(row, Math.max(BUDGET_MS - (Date.now() - startedAt), LEAST_MS));
  }

  const view = (row: PaymentWithRefund, caller: Caller) =>
    paymentView(row, viewerOf(api, caller), clientToken(config.secret, row.id));

  return endpoint({
    method: 'post',
    path: '/v1/payments',
    operationId: 'createPayment',
    tag: 'Payments',
    summary: 'Start a payment',
    description:
      'For an order that exists or comes along. While an attempt for the same order, channel and method is live, ' +
      'the same request returns it: pressing pay twice is one payment. Every refusal with 5xx may be repeated.',
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
    },
    answers: {
      201: { description: 'Created: send the payer to `payUrl`.', schema: payment },
      200: { description: 'The live payment of the same order, channel and method.', schema: payment },
      202: {
        description:
          'The channel has not answered yet and is still being asked: get the payment with `wait`.',
        schema: payment,
      },
    },
    refusals: [
      'order_not_found',
      'order_exists',
      'order_already_paid',
      'order_not_payable',
      'attempt_unresolved',
      'unknown_channel',
      'currency_not_supported',
      'channel_rejected',
      'temporal_unavailable',
    ],
    async handle({ answer, access: { caller }, body: given, startedAt }) {
      const method = await chooseMethod(caller.merchantId, given);
      const { payment: row, created } = await start(caller.merchantId, given, method, startedAt);

      const count = metrics.countPayment.bind(undefined, given.channel);
      const advanced = await advance(row, startedAt).catch((error: unknown) => {
        count('unavailable');
        throw error;
      });
      const current = await getPayment(db, row.id);
      if (current.status === 'failed') {
        count('rejected');
        const said = recordedAnswer(current);
        const reason = said?.state === 'failed' ? said.reason : undefined;
        throw new Refusal(
          'channel_rejected',
          `${given.channel} refused payment ${row.id}: ${reason ?? 'it gave no reason'}`,
        );
      }
      const pending = !advanced || current.status === 'created';
      count(pending ? 'accepted' : created ? 'created' : 'repeated');
      await answer(pending ? 202 : created ? 201 : 200, view(current, caller));
    },
    async replay(id, { caller }) {
      return view(await getPayment(db, id), caller);
    },
  });
}
