import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tsxLoader } from '../../src/tsx.ts';
import { eventually, freePort, temporaryHome } from '../support/stack.ts';

/** The entry file of each program, and the output that shows that the program is ready. */
const PROGRAMS = {
  stack: ['main.ts', 'stack ready in'],
  start: ['start.ts', 'nodrop is ready in'],
  dev: ['../../scripts/dev.ts', 'Ready. A change in src'],
} as const;

/** A data folder and ports for a separate stack. */
export interface StackPlace {
  readonly home: string;
  readonly databaseUrl: string;
  readonly temporalAddress: string;
  readonly env: NodeJS.ProcessEnv;
}

export async function newPlace(): Promise<StackPlace> {
  const home = temporaryHome();
  const [postgres, temporal, ui] = [await freePort(), await freePort(), await freePort()];
  return {
    home,
    databaseUrl: `postgresql://nodrop:nodrop@127.0.0.1:${postgres}/nodrop`,
    temporalAddress: `127.0.0.1:${temporal}`,
    env: {
      ...process.env,
      NODROP_HOME: home,
      NODROP_POSTGRES_PORT: String(postgres),
      NODROP_TEMPORAL_PORT: String(temporal),
      NODROP_TEMPORAL_UI_PORT: String(ui),
    },
  };
}

/** Starts the program that `npm run stack`, `npm start` or `npm run dev` runs. */
export class StackProgram {
  readonly #child: ChildProcess;
  readonly #readyWords: string;
  /** The whole output that the program has printed so far. */
  output = '';
  readonly exit: Promise<number | null>;

  constructor(env: NodeJS.ProcessEnv, name: keyof typeof PROGRAMS = 'stack') {
    const [entry, readyWords] = PROGRAMS[name];
    this.#readyWords = readyWords;
    const main = fileURLToPath(new URL(`../../src/stack/${entry}`, import.meta.url));
    this.#child = spawn(process.execPath, ['--import', tsxLoader(), main], { env });
    this.#child.stdout?.on('data', (data) => {
      this.output += data;
    });
    this.#child.stderr?.on('data', (data) => {
      this.output += data;
    });
    this.exit = new Promise((resolve) => this.#child.once('close', resolve));
  }

  async ready(): Promise<this> {
    await eventually(() => this.output.includes(this.#readyWords) || this.#child.exitCode !== null);
    if (this.#child.exitCode !== null) throw new Error(`The stack did not start: ${this.output}`);
    return this;
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async stop(): Promise<number | null> {
    if (this.#child.exitCode === null) this.kill('SIGTERM');
    return this.exit;
  }
}

/** The pids of the supervised processes of a data folder, for example PostgreSQL and Temporal. */
export function childPids(home: string): number[] {
  const state = JSON.parse(readFileSync(join(home, 'supervisor.json'), 'utf8'));
  return state.children.map((child: { process: { pid: number } }) => child.process.pid);
}

/** The pid of the PostgreSQL server of a data folder. */
export function postgresPid(home: string): number {
  return Number.parseInt(readFileSync(join(home, 'postgres', 'postmaster.pid'), 'utf8'), 10);
}

export function removePlace({ home }: StackPlace): void {
  rmSync(home, { recursive: true, force: true });
}
