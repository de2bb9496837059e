import { Connection } from '@temporalio/client';
import { tsToMs } from '@temporalio/common/lib/time.js';
import type { Config } from '../config.ts';
import { MAIN_TASK_QUEUE } from '../domain/names.ts';

/** Temporal's enum value for workflow task queues. */
const WORKFLOW_QUEUE = 1;

/**
 * True once a worker has polled the main task queue.
 * @param since Unix time in milliseconds. A worker that was last seen before this time belongs to an earlier run.
 * @param pid the process id of the worker to look for. Temporal still lists other workers that were just killed.
 */
export async function workerPolls(
  { address, namespace }: Config['temporal'],
  since: number,
  pid?: number,
): Promise<boolean> {
  let connection: Connection | undefined;
  try {
    connection = await Connection.connect({ address, connectTimeout: 1000 });
    const { pollers } = await connection.workflowService.describeTaskQueue({
      namespace,
      taskQueue: { name: MAIN_TASK_QUEUE },
      taskQueueType: WORKFLOW_QUEUE,
    });
    return (
      pollers?.some(
        ({ identity, lastAccessTime }) =>
          tsToMs(lastAccessTime) >= since && (pid === undefined || identity?.startsWith(`${pid}@`) === true),
      ) ?? false
    );
  } catch {
    return false;
  } finally {
    await connection?.close();
  }
}
