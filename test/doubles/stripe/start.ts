import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { z } from 'zod';
import type { COMMANDS, Command } from './control.ts';

/** The double as a process of its own. */
export interface StripeDouble {
  readonly url: string;
  /** Has something happen at it. @throws Error when it cannot */
  tell<C extends Command>(command: C, given: z.input<(typeof COMMANDS)[C]>): Promise<unknown>;
  stop(): Promise<void>;
}

export async function startStripeDouble(): Promise<StripeDouble> {
  const child: ChildProcess = spawn(process.execPath, ['--import', 'tsx', 'test/doubles/stripe/main.ts'], {
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
