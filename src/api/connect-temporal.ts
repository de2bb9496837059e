import { Client } from '@temporalio/client';
import type { Config } from '../config.ts';
import { lazyConnection } from '../temporal-connection.ts';
import { LOST_QUERY, PAYMENT_WORKFLOW, REFUND_WORKFLOW } from '../workflows/messages.ts';
import { LOST_COUNT_WITHIN_MS } from './deadlines.ts';
import { orFallbackWithin } from './http/with-deadline.ts';

/** Counting is a query over all workflows: it is done once in so long at most. */
const COUNTED_FOR_MS = 10_000;

/** Workflows that wait for a row that is gone, by their type. */
export interface LostRows {
  readonly payment: number;
  readonly refund: number;
}

/** @returns what counts them: anew when the last count is more than 10 s old. */
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

/** A Temporal client that connects at its first call and again after every loss: nothing need be up yet. */
export function connectTemporal({ temporal }: Pick<Config, 'temporal'>) {
  const connection = lazyConnection(temporal.address);
  const client = new Client({ connection, namespace: temporal.namespace });
  return {
    client,
    countLost: createLostCount(client),
    async isTemporalReachable(deadlineMs: number): Promise<boolean> {
      // The SDK's own deadline is not enough: between two attempts to connect it looks at no clock.
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
