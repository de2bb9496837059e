import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  linkSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { privateFolder } from '../private-folder.ts';
import { reason, StackError } from './errors.ts';
import { identify, isAlive, type ProcessIdentity, stopProcess } from './os-process.ts';

/** A process that runs as long as its supervisor. */
export interface ProcessSpec {
  readonly name: string;
  readonly command: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  readonly uid?: number;
  readonly gid?: number;
  /**
   * Where the supervisor writes the output of a process. `log`: only to the log folder. `console`: to the supervisor's
   * own output, each line prefixed with the name of the process.
   */
  readonly output: 'log' | 'console';
  /** Formats a line for the supervisor's output. @default the process's name before the line */
  readonly show?: (line: string) => string;
  /**
   * True for nodrop's own programs. Such a program ends when its IPC channel to the supervisor closes; see
   * supervised-child.ts.
   */
  readonly isOurs?: boolean;
  /** The signal that requests a clean stop. */
  readonly stopSignal: NodeJS.Signals;
  /** Returns true once the process is ready. The supervisor calls this function repeatedly until it returns true. */
  readonly probe: () => Promise<boolean>;
  /** Matches the output of a failed start if a retry may succeed. */
  readonly transient?: RegExp;
  /** Returns an error message for the output of a failed start, or undefined if the output is not known. */
  readonly explain?: (output: string) => string | undefined;
}

/**
 * The content of the state file. The file is written at every change. If the supervisor is killed, a new supervisor
 * reads the file and stops the children.
 */
interface State {
  readonly supervisor: ProcessIdentity;
  readonly children: readonly { readonly process: ProcessIdentity; readonly stopSignal: NodeJS.Signals }[];
}

interface Running {
  readonly spec: ProcessSpec;
  child: ChildProcess;
  identity: ProcessIdentity | undefined;
  spawnedAt: number;
  backoffMs: number;
  /** Resolves when the current child has ended. */
  ended: Promise<void>;
}

/** How long a process may take to start. */
const START_PATIENCE_MS = 60_000;
const STOP_PATIENCE_MS = 15_000;
const PROBE_EVERY_MS = 50;
const FIRST_BACKOFF_MS = 200;
const LONGEST_BACKOFF_MS = 10_000;
/** If a child has run for at least this time, the backoff of its next restart starts from the first value again. */
const STEADY_MS = 30_000;

/**
 * Runs child processes. Restarts a child that ends unexpectedly, and stops all children in reverse order of their
 * start. A data folder has at most one supervisor at a time. A new supervisor first stops the children that a killed
 * supervisor left.
 */
export class Supervisor {
  readonly #home: string;
  readonly #self: ProcessIdentity;
  readonly #say: (line: string) => void;
  readonly #startPatienceMs: number;
  readonly #running: Running[] = [];
  #stopping = false;

  private constructor(
    home: string,
    self: ProcessIdentity,
    say: (line: string) => void,
    startPatienceMs: number,
  ) {
    this.#home = home;
    this.#self = self;
    this.#say = say;
    this.#startPatienceMs = startPatienceMs;
  }

  /**
   * Claims the data folder, and stops the processes that a killed supervisor has left.
   * @param say called with a line of text when a process has ended unexpectedly and is restarted.
   * @param startPatienceMs how long each process may take to start.
   * @throws StackError when a live supervisor uses the folder, or the folder cannot be written.
   */
  static async claim(
    home: string,
    say: (line: string) => void = console.error,
    startPatienceMs = START_PATIENCE_MS,
  ): Promise<Supervisor> {
    const self = identify(process.pid);
    if (self === undefined) {
      throw new StackError('The process list cannot be read: mount /proc, or install ps.');
    }
    const supervisor = new Supervisor(home, self, say, startPatienceMs);
    try {
      privateFolder(home);
      privateFolder(join(home, 'logs'));
      await supervisor.#takeOver();
    } catch (error) {
      if (error instanceof StackError) throw error;
      throw new StackError(
        `The data folder ${home} cannot be written (${reason(error)}): make it writable, or set NODROP_HOME to another folder.`,
      );
    }
    return supervisor;
  }

