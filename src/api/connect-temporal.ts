import { Client } from '@temporalio/client';
import type { Config } from '../config.ts';
import { lazyConnection } from '../temporal-connection.ts';
import { LOST_QUERY, PAYMENT_WORKFLOW, REFUND_WORKFLOW } from '../workflows/messages.ts';
import { LOST_COUNT_WITHIN_MS } from './deadlines.ts';
import { orFallbackWithin } from './http/with-deadline.ts';

/** The process reuses a count for this time, because each count is a query over all workflows. */
const COUNTED_FOR_MS = 10_000;

/** The number of workflows whose row is missing in the database, by workflow type. */
export interface LostRows {
  readonly payment: number;
  readonly refund: number;
}

/** @returns a function that counts the workflows whose row is missing in the database, at most once in 10 s. */
export function createLostCount(client: Client): () => Promise<LostRows> {
  let last: { readonly at: number; readonly rows: Promise<LostRows> } | undefined;
  const count = async (type: string) =>
    (await client.workflow.count(`WorkflowType = '${type}' AND ${LOST_QUERY}`)).count;
  const countBoth = async () => {
    const [payment, refund] = await Promise.all([count(PAYMENT_WORKFLOW), count(REFUND_WORKFLOW)]);
    return { payment, refund };
  };
  return () => {
    const at = performance.now();
    if (last === undefined || at - last.at > COUNTED_FOR_MS)
      last = { at, rows: client.withDeadline(Date.now() + LOST_COUNT_WITHIN_MS, countBoth) };
    return last.rows;
  };
}

/**
 * Creates a Temporal client. The client connects at its first call and reconnects after each lost connection. So the
 * process can start while Temporal is unreachable.
 */
export function connectTemporal({ temporal }: Pick<Config, 'temporal'>) {
  const connection = lazyConnection(temporal.address);
  const client = new Client({ connection, namespace: temporal.namespace });
  return {
    client,
    countLost: createLostCount(client),
    async isTemporalReachable(deadlineMs: number): Promise<boolean> {
      // `orFallbackWithin` sets a second deadline, because the SDK does not check its deadline between two attempts to
      // connect.
      return await orFallbackWithin(
        deadlineMs,
        false,
        connection
          .withDeadline(Date.now() + deadlineMs, () =>
            connection.workflowService.describeNamespace({ namespace: temporal.namespace }),
          )
          .then(() => true),
      );
    },
    close: () => connection.close(),
  };
}
