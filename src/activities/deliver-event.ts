import { ApplicationFailure } from '@temporalio/common';
import {
  DELIVERY_ALARM_MS,
  type DeliveryProgress,
  type DeliverySnapshot,
  isDeliveredByPayment,
} from '../domain/delivery.ts';
import { ROW_LOST_FAILURE } from '../domain/names.ts';
import type { PaymentSnapshot } from '../domain/payment.ts';
import { UnreadableSecret } from '../encryption.ts';
import { isRowGone, type LedgerClient } from '../ledger/client.ts';
import * as deliveries from '../ledger/deliveries.ts';
import type { AttemptResult } from '../ledger/delivery-verdict.ts';
import { eventMessage } from '../ledger/event-data.ts';
import { findOrderService } from '../ledger/merchants.ts';
import { loadPayment } from '../ledger/payments.ts';
import { owedRefund } from '../ledger/refunds.ts';
import type { OrderServiceClient, OrderServiceTarget } from '../order-service/client.ts';
import { MerchantConcurrency } from '../order-service/merchant-concurrency.ts';
import { startDeliveries, startDueRedelivery } from '../temporal/start-deliveries.ts';
import type { ActivityDeps } from './activity-deps.ts';
import { notDueYet, OWN_TROUBLE_RETRY_MS, orderServiceDidNotAgree, ownTrouble, rowLost } from './failures.ts';

export interface DeliverEventDeps
  extends Pick<ActivityDeps, 'db' | 'secret' | 'now' | 'deliveryWorkflows' | 'orderUnknownForMs'> {
  readonly orderServices: Pick<OrderServiceClient, 'deliver' | 'read'>;
}

/** What the payment's workflow learns of its order service. */
export interface DeliveryResult {
  readonly snapshot: PaymentSnapshot;
  /** The refund that is owed and is to start. */
  readonly refund: string | null;
  /** Null once the order service has agreed or refused. */
  readonly telling: DeliveryProgress | null;
}

/**
 * Tells merchants' order services, on a task queue of its own: one that hangs must not keep the ledger's activities
 * waiting. What is told when follows from the ledger, and not from Temporal's attempts.
 */
export function deliverEventActivities({
  db,
  secret,
  now,
  orderServices,
  deliveryWorkflows,
  orderUnknownForMs,
}: DeliverEventDeps) {
  const core: Core = { db, secret, now, orderServices, deliveryWorkflows, orderUnknownForMs };
  const concurrency = new MerchantConcurrency();

  /**
   * Null when there is no such delivery any more.
   * @throws ApplicationFailure when so many calls of its merchant are under way that it is to come again.
   */
  const withinMerchantLimit = async <T>(deliveryId: string, work: () => Promise<T>): Promise<T | null> => {
    const merchantId = await deliveries.findMerchantOf(db, deliveryId);
    if (merchantId === null) return null;
    return await concurrency.hold(
      merchantId,
      deliveryId,
      (waitMs) => {
        throw notDueYet(waitMs);
      },
      work,
    );
  };

  /** @throws ApplicationFailure when it is to be told again, with the wait until then. */
  const attempt = async (deliveryId: string): Promise<DeliverySnapshot | null> => {
    const turn = await deliveries.leaseDelivery(db, deliveryId, await now());
    if (turn.kind === 'settled') return await deliveries.loadDelivery(db, deliveryId);
    if (turn.kind === 'now') {
      const { row } = turn;
      const after = await callOrderService(core, row);
      const { telling } = after;
      if (telling === null) {
        await startDeliveries({ db, deliveryWorkflows }, row.paymentId);
        return after;
      }
      const at = await now();
      const alarm = alarmIn(telling.since, at);
      // What the Web UI says of it would no longer be true; once it is late, that tells the last answer.
      if (alarm === null || after.attention !== row.payment.attention) return after;
      throw orderServiceDidNotAgree(telling.lastAnswer, Math.min(telling.nextAt - at.getTime(), alarm));
    }
    const { row, inMs } = turn;
    const at = await now();
    const alarm = alarmIn((row.firstAttemptAt ?? at).getTime(), at);
    if (alarm === null && deliveries.isShowable(row)) {
      const after = await deliveries.showOverdue(db, deliveryId, at, orderUnknownForMs);
      if (after.attention !== row.payment.attention) return after;
    }
    throw notDueYet(Math.min(inMs, alarm ?? inMs));
  };

  return {
    /**
     * Tells the order service that the payment pays the order, until it agrees or refuses. Returns also when what a
     * person should see of it has changed.
     */
    async tellOrderService(paymentId: string): Promise<DeliveryResult> {
      return await unlessOwnTrouble(async () => {
        const deliveryId = await deliveries.findPendingDelivery(db, paymentId);
        const told =
          deliveryId === null ? null : await withinMerchantLimit(deliveryId, () => attempt(deliveryId));
        const snapshot = await loadPayment(db, paymentId, await now());
        // Not possible; should it be all the same, the workflow must not ask again at once, for ever.
        if (deliveryId === null && snapshot.orderUpdate === 'pending')
          throw new Error(`payment ${paymentId} waits for an order service, and has no event to tell it`);
        return { snapshot, refund: await owedRefund(db, snapshot), telling: told?.telling ?? null };
      });
    },

    /** Tells the order service of any other event, until it has an answer. Null when it is not kept any more. */
    async deliverEvent(deliveryId: string): Promise<DeliverySnapshot | null> {
      return await unlessGone(() =>
        unlessOwnTrouble(() => withinMerchantLimit(deliveryId, () => attempt(deliveryId))),
      );
    },

    /**
     * One more call for a delivery that is settled: logged, and nothing else. None for one that was superseded after
     * it was asked for, or whose event does not hold any more. Null as above.
     */
    async redeliverEvent(deliveryId: string): Promise<DeliverySnapshot | null> {
      return await unlessGone(() =>
        unlessOwnTrouble(() =>
          withinMerchantLimit(deliveryId, async () => {
            const row = await deliveries.findDelivery(db, deliveryId);
            return (await deliveries.mayBeRedelivered(db, row, await now()))
              ? await callOrderService(core, row)
              : deliveries.toDeliverySnapshot(row);
          }),
        ),
      );
    },
  };
}

