import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { ServiceError } from '@temporalio/client';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { TransportError } from '@temporalio/worker';
import { listens } from '../../src/stack/program-spec.ts';

const LOOK_EVERY_MS = 50;

/**
 * Runs a command in its own process group, because the command may be a launcher whose child is the server. A
 * watcher kills the group when its pipe closes, which happens at `stop()` or when this process ends for any
 * reason.
 */
const TIED = 'exec 3<&0 </dev/null; (cat <&3 >/dev/null; kill -s TERM -- "-$$") & exec "$@" 3<&-';

/** A process that ends at the latest when this process ends. */
export interface TiedProcess {
  readonly pid: number;
  hasEnded(): boolean;
  /** Resolves when the process has ended. */
  stop(): Promise<void>;
}

/** @throws Error when the process cannot be started */
export async function startTied(command: readonly string[]): Promise<TiedProcess> {
  const child = spawn('sh', ['-c', TIED, 'sh', ...command], {
    detached: true,
    stdio: ['pipe', 'inherit', 'inherit'],
  });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  await once(child, 'spawn');
  const closePipe = () => void child.stdin.destroy();
  // If the server ends first, the process that watches the pipe is still running, and closing the pipe ends it.
  void ended.then(closePipe);
  return {
    pid: Number(child.pid),
    hasEnded: () => child.exitCode !== null || child.signalCode !== null,
    async stop() {
      closePipe();
      await ended;
    },
  };
}

/**
 * Starts a server for tests, and waits until it answers or its process ends. When the SDK starts a server
 * itself, it waits only five seconds, which is too short on a loaded machine.
 * @param connect creates the environment once the server listens; its `teardown` stops the server
 * @throws Error when the server ends before it answers
 */
export async function startEnvironment(
  command: readonly string[],
  port: number,
  connect: (address: string) => Promise<TestWorkflowEnvironment>,
): Promise<TestWorkflowEnvironment> {
  const server = await startTied(command);
  try {
    const environment = await connectWhileAlive(server, port, connect);
    const disconnect = environment.teardown.bind(environment);
    return Object.assign(environment, {
      async teardown() {
        await disconnect();
        await server.stop();
      },
    });
  } catch (error) {
    await server.stop();
    throw new Error(`${command.join(' ')} gives no environment: ${error}`, { cause: error });
  }
}

async function connectWhileAlive(
  server: TiedProcess,
  port: number,
  connect: (address: string) => Promise<TestWorkflowEnvironment>,
): Promise<TestWorkflowEnvironment> {
  for (;;) {
    try {
      if (await listens(port)) return await connect(`127.0.0.1:${port}`);
    } catch (error) {
      if (!isOutOfTime(error)) throw error;
    }
    if (server.hasEnded()) throw new Error('the server has ended');
    await sleep(LOOK_EVERY_MS);
  }
}

/** True if the server listens but did not answer in time. */
function isOutOfTime(error: unknown): boolean {
  const isUnanswered = error instanceof TransportError || error instanceof ServiceError;
  return isUnanswered || (error instanceof Error && /before the deadline/.test(error.message));
}
