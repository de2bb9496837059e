import { Client, isGrpcServiceError } from '@temporalio/client';
import { querySchedules } from '../channels/registry.ts';
import type { Config } from '../config.ts';
import { markDelivered } from '../ledger/callbacks.ts';
import type { LedgerClient } from '../ledger/client.ts';
import { toDeliverySnapshot } from '../ledger/deliveries.ts';
import { toRefundSnapshot } from '../ledger/payment-facts.ts';
import {
  callbacksToRecover,
  deliveriesToRecover,
  paymentsToRecover,
  type RecoveryPage,
  refundsToRecover,
} from '../ledger/recovery-pages.ts';
import { DeliveryWorkflows } from '../temporal/delivery-workflows.ts';
import { forwardStoredCallback } from '../temporal/forward-callback.ts';
import { PaymentWorkflows, TemporalUnavailable } from '../temporal/payment-workflows.ts';
import { RefundWorkflows } from '../temporal/refund-workflows.ts';
import { ensureSearchAttributes } from '../temporal/search-attributes.ts';
import { lazyConnection } from '../temporal-connection.ts';
import { CommandError } from './errors.ts';

export const DEADLINE_MS = 10_000;
const AT_ONCE = 20;

/** gRPC's DEADLINE_EXCEEDED and UNAVAILABLE. */
const NO_ANSWER = [4, 14];
/** gRPC's NOT_FOUND. */
const NOT_FOUND = 5;

/** After this number of consecutive failures, the command treats Temporal or the database as unreachable and ends. */
const FAILURES_IN_A_ROW = 100;
/** The command lists at most this many failures. For further failures, it prints only their number. */
const NAMED = 20;

/**
 * `npm run nodrop -- recover`: for use after a total loss of the Temporal database. The command starts a workflow for
 * each payment, refund and event delivery that has not ended. Each workflow first reads its state from the ledger, so
 * that no payment is charged or closed twice and no event is delivered twice. On a healthy system, the command changes
 * nothing. If a workflow cannot be started, the command continues with the others.
 * @throws CommandError that lists the workflows that were not started, or says that Temporal is unreachable. The
 * operator must then run the command again
 */
export async function recover(db: LedgerClient, config: Config, say: (line: string) => void): Promise<void> {
  await withTemporal(config, async (client) => {
    const workflows = new PaymentWorkflows(client, querySchedules(config));
    const refundWorkflows = new RefundWorkflows(client);
    const deliveryWorkflows = new DeliveryWorkflows(client);
    const failures: string[] = [];
    const payments = await inBatches(
      (after) => paymentsToRecover(db, new Date(), after),
      (payment) => workflows.wake(payment, DEADLINE_MS),
      failures,
      (count) => say(`${count} payments started ...`),
    );
    const callbacks = await inBatches(
      (after) => callbacksToRecover(db, new Date(), after),
      async ({ payment, ...callback }) => {
        if (payment === null) return;
        await forwardStoredCallback(
          { db, workflows, refundWorkflows },
          callback,
          payment,
          new Date(),
          DEADLINE_MS,
        );
        await markDelivered(db, callback.id, new Date());
      },
      failures,
      (count) => say(`${count} callbacks forwarded ...`),
    );
    const refunds = await inBatches(
      (after) => refundsToRecover(db, after),
      (refund) => refundWorkflows.start(toRefundSnapshot(refund, refund.payment), DEADLINE_MS),
      failures,
      (count) => say(`${count} refunds started ...`),
    );
    const deliveries = await inBatches(
      (after) => deliveriesToRecover(db, after),
      async (row) => {
        const delivery = toDeliverySnapshot(row);
        // If `toldByPayment` is true, the payment's own workflow delivers the event. The command has already started
        // that workflow above.
        if (!delivery.toldByPayment) await deliveryWorkflows.start(delivery, DEADLINE_MS);
      },
      failures,
      (count) => say(`${count} deliveries to order services started ...`),
    );
    say(
      `Recovered: ${payments} payments, ${refunds} refunds and ${deliveries} deliveries to order services go on, ${callbacks} stored callbacks were forwarded.`,
    );
    throwFailures(failures);
  });
}

/** @throws CommandError that lists the first NAMED failures, if there are any failures */
export function throwFailures(failures: readonly string[]): void {
  if (failures.length === 0) return;
  const more = failures.length > NAMED ? [`and ${failures.length - NAMED} more`] : [];
  throw new CommandError(
    [
      `Failed: ${failures.length}. Fix the cause, then run the command again:`,
      ...failures.slice(0, NAMED),
      ...more,
    ].join('\n  '),
  );
}

/**
 * Creates missing search attributes on the Temporal server, and then calls `work` with a Temporal client.
 * @throws CommandError when the server is unreachable or the namespace does not exist.
 */
export async function withTemporal(config: Config, work: (client: Client) => Promise<void>): Promise<void> {
  const { address, namespace } = config.temporal;
  const connection = lazyConnection(address);
  try {
    await connection
      .withDeadline(Date.now() + DEADLINE_MS, () => ensureSearchAttributes(connection, namespace))
      .catch((error) => {
        if (!isGrpcServiceError(error) || error.code !== NOT_FOUND) throw error;
        throw new CommandError(
          `Temporal at ${address} has no namespace ${namespace}: create it, or set TEMPORAL_NAMESPACE to the right one.`,
        );
      });
    await work(new Client({ connection, namespace }));
  } catch (error) {
    if (
      !(error instanceof TemporalUnavailable) &&
      !NO_ANSWER.includes((error as { code?: number }).code ?? 0)
    )
      throw error;
    throw new CommandError(
      `Temporal at ${address} cannot be reached: start it (npm run stack) or set TEMPORAL_ADDRESS, and run the command again.`,
    );
  } finally {
    await connection.close();
  }
}

/**
 * Processes all rows in pages, in the order of their ids. AT_ONCE rows are processed concurrently. Reports progress
 * after each page with rows.
 * @param failures receives a line for each row whose work failed
 * @returns the number of rows whose work succeeded
 */
export async function inBatches<Row extends { readonly id: string }>(
  page: (after: string) => Promise<RecoveryPage<Row>>,
  work: (row: Row) => Promise<void>,
  failures: string[],
  progress: (count: number) => void,
): Promise<number> {
  let count = 0;
  let inARow = 0;
  for (let after = ''; ; ) {
    const { rows, end } = await page(after);
    for (let i = 0; i < rows.length; i += AT_ONCE) {
      const chunk = rows.slice(i, i + AT_ONCE);
      const results = await Promise.allSettled(chunk.map(work));
      for (const [nth, result] of results.entries()) {
        if (result.status === 'fulfilled') {
          count += 1;
          inARow = 0;
          continue;
        }
        inARow += 1;
        if (inARow >= FAILURES_IN_A_ROW) throw result.reason;
        failures.push(`${chunk[nth]?.id}: ${describeCause(result.reason)}`);
      }
    }
    if (end === undefined) return count;
    if (rows.length > 0) progress(count);
    after = end;
  }
}

/**
 * Adds the cause of an error to its message. Without the cause, the message of an exceeded deadline does not explain
 * the failure.
 */
function describeCause(error: unknown): string {
  const { cause, message } = error as Error;
  return cause instanceof Error ? `${message}: ${cause.message}` : message;
}
