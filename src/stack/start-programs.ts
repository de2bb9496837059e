import type { Config } from '../config.ts';
import { requireFreePort } from './ports.ts';
import { answers, listens, program } from './program-spec.ts';
import type { ProcessSpec, Supervisor } from './supervisor.ts';
import { workerPolls } from './worker-probe.ts';

const hasSimulator = ({ simulator }: Config): boolean => Object.keys(simulator.secrets).length > 0;

/**
 * Checks that the ports that `startPrograms` needs for its programs are free.
 * @throws StackError when another program uses one of these ports.
 */
export async function requireProgramPorts(config: Config): Promise<void> {
  const { api, admin, simulator } = config;
  await requireFreePort(api.port, 'the API', 'PORT');
  await requireFreePort(admin.port, "the API's admin listener", 'NODROP_ADMIN_PORT');
  if (hasSimulator(config)) await requireFreePort(simulator.port, 'the simulator', 'NODROP_SIMULATOR_PORT');
}

/**
 * Starts a worker, the API and, if the mode allows it, the simulator. Resolves when all of them are ready.
 * @throws StackError when one of the programs does not start.
 */
export async function startPrograms(
  supervisor: Pick<Supervisor, 'start'>,
  config: Config,
  output: ProcessSpec['output'],
): Promise<void> {
  const { api, simulator } = config;
  const since = Date.now();
  const programs = [
    program('worker', 'worker/main.ts', () => workerPolls(config.temporal, since)),
    program('api', 'api/main.ts', () => answers(`http://127.0.0.1:${api.port}/readyz`)),
  ];
  if (hasSimulator(config))
    programs.push(program('simulator', 'simulator/main.ts', () => listens(simulator.port)));
  await Promise.all(programs.map((spec) => supervisor.start({ ...spec, output })));
}
