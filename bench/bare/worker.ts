// A worker process for the bare workflow. TEMPORAL_ADDRESS is the address of the Temporal server.
import { fileURLToPath } from 'node:url';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { bareActivities } from './activities.ts';
import { BARE_TASK_QUEUE } from './messages.ts';

Runtime.install({ logger: new DefaultLogger('WARN') });
const connection = await NativeConnection.connect({ address: process.env.TEMPORAL_ADDRESS ?? '' });
const worker = await Worker.create({
  connection,
  taskQueue: BARE_TASK_QUEUE,
  workflowsPath: fileURLToPath(new URL('./workflow.ts', import.meta.url)),
  activities: bareActivities,
});
// Returns after SIGTERM. The runtime stops the worker on this signal.
await worker.run();
await connection.close();
process.exit(0);
