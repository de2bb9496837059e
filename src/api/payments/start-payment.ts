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

/** An attempt as it is asked for. */
export interface PaymentRequest
  extends Omit<NewPayment, 'method' | 'mode' | 'askedAttempts' | 'attemptsAtMost'> {
  /** @default the channel's first */
  readonly method: string | undefined;
  /** `expiresInMs` is the request's own; a default is cut to what the channel takes. */
  readonly isExpiryStated?: boolean;
  /** By whoever has a client token: within bounds, as they cost the channels a trade or a query each time. */
  readonly byPayer?: boolean;
}

/** What came of it: 201 it is new, 200 it was live already, 202 there is nothing to pay with yet. */
export interface Started {
  readonly status: 200 | 201 | 202;
  readonly payment: PaymentWithRefund;
}

interface Advanced {
  readonly payment: PaymentWithRefund;
  readonly advanced: boolean;
}

/** @returns what makes an attempt to pay an order: points 1, 2 and 9 of the way of a payment. */
export function createStartPayment(api: Api) {
  const { db, config, channels, workflows, changes, metrics, now } = api;

  /**
   * Refuses what needs no lock to be refused; the rest is decided with the attempt, under the order's lock.
   * @throws Refusal `unknown_channel`, `unknown_account`, `invalid_request` naming the field, `attempt_unresolved`
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

  /** Inserts the payment once every live attempt of its order has been asked about, or finds the one to hand out. */
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
   * Makes the payment payable.
   * @param isNew it was inserted by this request
   * @returns the payment as it is then, and whether it got so far in time.
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
    // Its payer gets nothing to do: it is being cancelled.
    if (row.recoveredAt !== null) return await asItIs(false);
    // The channel decides, and gives nobody anything to do until it has.
    if (row.status === 'created' && isUndecided(row)) return await asItIs(false);
    const deadlineMs = Math.max(ANSWER_WITHIN_MS - (Date.now() - startedAt), NEXT_ACTION_AT_LEAST_MS);
    if (row.status !== 'created') return await asItIs(await workflows.awaitNextAction(row, deadlineMs));
    const payment = await begin(row, isNew, deadlineMs, mayWake);
    return { payment, advanced: payment.status !== 'created' };
  }

  /**
   * Starts the workflow of a payment that is `created`, and waits until it has left that or the time is up. Listens
   * before it starts it, so that the change cannot come in between, and a new row need not be read again. It also returns
   * when the channel does not take our calls; when that is known already, the channel is called once more.
   * @throws TemporalUnavailable when the start was not confirmed.
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
        // It may be mended by now, and the next attempt be half a minute away.
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
   * @param order one that exists, or one that comes along.
   * @param startedAt of the request, epoch ms.
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
      // The channel gives the live attempt no next action any more: it ends, and another one takes its place.
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
        `${attempt.channel} does not take our calls: ${payment.attentionDetail}. Payment ${id} is asked for again until it expires; the same request goes on with it.`,
      );
    }
    const pending = !advanced || payment.status === 'created' || lacksAction(payment, now());
    count(pending ? 'accepted' : created ? 'created' : 'repeated');
    return { status: pending ? 202 : created ? 201 : 200, payment };
  };
}

/** How soon a channel that has been mended answers. */
const MENDED_WITHIN_MS = 3_000;

/** The channel does not take our credentials, permissions or clock. */
const isMisconfigured = ({ attention }: Payment): boolean => attention === 'channel_misconfigured';

/** @throws Refusal `invalid_request` naming what the method needs to know of the payer */
function requireOfPayer(method: MethodDeclaration, { payer, channel }: PaymentRequest): void {
  const missing = missingOfPayer(method, payer);
  if (missing.length === 0) return;
  const message = `${channel} needs it for ${method.name}`;
  throw new Refusal('invalid_request', `${missing.join(', ')}: ${message}.`, {
    errors: missing.map((path) => ({ path, message })),
  });
}

/** How long the payer has. @throws Refusal `invalid_request` for a stated time that the channel does not take */
function expiresWithin({ expiry: { atMostMs } }: MethodDeclaration, attempt: PaymentRequest): number {
  const { expiresInMs, isExpiryStated = false, channel } = attempt;
  if (atMostMs === null || expiresInMs <= atMostMs) return expiresInMs;
  if (!isExpiryStated) return atMostMs;
  const message = `must be at most ${Math.floor(atMostMs / 1000)} for ${channel}`;
  throw new Refusal('invalid_request', `expiresInSeconds: ${message}.`, {
    errors: [{ path: 'expiresInSeconds', message }],
  });
}

/** Its payer could pay, and has nothing to pay with: the old next action has expired, and there is no new one yet. */
function lacksAction(payment: Payment, now: Date): boolean {
  return (
    payment.status === 'paying' &&
    payment.cancelRequestedAt === null &&
    payment.expiresAt > now &&
    !isUndecided(payment) &&
    !hasUsableAction(payment, now)
  );
}

/** What an attempt for an order that exists is refused with, besides what is wrong with the request. */
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