export type DeliverEventActivities = ReturnType<typeof deliverEventActivities>;

type Core = Pick<DeliverEventDeps, 'secret' | 'now' | 'orderServices' | 'deliveryWorkflows'> & {
  readonly db: LedgerClient;
  readonly orderUnknownForMs: number | undefined;
};

/** One call, read back where that can be done, and written down with its conclusions. */
async function callOrderService(
  { db, secret, now, orderServices, deliveryWorkflows, orderUnknownForMs }: Core,
  row: deliveries.DeliveryRow,
): Promise<DeliverySnapshot> {
  const at = await now();
  const attempt = await ask(db, secret, orderServices, row, at);
  const after = await deliveries.recordAttempt(
    db,
    row.id,
    { ...attempt, at },
    Math.random(),
    await now(),
    orderUnknownForMs,
  );
  if (attempt.outcome !== 'unknown')
    await startDueRedelivery({ db, deliveryWorkflows }, row.merchantId, await now());
  return after;
}

async function ask(
  db: LedgerClient,
  secret: string,
  orderServices: DeliverEventDeps['orderServices'],
  row: deliveries.DeliveryRow,
  at: Date,
): Promise<Omit<AttemptResult, 'at'>> {
  const { event, payment } = row;
  let target: OrderServiceTarget | null;
  try {
    target = await findOrderService(db, payment.merchantId, secret, at);
  } catch (error) {
    if (!(error instanceof UnreadableSecret)) throw error;
    // Not of its making, yet the same to whoever waits: it is not told, and told again.
    return { outcome: 'unknown', statusCode: null, detail: error.message, durationMs: 0 };
  }
  if (target === null) {
    const detail = "The merchant has no order service any more: nodrop's own order counts.";
    return { outcome: 'agreed', statusCode: null, detail, durationMs: 0 };
  }
  const answer = await orderServices.deliver(target, {
    id: event.id,
    paymentId: payment.id,
    body: JSON.stringify(eventMessage(event)),
    at,
  });
  const { statusCode, durationMs } = answer;
  // The log keeps what explains a failure.
  const call = { statusCode, durationMs, ...(answer.kind === 'agreed' ? {} : started(answer)) };
  switch (answer.kind) {
    case 'unknown':
      return { outcome: 'unknown', detail: answer.reason, ...call, ...asked(answer) };
    case 'order_unknown': {
      const detail = `It answered ${statusCode}: it does not know the order.`;
      return { outcome: 'order_unknown', detail, ...call, ...asked(answer) };
    }
    case 'conflict': {
      const detail = `It answered 409: the order is paid by ${answer.paidPaymentId}.`;
      return { outcome: 'conflict', detail, ...call };
    }
    case 'gone':
      return { outcome: 'gone', detail: 'It answered 410: there is no such order.', ...call };
    case 'agreed': {
      const detail = `It answered ${statusCode}.`;
      if (target.statusUrl === null || !isAwaited(row)) return { outcome: 'agreed', detail, ...call };
      const read = await orderServices.read(target, payment.orderId, payment.id, at);
      const whole = { statusCode, durationMs: durationMs + read.durationMs, ...started(read) };
      switch (read.kind) {
        case 'paid':
          return { outcome: 'agreed', detail: `${detail} Read back: the order is paid.`, ...whole };
        case 'conflict': {
          const said = `${detail} Read back: the order is paid by ${read.paidPaymentId}.`;
          return { outcome: 'conflict', detail: said, ...whole };
        }
        case 'not_paid':
          return { outcome: 'not_applied', detail: `${detail} ${read.reason}`, ...whole };
        case 'unknown':
          return { outcome: 'unknown', detail: `${detail} ${read.reason}`, ...whole, ...asked(read) };
      }
    }
  }
}

const asked = ({ retryAfterMs }: { readonly retryAfterMs?: number }) =>
  retryAfterMs === undefined ? {} : { retryAfterMs };

const started = ({ answer }: { readonly answer?: string }) => (answer === undefined ? {} : { answer });

/** Its payment waits for it: an acknowledgement alone is not proof. */
const isAwaited = ({ event, payment }: deliveries.DeliveryRow): boolean =>
  isDeliveredByPayment(event.type, payment.orderUpdate);

/** When a person is to be shown what is not agreed on since then, in ms from `at`; null when that time has passed. */
function alarmIn(since: number, at: Date): number | null {
  const left = since + DELIVERY_ALARM_MS - at.getTime();
  return left > 0 ? left : null;
}

/** A delivery is written with what it tells: whoever does that again writes another one, and nothing is left to tell. */
async function unlessGone<T>(work: () => Promise<T>): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof ApplicationFailure && error.type === ROW_LOST_FAILURE) return null;
    throw error;
  }
}

async function unlessOwnTrouble<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof ApplicationFailure) throw error;
    if (isRowGone(error)) throw rowLost(error);
    throw ownTrouble('tell', error, OWN_TROUBLE_RETRY_MS);
  }
}
