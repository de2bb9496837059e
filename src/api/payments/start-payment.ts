import { clientToken, hashSecret } from '../../client-token.ts';
import { recordedAnswer } from '../../domain/answer.ts';
import { expiryOf, isUndecided, refusesAttempts, runsOut } from '../../domain/attempt.ts';
import { type MethodDeclaration, methodOf, takesCurrency } from '../../domain/channel.ts';
import { missingOfPayer } from '../../domain/limits.ts';
import { Refusal } from '../../domain/refusal.ts';
import { insertPayment, type NewOrder, type NewPayment } from '../../ledger/new-payment.ts';
import { hasUsableAction } from '../../ledger/payment-facts.ts';
import {
  findOrder,
  getPayment,
  hasAccount,
  type PaymentWithRefund,
  unknownAccount,
} from '../../ledger/queries.ts';
import type { Payment } from '../../ledger/rows.ts';
import { TemporalUnavailable } from '../../temporal/payment-workflows.ts';
import type { Api } from '../api-deps.ts';
import { paymentKey } from '../changes.ts';
import { ANSWER_WITHIN_MS, NEXT_ACTION_AT_LEAST_MS } from '../deadlines.ts';
import { isPayable } from './present.ts';
import { onceOthersAreSettled, refuseUndecided } from './settle-other-attempts.ts';
import { ATTEMPTS_OF_PAYERS } from './switch-options.ts';

/** A request for an attempt to pay an order. */
export interface PaymentRequest
  extends Omit<NewPayment, 'method' | 'mode' | 'askedAttempts' | 'attemptsAtMost'> {
  /** @default the channel's first method */
  readonly method: string | undefined;
  /**
   * True if the request itself states `expiresInMs`. If the value is a default, nodrop reduces it to the channel's
   * maximum.
   */
  readonly isExpiryStated?: boolean;
  /**
   * True for a request with a client token. The number of such requests is limited, because each request causes a new
   * trade or a query at a channel.
   */
  readonly byPayer?: boolean;
}

/**
 * The result of a request for an attempt. The HTTP status is 201 if the attempt is new, 200 if the attempt was already
 * live, and 202 if the payer cannot pay yet.
 */
export interface Started {
  readonly status: 200 | 201 | 202;
  readonly payment: PaymentWithRefund;
}

interface Advanced {
  readonly payment: PaymentWithRefund;
  readonly advanced: boolean;
}

/**
 * @returns a function that creates an attempt to pay an order. See points 1, 2 and 9 of "The way of a payment" in
 * docs/architecture.md.
 */
