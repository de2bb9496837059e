import { spawn } from 'node:child_process';
import { reason } from './errors.ts';
import { whileTicking } from './timer.ts';

const SAY_EVERY_MS = 10_000;

/** Commands that must not outlive us. */
const running = new Set<() => void>();
process.on('exit', () => {
  for (const kill of running) kill();
});

export interface CommandOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** For the first line alone, in brackets. */
  readonly note?: string;
  /** What ends the command when we end or abort; SIGKILL when not given. */
  readonly endBy?: NodeJS.Signals;
  /** Aborting ends the command. */
  readonly signal?: AbortSignal;
}

/** How a command ended; `output` is everything it said. */
export interface CommandResult {
  readonly ok: boolean;
  readonly output: string;
}

/**
 * Runs a command that may take minutes, saying `what` at once and then the time and the command's own last words every
 * ten seconds: minutes without a word look like a hang. Never rejects.
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
    // Several may run at once, so each line names its own.
    console.error(`  ${what}: ${seconds} s${last ? `, ${last}` : ''}`);
  };
  const run = () =>
    new Promise<boolean>((resolve) => {
      // A group of its own, so that the compilers and downloaders it starts end with it.
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
          // It has ended.
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
    // Some commands that cannot be run throw at once, such as those with too long arguments.
    return { ok: false, output: `${output}\n${reason(error)}` };
  }
}
