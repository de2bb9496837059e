import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { z } from 'zod';

/** A double that is a separate process. The process runs commands that it gets at /_control. */
export interface DoubleProcess<Commands extends Readonly<Record<string, z.ZodType>>> {
  readonly url: string;
  /** Runs a command at the double. @throws Error if the command fails */
  tell<C extends keyof Commands & string>(command: C, given: z.input<Commands[C]>): Promise<unknown>;
  stop(): Promise<void>;
}

/**
 * Starts a double. The double prints its address once it listens, and ends when its standard input ends.
 * @param main the path of its program, from the root of the repository
 */
export async function startDouble<Commands extends Readonly<Record<string, z.ZodType>>>(
  main: string,
): Promise<DoubleProcess<Commands>> {
  const child: ChildProcess = spawn(process.execPath, ['--import', 'tsx', main], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const url = await new Promise<string>((resolve, reject) => {
    child.once('error', reject).once('exit', () => reject(new Error('the double ended')));
    if (child.stdout !== null) createInterface(child.stdout).once('line', resolve);
  });
  return {
    url,
    async tell(command, given) {
      const answer = await fetch(`${url}/_control/${command}`, {
        method: 'POST',
        body: JSON.stringify(given),
      });
      const said: unknown = await answer.json();
      if (!answer.ok) throw new Error(`${command}: ${JSON.stringify(said)}`);
      return said;
    },
    async stop() {
      if (child.exitCode !== null) return;
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.stdin?.end();
      await ended;
    },
  };
}
