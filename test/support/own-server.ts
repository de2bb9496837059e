import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { ServiceError } from '@temporalio/client';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { TransportError } from '@temporalio/worker';
import { listens } from '../../src/stack/program-spec.ts';

const LOOK_EVERY_MS = 50;

/**
 * Runs a command in a process group of its own, as it may be a launcher with the server as its child. The group ends
 * when the pipe to it is closed: by us, or by the end of our process, whatever ended it.
 */
const TIED = 'exec 3<&0 </dev/null; (cat <&3 >/dev/null; kill -s TERM -- "-$$") & exec "$@" 3<&-';

/** A process that does not outlive this one. */
export interface TiedProcess {
  readonly pid: number;
  hasEnded(): boolean;
  /** Resolves when it has ended. */
  stop(): Promise<void>;
}

/** @throws Error when no process can be started. */
export async function startTied(command: readonly string[]): Promise<TiedProcess> {
  const child = spawn('sh', ['-c', TIED, 'sh', ...command], {
    detached: true,
    stdio: ['pipe', 'inherit', 'inherit'],
  });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  await once(child, 'spawn');
  const closePipe = () => void child.stdin.destroy();
  // What watches the pipe is left over when the server ends by itself.
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
 * A server of the tests, waited for as long as its process lives: the SDK gives one that it starts itself five seconds,
 * in which a loaded machine may not have come to it.
 * @param connect makes the environment once the server listens; its `teardown` stops the server.
 * @throws Error when the server ends before it answers.
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
    if (server.hasEnded()) throw new Error('it has ended');
    await sleep(LOOK_EVERY_MS);
  }
}

/** It listens, and did not answer soon. */
function isOutOfTime(error: unknown): boolean {
  const isUnanswered = error instanceof TransportError || error instanceof ServiceError;
  return isUnanswered || (error instanceof Error && /before the deadline/.test(error.message));
}
