import { randomUUID } from 'node:crypto';
import { WithStartWorkflowOperation } from '@temporalio/client';
import { program } from '../src/stack/program-spec.ts';
import { BARE_TASK_QUEUE, BARE_WORKFLOW, createdUpdate, paidSignal } from './bare/messages.ts';
import { Payments } from './payments.ts';
import { describeRate, type Round, rateOf, round, type Work } from './rounds.ts';
import { makeMerchant, type Service, startService } from './service.ts';

/** Number of rounds. Rounds of nodrop and rounds of the bare workflow alternate. */
const ROUNDS = 3;
/** The expiry of the bare workflow. It equals the expiry of a payment. */
const EXPIRES_IN_MS = 1_800_000;
/** Temporal's enum value for workflow task queues. */
const WORKFLOW_QUEUE = 1;

type ServicePart = 'worker' | 'temporal' | 'api' | 'postgres' | 'simulator';

/** Measures payments per second, and divides this rate by the rate of a bare workflow with the same structure. */
export async function throughput(): Promise<object> {
  // With this schedule, each payment's callback settles it before the first query.
  const service = await startService({ NODROP_QUERY_SCHEDULE: '1h' });
  const merchant = await makeMerchant(service, 'bench');
  const payments = await Payments.open(service);
  const paid: Work<ServicePart> = { once: () => payments.payOnce(merchant), pids: partsOf(service) };
  const bare = await bareWorkflows(service);

  const ofService: Round<ServicePart>[] = [];
  const ofBare: Round<'worker' | 'temporal'>[] = [];
  for (let n = 1; n <= ROUNDS; n++) {
    ofService.push(await round(`nodrop, round ${n} of ${ROUNDS}`, paid));
    ofBare.push(await round(`bare workflow, round ${n} of ${ROUNDS}`, bare));
  }
  const nodrop = rateOf(ofService);
  const alone = rateOf(ofBare);
  const ratio = Number((nodrop.perSecond / alone.perSecond).toFixed(2));
  // This ratio is more reliable than the ratio of rates on a busy machine, where the side with more processes gets more
  // CPU.
  const cpuRatio = Number((alone.cpuMs.sum / nodrop.cpuMs.sum).toFixed(2));
  console.log(`nodrop: ${describeRate(nodrop)}`);
  console.log(`bare workflow: ${describeRate(alone)}`);
  console.log(`ratio: ${ratio}, by CPU ${cpuRatio}`);
  return { ratio, cpuRatio, nodrop, bare: alone, refusedRequests: payments.refused };
}

/** The pids of the service's processes. @throws Error when one of them does not run */
export function partsOf({ supervisor }: Pick<Service, 'supervisor'>): Record<ServicePart, number> {
  const [worker, temporal, api, postgres, simulator] = [
    'worker',
    'temporal',
    'api',
    'postgres',
    'simulator',
  ].map((name) => {
    const pid = supervisor.pidOf(name);
    if (pid === undefined) throw new Error(`${name} does not run.`);
    return pid;
  }) as [number, number, number, number, number];
  return { worker, temporal, api, postgres, simulator };
}

/** Starts a separate worker process for the bare workflow, on the same Temporal server. */
async function bareWorkflows({
  config,
  supervisor,
  temporal,
}: Service): Promise<Work<'worker' | 'temporal'>> {
  const polls = async () => {
    const { pollers } = await temporal.workflowService.describeTaskQueue({
      namespace: config.temporal.namespace,
      taskQueue: { name: BARE_TASK_QUEUE },
      taskQueueType: WORKFLOW_QUEUE,
    });
    return (pollers ?? []).length > 0;
  };
  await supervisor.start({
    ...program('bare', '../bench/bare/worker.ts', polls),
    output: 'log',
    env: { ...process.env, TEMPORAL_ADDRESS: config.temporal.address },
  });
  const once = async () => {
    const id = randomUUID();
    const startWorkflowOperation = new WithStartWorkflowOperation(BARE_WORKFLOW, {
      taskQueue: BARE_TASK_QUEUE,
      workflowId: `bare/${id}`,
      workflowIdConflictPolicy: 'USE_EXISTING',
      args: [id, EXPIRES_IN_MS],
    });
    await temporal.workflow.executeUpdateWithStart(createdUpdate, { startWorkflowOperation });
    const run = temporal.workflow.getHandle(`bare/${id}`);
    await run.signal(paidSignal);
    await run.result();
  };
  const { temporal: server } = partsOf({ supervisor });
  const worker = supervisor.pidOf('bare');
  if (worker === undefined) throw new Error('The worker of the bare workflow does not run.');
  return { once, pids: { worker, temporal: server } };
}
