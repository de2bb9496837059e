import { Client } from '@temporalio/client';
import type { Config } from '../config.ts';
import { lazyConnection } from '../temporal-connection.ts';
import { within } from './within.ts';

/** A Temporal client that connects at its first call and again after every loss: nothing need be up yet. */
export function connectTemporal({ temporal }: Pick<Config, 'temporal'>) {
  const connection = lazyConnection(temporal.address);
  const client = new Client({ connection, namespace: temporal.namespace });
  return {
    client,
    async isTemporalReachable(deadlineMs: number): Promise<boolean> {
      // The SDK's own deadline is not enough: between two attempts to connect it looks at no clock.
      return await within(
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
