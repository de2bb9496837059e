import { Client } from '@temporalio/client';
import { deliverStored } from '../activities/deliver.ts';
import { DeliveryWorkflows } from '../activities/delivery-workflows.ts';
import { PaymentWorkflows } from '../activities/payment-workflows.ts';
import { RefundWorkflows } from '../activities/refund-workflows.ts';
import type { Config } from '../config.ts';
import { LATE_WATCH_MS } from '../domain/schedule.ts';
import { markDelivered } from '../ledger/callbacks.ts';
import type { LedgerClient } from '../ledger/client.ts';
import { toDeliverySnapshot } from '../ledger/deliveries.ts';
import {
  callbacksToRecover,
  deliveriesToRecover,
  paymentsToRecover,
  refundsToRecover,
} from '../ledger/recover.ts';
import { toRefundSnapshot } from '../ledger/refunds.ts';
import { ensureSearchAttributes } from '../stack/search-attributes.ts';
import { lazyConnection } from '../temporal-connection.ts';

const DEADLINE_MS = 10_000;
const AT_ONCE = 20;

/**
 * `npm run nodrop -- recover`, after a total loss of the Temporal database: starts the workflow of everything that is
 * not over. The ledger knows it all; a workflow reads it first, so nothing is charged, closed or told twice, and
 * running it on a healthy system changes nothing.
 * @throws TemporalUnavailable when a start was not confirmed: run it again, it goes on where it can.
 */
export async function recover(db: LedgerClient, config: Config, say: (line: string) => void): Promise<void> {
  const connection = lazyConnection(config.temporal.address);
  try {
    await connection.withDeadline(Date.now() + DEADLINE_MS, () =>
      ensureSearchAttributes(connection, config.temporal.namespace),
    );
    const client = new Client({ connection, namespace: config.temporal.namespace });
    const workflows = new PaymentWorkflows(client, config);
    const refundWorkflows = new RefundWorkflows(client);
    const deliveryWorkflows = new DeliveryWorkflows(client);
    const since = new Date(Date.now() - Math.max(...LATE_WATCH_MS));
    const payments = await inBatches(
      (after) => paymentsToRecover(db, since, after),
      (payment) => workflows.wake(payment, DEADLINE_MS),
      (count) => say(`${count} payments go on ...`),
    );
    const callbacks = await inBatches(
      (after) => callbacksToRecover(db, after),
      async ({ payment, ...callback }) => {
        if (payment === null) return;
        await deliverStored({ db, workflows, refundWorkflows }, callback, payment, DEADLINE_MS);
        await markDelivered(db, callback.id, new Date());
      },
      (count) => say(`${count} callbacks delivered ...`),
    );
    const refunds = await inBatches(
      (after) => refundsToRecover(db, after),
      (refund) => refundWorkflows.start(toRefundSnapshot(refund, refund.payment), DEADLINE_MS),
      (count) => say(`${count} refunds go on ...`),
    );
    const deliveries = await inBatches(
      (after) => deliveriesToRecover(db, after),
      async (row) => {
        const delivery = toDeliverySnapshot(row);
        // Its payment, which goes on already, tells it.
        if (!delivery.toldByPayment) await deliveryWorkflows.start(delivery, DEADLINE_MS);
      },
      (count) => say(`${count} events for order services go on ...`),
    );
    say(
      `Recovered: ${payments} payments, ${refunds} refunds and ${deliveries} events for order services go on, ${callbacks} stored callbacks delivered.`,
    );
  } finally {
    await connection.close();
  }
}

/** All rows in pages by id, some at once; says how far it is after every page. */
async function inBatches<Row extends { readonly id: string }>(
  page: (after: string) => Promise<Row[]>,
  work: (row: Row) => Promise<void>,
  progress: (count: number) => void,
): Promise<number> {
  let count = 0;
  for (let after = ''; ; ) {
    const rows = await page(after);
    for (let i = 0; i < rows.length; i += AT_ONCE) await Promise.all(rows.slice(i, i + AT_ONCE).map(work));
    count += rows.length;
    const last = rows.at(-1);
    if (last === undefined) return count;
    progress(count);
    after = last.id;
  }
}
