import { clientToken } from '../../client-token.ts';
import { Refusal, type RefusalCode } from '../../domain/refusal.ts';
import { isLive } from '../../domain/states.ts';
import { findPaymentOfPayer, getPayment, type PaymentWithRefund } from '../../ledger/queries.ts';
import type { Payment } from '../../ledger/rows.ts';
import type { Api } from '../api-deps.ts';
import type { Access } from '../endpoint/auth.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { z } from '../http/zod.ts';
import { presentPayment } from '../payments/present.ts';
import { presentationFor } from '../payments/presentation.ts';
import { createReadPayment } from '../payments/read-payment.ts';
import { presentToPayer } from '../payments/read-payment-view.ts';
import { ATTEMPT_REFUSALS, createStartPayment, type PaymentRequest } from '../payments/start-payment.ts';
import { newSwitch, payment, switchedPayment } from '../schemas/payment.ts';

/** The refusals that name orders and payments of the merchant, in words for somebody who only has a token. */
const TO_THE_PAYER: Partial<Record<RefusalCode, string>> = {
  order_already_paid: 'This is paid already.',
  order_not_payable: 'This can no longer be paid.',
  attempt_unresolved: 'An earlier attempt is still being decided: do not pay again.',
  payer_differs: 'Somebody else is paying in this way.',
  amount_not_supported: 'This amount cannot be paid in this way.',
  channel_misconfigured: 'This way to pay is not available at the moment.',
  channel_rejected: 'The channel refused this payment.',
  unknown_account: 'This way to pay takes no payments now.',
};

/** `POST /v1/payments/{id}/switch`: the payer would rather pay the order in another way. */
export function switchRoute(api: Api): Endpoint {
  const { db, config } = api;
  const readPayment = createReadPayment(api);
  const startPayment = createStartPayment(api);

  /** The payer's part of an attempt is kept: who pays, where to return, how long there is. */
  const again = (
    row: Payment,
    { channel, method }: z.output<typeof newSwitch>,
    access: Access,
  ): PaymentRequest => ({
    channel,
    method,
    // Another way to pay has accounts of its own.
    ...(channel === row.channel && row.account !== null ? { account: row.account } : {}),
    payer: (row.payer ?? undefined) as PaymentRequest['payer'],
    returnUrl: row.returnUrl ?? undefined,
    metadata: row.metadata as PaymentRequest['metadata'],
    isInherited: true,
    expiresInMs: row.expiresAt.getTime() - row.createdAt.getTime(),
    byPayer: access.kind === 'token',
  });

  async function view(row: PaymentWithRefund, access: Access) {
    const token = clientToken(config.secret, row.id);
    if (access.kind === 'key') return presentPayment(row, presentationFor(api, access.caller), token);
    const found = await findPaymentOfPayer(db, row.id);
    // Payments are never deleted.
    if (found === null) throw new Error(`payment ${row.id} is gone`);
    return { ...presentToPayer(api, found, token), clientToken: token };
  }

  return endpoint({
    method: 'post',
    path: '/v1/payments/{id}/switch',
    operationId: 'switchPayment',
    tag: 'Payments',
    summary: 'Pay in another way',
    description:
      "A new attempt for the same order, as `POST /v1/payments` makes it, with the same payer, `returnUrl`, metadata and time to pay. The order's unpaid " +
      'attempts are closed first; when one is paid or still being decided, nothing is made. Asking for a way that is live ' +
      'already returns that attempt as it is, or a new one when less than 30 s of it are left (of an attempt of less than a minute: less than half). With a client token an order takes 20 attempts in all, then `order_not_payable`, and `Idempotency-Key` has no effect. The answer is a payment of its own, with a client token of its own.',
    auth: 'key or token',
    cors: true,
    params: z.object({ id: z.string() }),
    body: newSwitch,
    bodyExamples: { other: { summary: 'To another channel', value: { channel: 'simulator2' } } },
    answers: {
      201: { description: 'Created: go on with it.', schema: z.union([payment, switchedPayment]) },
      200: { description: 'It was live already.', schema: z.union([payment, switchedPayment]) },
      202: {
        description: 'The channel has not answered yet and is still being asked: watch the new payment.',
        schema: z.union([payment, switchedPayment]),
      },
    },
    refusals: ['payment_not_found', ...ATTEMPT_REFUSALS],
    async handle({ answer, access, params: { id }, body, startedAt }) {
      const row = await readPayment(access, id);
      // nodrop may not close it, so that both could be paid.
      if (row.adopted !== null && isLive(row.status))
        throw new Refusal(
          'attempt_unresolved',
          'This payment is made elsewhere, and is still open there: go on where you came from.',
        );
      const { status, payment: made } = await startPayment(
        row.merchantId,
        { id: row.orderId },
        again(row, body, access),
        startedAt,
      ).catch((error: unknown) => {
        throw access.kind === 'token' ? toThePayer(error) : error;
      });
      await answer(status, await view(made, access));
    },
    async replay(id, access) {
      return await view(await getPayment(db, id), access);
    },
  });
}

function toThePayer(error: unknown): unknown {
  if (!(error instanceof Refusal)) return error;
  const words = TO_THE_PAYER[error.code];
  if (words === undefined) return error;
  return new Refusal(error.code, words, {
    cause: error,
    ...(error.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: error.retryAfterSeconds }),
  });
}