export function createStartPayment(api: Api) {
  const { db, config, channels, workflows, changes, metrics, now } = api;

  /**
   * Chooses the method and the expiry of an attempt, and makes the checks that need no lock. Other checks run later,
   * under the order's lock.
   * @throws Refusal `unknown_channel`, `unknown_account`, `invalid_request` (which names the field) or
   * `attempt_unresolved`
   */
  async function chooseMethod(
    merchantId: string,
    order: { readonly id: string } | NewOrder,
    attempt: PaymentRequest,
  ): Promise<{
    readonly method: string;
    readonly currencies: MethodDeclaration['currencies'];
    readonly expiresInMs: number;
  }> {
    const adapter = channels.get(attempt.channel);
    const wanted = { ...attempt, mode: config.mode };
    const unknown = () => unknownAccount(db, merchantId, wanted, adapter !== undefined);
    if (adapter === undefined) throw await unknown();
    const { methods } = adapter.declaration;
    const declared =
      attempt.method === undefined ? methods[0] : methodOf(adapter.declaration, attempt.method);
    const { byPayer = false } = attempt;
    if ((declared === undefined || byPayer) && !(await hasAccount(db, merchantId, wanted)))
      throw await unknown();
    if (declared === undefined) {
      const message = `must be one of ${methods.map(({ name }) => name).join(', ')}`;
      throw new Refusal('invalid_request', `method: ${message}.`, { errors: [{ path: 'method', message }] });
    }
    const { name: method, currencies } = declared;
    requireOfPayer(declared, attempt);
    const expiresInMs = expiresWithin(declared, attempt);
    const found = byPayer ? await findOrder(db, merchantId, order.id) : null;
    if (found !== null && takesCurrency(declared, found.currency) && refusesAttempts(found, now()) === null) {
      const renewedUntil = expiryOf(found, expiresInMs, now());
      const asked = found.payments.filter(
        (one) =>
          one.channel !== attempt.channel || one.method !== method || runsOut(one, renewedUntil, now()),
      );
      refuseUndecided(asked, now());
    }
    return { method, currencies, expiresInMs };
  }

  /**
   * Queries every live attempt of the order, and then inserts the payment. If a live attempt matches the request,
   * returns that attempt and inserts no payment.
   */
  async function insert(
    merchantId: string,
    order: { readonly id: string } | NewOrder,
    { byPayer = false, isExpiryStated: _, ...given }: PaymentRequest & { readonly method: string },
    startedAt: number,
  ) {
    return await onceOthersAreSettled(api, startedAt, 'a new attempt of its order', (askedAttempts) =>
      insertPayment(
        db,
        merchantId,
        order,
        {
          ...given,
          mode: config.mode,
          askedAttempts,
          ...(byPayer ? { attemptsAtMost: ATTEMPTS_OF_PAYERS } : {}),
        },
        (id) => hashSecret(clientToken(config.secret, id)),
        now(),
      ),
    );
  }

  /**
   * Starts the payment's workflow if necessary, and waits until the payer can pay.
   * @param isNew true if this request inserted the payment
   * @returns the current payment. `advanced` is true if the payment got a next action or a new status in time.
   * @throws TemporalUnavailable
   */
  async function advance(
    row: Payment,
    isNew: boolean,
    startedAt: number,
    mayWake: boolean,
  ): Promise<Advanced> {
    const asItIs = async (advanced: boolean) => ({ payment: await getPayment(db, row.id), advanced });
    if (row.status === 'paying' && isPayable(row, now())) return await asItIs(true);
    // The row of this payment was restored, and nodrop is cancelling the payment. So the payment gets no next action.
    if (row.recoveredAt !== null) return await asItIs(false);
    // While the payment is undecided at the channel, the payer gets no next action.
    if (row.status === 'created' && isUndecided(row)) return await asItIs(false);
    const deadlineMs = Math.max(ANSWER_WITHIN_MS - (Date.now() - startedAt), NEXT_ACTION_AT_LEAST_MS);
    if (row.status !== 'created') return await asItIs(await workflows.awaitNextAction(row, deadlineMs));
    const payment = await begin(row, isNew, deadlineMs, mayWake);
    return { payment, advanced: payment.status !== 'created' };
  }

  /**
   * Starts the workflow of a payment with status `created`, and waits until the status changes or the time is up. The
   * function listens for changes before it starts the workflow, so that it misses no change. The wait also ends if the
   * channel rejects nodrop's credentials. If the channel had already rejected them before this request, nodrop first
   * calls the channel once more.
   * @throws TemporalUnavailable if the start was not confirmed.
   */
  async function begin(
    row: Payment,
    isNew: boolean,
    deadlineMs: number,
    mayWake: boolean,
  ): Promise<PaymentWithRefund> {
    let isStarted = false;
    const isKnown = isMisconfigured(row);
    return await changes.until<PaymentWithRefund>(paymentKey(row.id), {
      read: async () => {
        if (isStarted) return await getPayment(db, row.id);
        // Wake the workflow now. The configuration may have been corrected, but the workflow may call the channel only
        // half a minute later.
        if (isKnown && mayWake) await workflows.wake(row, deadlineMs);
        else await workflows.start(row, isNew, deadlineMs);
        isStarted = true;
        return isNew ? { ...row, owedRefund: null } : await getPayment(db, row.id);
      },
      done: (payment) => payment.status !== 'created' || (!isKnown && isMisconfigured(payment)),
      timeoutMs: isKnown ? Math.min(deadlineMs, MENDED_WITHIN_MS) : deadlineMs,
      mustWait: true,
    });
  }

  /**
   * @param order the id of an existing order, or an order to create.
   * @param startedAt when the request started, epoch ms.
   * @throws Refusal with one of `ATTEMPT_REFUSALS`, TemporalUnavailable
   */
  return async (
    merchantId: string,
    order: { readonly id: string } | NewOrder,
    attempt: PaymentRequest,
    startedAt: number,
  ): Promise<Started> => {
    const chosen = await chooseMethod(merchantId, order, attempt);
    const count = metrics.countPayment.bind(undefined, attempt.channel);
    const make = async () => {
      const { payment: row, created } = await insert(merchantId, order, { ...attempt, ...chosen }, startedAt);
      return { created, ...(await advance(row, created, startedAt, attempt.byPayer !== true)) };
    };
    const made = await make()
      // The channel no longer gives a next action for the live attempt, so the attempt ends and a new attempt replaces
      // it.
      .then(async (first) => (first.payment.noActionSince === null ? first : await make()))
      .catch((error: unknown) => {
        if (error instanceof TemporalUnavailable) count('unavailable');
        throw error;
      });
    const { payment, created, advanced } = made;
    const { id } = payment;
    if (payment.status === 'failed') {
      count('rejected');
      const said = recordedAnswer(payment);
      const reason = said?.state === 'failed' ? said.reason : undefined;
      throw new Refusal(
        'channel_rejected',
        `${attempt.channel} refused payment ${id}: ${reason ?? 'it gave no reason'}`,
      );
    }
    if (isMisconfigured(payment) && (payment.status === 'created' || lacksAction(payment, now()))) {
      count('unavailable');
      throw new Refusal(
        'channel_misconfigured',
        `${attempt.channel} rejects our calls: ${payment.attentionDetail}. nodrop retries payment ${id} until it expires; the same request continues it.`,
      );
    }
    const pending = !advanced || payment.status === 'created' || lacksAction(payment, now());
    count(pending ? 'accepted' : created ? 'created' : 'repeated');
    return { status: pending ? 202 : created ? 201 : 200, payment };
  };
}

