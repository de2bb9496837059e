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

/** Texts of refusals for payers. They replace the texts for merchants, which contain ids of orders and payments. */
const PAYER_DETAILS: Partial<Record<RefusalCode, string>> = {
  order_already_paid: 'This order is already paid.',
  order_not_payable: 'This order can no longer be paid.',
  attempt_unresolved: 'The result of an earlier attempt is not known yet: do not pay again.',
  payer_differs: 'Another payer is already paying in this way.',
  amount_not_supported: 'This amount cannot be paid in this way.',
  channel_misconfigured: 'This way to pay is not available at the moment.',
  channel_rejected: 'The channel refused this payment.',
  unknown_account: 'This way to pay accepts no payments now.',
};

/** `POST /v1/payments/{id}/switch`: creates an attempt to pay the same order with another channel or method. */
export function switchRoute(api: Api): Endpoint {
  const { db, config } = api;
  const readPayment = createReadPayment(api);
  const startPayment = createStartPayment(api);

  /**
   * Builds the request for the new attempt. The new attempt keeps the payer, return URL, metadata and time to pay of
   * the old attempt.
   */
  const again = (
    row: Payment,
    { channel, method }: z.output<typeof newSwitch>,
    access: Access,
  ): PaymentRequest => ({
    channel,
    method,
    // An account name belongs to one channel. So if the payer switches to another channel, nodrop uses the default
    // account of that channel.
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
    // This case cannot happen, because payments are never deleted.
    if (found === null) throw new Error(`payment ${row.id} is missing from the ledger`);
    return { ...presentToPayer(api, found, token), clientToken: token };
  }

  return endpoint({
    method: 'post',
    path: '/v1/payments/{id}/switch',
    operationId: 'switchPayment',
    tag: 'Payments',
    summary: 'Pay in another way',
    description:
      "Creates a new attempt for the same order, as `POST /v1/payments` does, with the same payer, `returnUrl`, metadata and time to pay. The order's unpaid " +
      'attempts are closed first. If one is paid or undecided, no attempt is created. If an attempt with the requested channel and method is live, ' +
      'it is returned unchanged, unless it expires within 30 s (or within half of its time to pay, if that is less than a minute): then a new one is created. With a client token, an order can have 20 attempts in all, then the answer is `order_not_payable`; `Idempotency-Key` has no effect. The answer is a separate payment with its own client token.',
    auth: 'key or token',
    cors: true,
    params: z.object({ id: z.string() }),
    body: newSwitch,
    bodyExamples: { other: { summary: 'To another channel', value: { channel: 'simulator2' } } },
    answers: {
      201: {
        description: 'Created: continue with this payment.',
        schema: z.union([payment, switchedPayment]),
      },
      200: { description: 'The attempt was already live.', schema: z.union([payment, switchedPayment]) },
      202: {
        description: 'The channel has not answered yet, and nodrop keeps trying: watch the new payment.',
        schema: z.union([payment, switchedPayment]),
      },
    },
    refusals: ['payment_not_found', ...ATTEMPT_REFUSALS],
    async handle({ answer, access, params: { id }, body, startedAt }) {
      const row = await readPayment(access, id);
      // The merchant may forbid nodrop to close an adopted trade. So the payer could pay both the adopted trade and the
      // new attempt.
      if (row.adopted !== null && isLive(row.status))
        throw new Refusal(
          'attempt_unresolved',
          'This payment was started elsewhere and is still open there: continue where you came from.',
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
  const detail = PAYER_DETAILS[error.code];
  if (detail === undefined) return error;
  return new Refusal(error.code, detail, {
    cause: error,
    ...(error.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: error.retryAfterSeconds }),
  });
}
