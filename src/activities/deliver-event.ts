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

/** The result that `tellOrderService` returns to the payment's workflow. */
export interface DeliveryResult {
  readonly snapshot: PaymentSnapshot;
  /** The id of a refund that is due and whose workflow must be started. */
  readonly refund: string | null;
  /** The progress of the delivery. Null once the order service has agreed or refused. */
  readonly telling: DeliveryProgress | null;
}

/**
 * The activities that deliver events to merchants' order services. They have a task queue of their own, so that an
 * order service that hangs does not delay the ledger's activities. The ledger decides when an event is sent, and
 * Temporal only repeats the activity.
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
   * Runs a delivery attempt within the merchant's limit of concurrent calls. Null if the delivery no longer exists.
   * @throws ApplicationFailure when the merchant has too many calls in flight. The attempt is then made later.
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

  /**
   * Makes one delivery attempt if an attempt is due. @throws ApplicationFailure with the wait until the next attempt.
   */
  const attempt = async (deliveryId: string): Promise<DeliverySnapshot | null> => {
    const lease = await deliveries.leaseDelivery(db, deliveryId, await now());
    if (lease.kind === 'settled') return await deliveries.loadDelivery(db, deliveryId);
    if (lease.kind === 'now') {
      const { row } = lease;
      const after = await callOrderService(core, row);
      const { telling } = after;
      if (telling === null) {
        await startDeliveries({ db, deliveryWorkflows }, row.paymentId);
        return after;
      }
      const at = await now();
      const alarm = alarmIn(telling.since, at);
      // The activity returns if the Web UI must show a different text about the delivery. For a late delivery, that
      // text contains the order service's last answer.
      if (alarm === null || after.attention !== row.payment.attention) return after;
      throw orderServiceDidNotAgree(telling.lastAnswer, Math.min(telling.nextAt - at.getTime(), alarm));
    }
    const { row, inMs } = lease;
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
     * Delivers the event `payment.succeeded` of a payment that waits for the order service. The activity returns when
     * the order service has agreed or refused, or when the payment's attention has changed.
     */
    async tellOrderService(paymentId: string): Promise<DeliveryResult> {
      return await unlessOwnTrouble(async () => {
        const deliveryId = await deliveries.findPendingDelivery(db, paymentId);
        const delivery =
          deliveryId === null ? null : await withinMerchantLimit(deliveryId, () => attempt(deliveryId));
        const snapshot = await loadPayment(db, paymentId, await now());
        // A payment that waits for the order service must have a pending delivery. If it has none, this is a bug. The
        // activity fails with a delay, so that the workflow does not call it in a tight loop.
        if (deliveryId === null && snapshot.orderUpdate === 'pending')
          throw new Error(`payment ${paymentId} waits for an order service, but has no pending delivery`);
        return { snapshot, refund: await owedRefund(db, snapshot), telling: delivery?.telling ?? null };
      });
    },

    /**
     * Delivers an event when no payment waits for the order service's answer. The attempts continue until the order
     * service gives a definite answer. Null if the event was deleted.
     */
    async deliverEvent(deliveryId: string): Promise<DeliverySnapshot | null> {
      return await unlessGone(() =>
        unlessOwnTrouble(() => withinMerchantLimit(deliveryId, () => attempt(deliveryId))),
      );
    },

    /**
     * Sends the event of a settled delivery once more. The answer is logged, and has no other effect. The event is not
     * sent if the delivery was superseded after the redelivery was requested, or if the event is no longer true. Null
     * if the event was deleted.
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

/** Makes one delivery attempt, reads the order back where that is possible, and records the outcome. */
async function callOrderService(
  { db, secret, now, orderServices, deliveryWorkflows, orderUnknownForMs }: Core,
  row: deliveries.DeliveryRow,
): Promise<DeliverySnapshot> {
  const at = await now();
  const attempt = await send(db, secret, orderServices, row, at);
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

async function send(
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
    // The order service did not cause this failure, because the event was not sent. The delivery is retried, like every
    // delivery with an unknown outcome.
    return { outcome: 'unknown', statusCode: null, detail: error.message, durationMs: 0 };
  }
  if (target === null) {
    const detail = "The merchant no longer has an order service: nodrop's own order counts.";
    return { outcome: 'agreed', statusCode: null, detail, durationMs: 0 };
  }
  const answer = await orderServices.deliver(target, {
    id: event.id,
    paymentId: payment.id,
    body: JSON.stringify(eventMessage(event)),
    at,
  });
  const { statusCode, durationMs } = answer;
  // If the service did not agree, the log keeps the start of its answer, because the answer explains the failure.
  const call = { statusCode, durationMs, ...(answer.kind === 'agreed' ? {} : started(answer)) };
  switch (answer.kind) {
    case 'unknown':
      return { outcome: 'unknown', detail: answer.reason, ...call, ...retryAfter(answer) };
    case 'order_unknown': {
      const detail = `It answered ${statusCode}: it does not know the order.`;
      return { outcome: 'order_unknown', detail, ...call, ...retryAfter(answer) };
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
          return { outcome: 'unknown', detail: `${detail} ${read.reason}`, ...whole, ...retryAfter(read) };
      }
    }
  }
}

const retryAfter = ({ retryAfterMs }: { readonly retryAfterMs?: number }) =>
  retryAfterMs === undefined ? {} : { retryAfterMs };

const started = ({ answer }: { readonly answer?: string }) => (answer === undefined ? {} : { answer });

/**
 * True if the payment waits for this delivery. After such a delivery nodrop reads the order back, because an
 * acknowledgement alone does not prove that the order was updated.
 */
const isAwaited = ({ event, payment }: deliveries.DeliveryRow): boolean =>
  isDeliveredByPayment(event.type, payment.orderUpdate);

/**
 * Returns the number of ms from `at` until the alarm about a failing delivery must be raised. Null if that time has
 * passed.
 * @param since the time since which the order service has not agreed, epoch ms
 */
function alarmIn(since: number, at: Date): number | null {
  const left = since + DELIVERY_ALARM_MS - at.getTime();
  return left > 0 ? left : null;
}

/**
 * Runs `work`, or returns null if the delivery's row is gone. A delivery and its event are deleted together, so nothing
 * is left to deliver.
 */
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
    throw ownTrouble('deliver the event', error, OWN_TROUBLE_RETRY_MS);
  }
}