/**
 * If the channel rejected nodrop's earlier calls, a request waits for this time in ms. Meanwhile, nodrop calls the
 * channel again, because the configuration may have been corrected.
 */
const MENDED_WITHIN_MS = 3_000;

/** True if the channel rejects nodrop's credentials, permissions or clock. */
const isMisconfigured = ({ attention }: Payment): boolean => attention === 'channel_misconfigured';

/**
 * @throws Refusal `invalid_request` if the request lacks data of the payer that the method needs. The refusal names
 * the missing fields.
 */
function requireOfPayer(method: MethodDeclaration, { payer, channel }: PaymentRequest): void {
  const missing = missingOfPayer(method, payer);
  if (missing.length === 0) return;
  const message = `${channel} needs it for ${method.name}`;
  throw new Refusal('invalid_request', `${missing.join(', ')}: ${message}.`, {
    errors: missing.map((path) => ({ path, message })),
  });
}

/**
 * Returns the time to pay in ms. @throws Refusal `invalid_request` if the request states a longer time than the method
 * allows
 */
function expiresWithin({ expiry: { atMostMs } }: MethodDeclaration, attempt: PaymentRequest): number {
  const { expiresInMs, isExpiryStated = false, channel } = attempt;
  if (atMostMs === null || expiresInMs <= atMostMs) return expiresInMs;
  if (!isExpiryStated) return atMostMs;
  const message = `must be at most ${Math.floor(atMostMs / 1000)} for ${channel}`;
  throw new Refusal('invalid_request', `expiresInSeconds: ${message}.`, {
    errors: [{ path: 'expiresInSeconds', message }],
  });
}

/** True if the payment can still be paid, but its next action has expired and nodrop has no new next action yet. */
function lacksAction(payment: Payment, now: Date): boolean {
  return (
    payment.status === 'paying' &&
    payment.cancelRequestedAt === null &&
    payment.expiresAt > now &&
    !isUndecided(payment) &&
    !hasUsableAction(payment, now)
  );
}

/** The codes of refusals for a request to pay an existing order. The codes for an invalid request also apply. */
export const ATTEMPT_REFUSALS = [
  'order_already_paid',
  'order_not_payable',
  'attempt_unresolved',
  'payer_differs',
  'unknown_channel',
  'unknown_account',
  'currency_not_supported',
  'amount_not_supported',
  'channel_rejected',
  'channel_misconfigured',
  'temporal_unavailable',
] as const;