  /**
   * Starts a process and resolves once its probe returns true.
   * @throws StackError when the process ends before its probe returns true, or is not ready in time.
   */
  async start(spec: ProcessSpec): Promise<void> {
    const deadline = Date.now() + this.#startPatienceMs;
    for (;;) {
      if (this.#stopping) return forever();
      const from = logSize(this.#logFile(spec));
      const running = this.#spawn(spec);
      let ended = false;
      void running.ended.then(() => {
        ended = true;
      });
      while (!ended && !this.#stopping && Date.now() < deadline) {
        if (await spec.probe()) {
          if (ended) break;
          this.#watch(running);
          return;
        }
        await sleep(PROBE_EVERY_MS);
      }
      if (this.#stopping) return forever();
      const output = readLog(this.#logFile(spec), from);
      if (!ended) {
        throw new StackError(
          `${spec.name} does not answer after ${this.#startPatienceMs / 1000} s: see ${this.#outputPlace(spec)}.`,
        );
      }
      this.#forget(running);
      if (spec.transient?.test(output) && Date.now() < deadline) {
        await sleep(FIRST_BACKOFF_MS);
        continue;
      }
      const last = output.trim().split('\n').at(-1) ?? '';
      throw new StackError(
        spec.explain?.(output) ??
          `${spec.name} did not start${last && ` (${last})`}: see ${this.#outputPlace(spec)}.`,
      );
    }
  }

  /** Stops all processes in reverse order of their start, and releases the data folder. */
  async stop(): Promise<void> {
    this.#stopping = true;
    while (this.#running.length > 0) {
      const running = this.#running.pop();
      if (running !== undefined) await end(running);
    }
    rmSync(this.#stateFile(), { force: true });
  }

  /** The current pid of a process, or undefined while it is not running. */
  pidOf(name: string): number | undefined {
    return this.#running.find(({ spec }) => spec.name === name)?.identity?.pid;
  }

  #spawn(spec: ProcessSpec): Running {
    const [program = '', ...args] = spec.command;
    const log = spec.output === 'log' ? openSync(this.#logFile(spec), 'a') : undefined;
    const out = log ?? 'pipe';
    const child = spawn(program, args, {
      // The process runs in its own session. So Ctrl-C in the terminal reaches only the supervisor, which stops the
      // children in order.
      detached: true,
      stdio: spec.isOurs === true ? ['ignore', out, out, 'ipc'] : ['ignore', out, out],
      env: spec.env ?? process.env,
      ...(spec.cwd !== undefined && { cwd: spec.cwd }),
      ...(spec.uid !== undefined && { uid: spec.uid }),
      ...(spec.gid !== undefined && { gid: spec.gid }),
    });
    if (log !== undefined) closeSync(log);
    for (const stream of [child.stdout, child.stderr]) {
      if (stream === null) continue;
      createInterface({ input: stream }).on('line', (line) => {
        if (line !== '') console.log(spec.show?.(line) ?? `${spec.name.padEnd(10)} ${line}`);
      });
    }
    const running: Running = {
      spec,
      child,
      identity: child.pid === undefined ? undefined : identify(child.pid),
      spawnedAt: Date.now(),
      backoffMs: FIRST_BACKOFF_MS,
      ended: new Promise((resolve) => {
        child.once('exit', () => resolve());
        child.once('error', (error) => {
          this.#say(`${spec.name} cannot be run: ${reason(error)}`);
          resolve();
        });
      }),
    };
    this.#running.push(running);
    this.#writeState();
    return running;
  }

  /** Restarts the process when it ends unexpectedly. */
  #watch(running: Running) {
    void running.ended.then(async () => {
      if (!this.#isWanted(running)) return;
      const { child, spec } = running;
      running.identity = undefined;
      if (Date.now() - running.spawnedAt > STEADY_MS) running.backoffMs = FIRST_BACKOFF_MS;
      this.#say(
        `${spec.name} ended unexpectedly (${child.signalCode ?? `exit code ${child.exitCode}`}); restarting it.`,
      );
      await sleep(running.backoffMs);
      if (!this.#isWanted(running)) return;
      this.#running.splice(this.#running.indexOf(running), 1);
      const next = this.#spawn(spec);
      next.backoffMs = Math.min(running.backoffMs * 2, LONGEST_BACKOFF_MS);
      this.#watch(next);
    });
  }

  #isWanted(running: Running): boolean {
    return !this.#stopping && this.#running.includes(running);
  }

  #forget(running: Running) {
    this.#running.splice(this.#running.indexOf(running), 1);
    this.#writeState();
  }

  /** Returns a part of a sentence that says where the output of the process is. */
  #outputPlace(spec: ProcessSpec): string {
    return spec.output === 'log' ? this.#logFile(spec) : 'its lines above';
  }

  #logFile({ name }: ProcessSpec): string {
    return join(this.#home, 'logs', `${name}.log`);
  }

  #stateFile(): string {
    return join(this.#home, 'supervisor.json');
  }

  async #takeOver() {
    const draft = this.#writeDraft();
    try {
      for (;;) {
        try {
          // Creating a link is atomic, so only one of several starting supervisors can create it.
          linkSync(draft, this.#stateFile());
          return;
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
        }
        const left = readState(this.#stateFile());
        if (left === undefined) continue;
        if (isAlive(left.supervisor)) {
          throw new StackError(
            `A stack is already running on ${this.#home} (process ${left.supervisor.pid}): use that one, stop it, or set NODROP_HOME to another folder.`,
          );
        }
        for (const child of left.children.toReversed()) {
          await stopProcess(child.process, child.stopSignal, STOP_PATIENCE_MS);
        }
        rmSync(this.#stateFile(), { force: true });
      }
    } finally {
      rmSync(draft, { force: true });
    }
  }

  #writeState() {
    renameSync(this.#writeDraft(), this.#stateFile());
  }

  #writeDraft(): string {
    const children = this.#running.flatMap(({ identity, spec }) =>
      identity === undefined ? [] : [{ process: identity, stopSignal: spec.stopSignal }],
    );
    const draft = `${this.#stateFile()}.${process.pid}`;
    writeFileSync(draft, JSON.stringify({ supervisor: this.#self, children } satisfies State));
    return draft;
  }
}

/**
 * Returns a promise that never resolves or rejects. A start that is requested while the supervisor stops gets this
 * promise, because the supervisor's process is about to end.
 */
function forever(): Promise<never> {
  return new Promise(() => {});
}

/** The pid of the live supervisor of a data folder, or undefined if there is none. */
export function supervisorOf(home: string): number | undefined {
  const state = readState(join(home, 'supervisor.json'));
  return state !== undefined && isAlive(state.supervisor) ? state.supervisor.pid : undefined;
}

async function end({ identity, ended, spec }: Running) {
  if (identity === undefined) return;
  await stopProcess(identity, spec.stopSignal, STOP_PATIENCE_MS);
  await ended;
}

function readState(file: string): State | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return JSON.parse(text) as State;
  } catch {
    throw new StackError(
      `${file} is damaged: stop all processes that still run from ${dirname(file)}, and delete the file.`,
    );
  }
}

function logSize(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}

function readLog(file: string, from: number): string {
  try {
    return readFileSync(file).subarray(from).toString('utf8');
  } catch {
    return '';
  }
}
