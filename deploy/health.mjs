// node deploy/health.mjs api|worker|simulator
//
// Health check of the containers: exits with 0 if the program in this container works, otherwise with 1 and the reason.
import { hostname } from 'node:os';

const TIMEOUT_MS = 5_000;

/** The API is healthy if it is ready for requests, including the database and Temporal. */
async function api() {
  const response = await fetch(`http://127.0.0.1:${process.env.PORT || 3000}/readyz`, timeout());
  if (!response.ok) throw new Error(`/readyz answers ${response.status}`);
}

/** The simulator is healthy if it answers with any status below 500. */
async function simulator() {
  const response = await fetch(`http://127.0.0.1:${process.env.NODROP_SIMULATOR_PORT || 4000}/`, timeout());
  if (response.status >= 500) throw new Error(`the simulator answers ${response.status}`);
}

/**
 * The worker has no port. It is healthy if the Temporal server lists it as a poller of the main queue. An idle worker
 * polls every minute. A worker's identity is process@host, and the host is this container.
 */
async function worker() {
  const { Connection } = await import('@temporalio/client');
  const connection = await Connection.connect({
    address: process.env.TEMPORAL_ADDRESS,
    connectTimeout: TIMEOUT_MS,
  });
  try {
    const { pollers } = await connection.withDeadline(Date.now() + TIMEOUT_MS, () =>
      connection.workflowService.describeTaskQueue({
        namespace: process.env.TEMPORAL_NAMESPACE || 'default',
        taskQueue: { name: 'nodrop' },
        taskQueueType: 1,
      }),
    );
    const seconds = Math.min(
      ...pollers
        .filter(({ identity }) => identity.endsWith(`@${hostname()}`))
        .map(({ lastAccessTime }) => Date.now() / 1000 - Number(lastAccessTime.seconds)),
    );
    if (seconds > 120) throw new Error(`the worker has not polled for tasks for ${seconds} s`);
  } finally {
    await connection.close();
  }
}

function timeout() {
  return { signal: AbortSignal.timeout(TIMEOUT_MS), redirect: 'manual' };
}

const check = { api, worker, simulator }[process.argv[2]];
if (check === undefined) {
  console.error('Usage: node deploy/health.mjs api|worker|simulator');
  process.exit(1);
}
try {
  await check();
} catch (error) {
  console.error(`unhealthy: ${error.message}`);
  process.exitCode = 1;
}
