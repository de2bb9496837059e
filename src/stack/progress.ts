import { spawn } from 'node:child_process';
import { reason } from './errors.ts';
import { whileTicking } from './timer.ts';

const SAY_EVERY_MS = 10_000;

/** Functions that kill running commands, called when this process exits. */
const running = new Set<() => void>();
process.on('exit', () => {
  for (const kill of running) kill();
});

export interface CommandOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** A note that is printed in brackets in the first line only. */
  readonly note?: string;
  /**
   * The signal that ends the command. It is sent when this process exits or `signal` aborts.
   * @default SIGKILL
   */
  readonly endBy?: NodeJS.Signals;
  /** If this signal aborts, the command ends. */
  readonly signal?: AbortSignal;
}

/** How a command ended. `output` is everything that the command printed, including errors. */
export interface CommandResult {
  readonly ok: boolean;
  readonly output: string;
}

/**
 * Runs a command that may take minutes. Prints `what` immediately. After that, prints the elapsed time and the last
 * line of the command's output every 10 s, so that the user sees progress. Never rejects.
 */
export async function runVisibly(
  what: string,
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  console.error(`${what}${options.note === undefined ? '' : ` (${options.note})`} ...`);
  const started = Date.now();
  let output = '';
  const say = () => {
    const last = output.trim().split('\n').at(-1)?.slice(0, 100);
    const seconds = Math.round((Date.now() - started) / 1000);
    // Each line names the command that it belongs to, because several commands may run concurrently.
    console.error(`  ${what}: ${seconds} s${last ? `, ${last}` : ''}`);
  };
  const run = () =>
    new Promise<boolean>((resolve) => {
      // The command runs in its own process group. So a kill also ends the compilers and downloaders that the command
      // starts.
      const child = spawn(command, args, {
        ...(options.env !== undefined && { env: options.env }),
        ...(options.cwd !== undefined && { cwd: options.cwd }),
        stdio: ['ignore', 'pipe', 'pipe'],
        detached: true,
      });
      const kill = () => {
        try {
          if (child.pid !== undefined) process.kill(-child.pid, options.endBy ?? 'SIGKILL');
        } catch {
          // The command has already ended, so there is no process to signal.
        }
      };
      running.add(kill);
      const collect = (data: Buffer) => {
        output += data.toString('utf8');
      };
      child.stdout.on('data', collect);
      child.stderr.on('data', collect);
      options.signal?.addEventListener('abort', kill);
      const finish = (ok: boolean) => {
        running.delete(kill);
        options.signal?.removeEventListener('abort', kill);
        resolve(ok);
      };
      child.on('error', (error) => {
        output += `\n${error.message}`;
        finish(false);
      });
      child.on('close', (code) => finish(code === 0));
    });
  try {
    const ok = await whileTicking(SAY_EVERY_MS, say, run);
    return { ok, output };
  } catch (error) {
    // `spawn` throws immediately for some commands, for example with too long arguments.
    return { ok: false, output: `${output}\n${reason(error)}` };
  }
}
