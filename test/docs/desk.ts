// Simulates a user who runs a real `npm start` and types the commands of a docs page. Only ports and the home folder
// differ from the page.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { newPlace, removePlace, type StackPlace } from '../stack/program.ts';
import { eventually, freePort } from '../support/stack.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const SETTINGS = ['PORT', 'NODROP_ADMIN_PORT', 'NODROP_SIMULATOR_PORT', 'NODROP_SHOP_PORT'] as const;
/**
 * The environment variables that are needed to reach package registries. The shell gets no other variables of
 * this machine.
 */
const ROUTES = /^(PIP_|(HTTPS?|NO|ALL)_PROXY$|SSL_CERT|REQUESTS_CA|MAVEN_|JAVA_HOME$)/i;

/** A shell that keeps running between two blocks of commands, so that its variables stay set. */
export class Shell {
  readonly #child: ChildProcess;
  #output = '';

  constructor(env: NodeJS.ProcessEnv) {
    this.#child = spawn('bash', ['--norc'], { cwd: root, env });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on('data', (data) => {
        this.#output += data;
      });
    }
    this.#child.stdin?.write("trap 'failed=$?' ERR\n");
  }

  /** Runs a block of commands. @returns the exit code of the last command that failed (0 if none), and the output. */
  async type(block: string): Promise<{ code: number; output: string }> {
    this.#output = '';
    this.#child.stdin?.write(`failed=0\n${block}\nprintf '\\n@@%s@@\\n' "$failed"\n`);
    return await eventually(() => {
      const [, output = '', code] = /^([\s\S]*)\n@@(\d+)@@\n$/.exec(this.#output) ?? [];
      return code !== undefined && { code: Number(code), output };
    });
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const closed = once(this.#child, 'close');
    this.#child.stdin?.end();
    await closed;
  }
}

/** A running nodrop, and the terminals in which its user types. */
export class Desk {
  readonly #place: StackPlace;
  readonly #env: NodeJS.ProcessEnv;
  readonly #terminals: ChildProcess[] = [];
  /** Maps the port numbers in the pages to the ports of this test. */
  readonly ports: Readonly<Record<string, string>>;
  readonly shell: Shell;

  private constructor(place: StackPlace, env: NodeJS.ProcessEnv, ports: Record<string, string>) {
    this.#place = place;
    this.#env = env;
    this.ports = ports;
    this.shell = new Shell(env);
  }

  /** Starts nodrop with the first block of the page, which must be `npm start`. */
  static async open(page: string): Promise<Desk> {
    const place = await newPlace();
    const own = Object.fromEntries(
      await Promise.all(SETTINGS.map(async (name) => [name, String(await freePort())] as const)),
    );
    const ports = {
      3000: own.PORT ?? '',
      3200: String(await freePort()),
      54329: new URL(place.databaseUrl).port,
    };
    // A wrapper script gives the settings of this test to npm only. The user's shell does not have them.
    const [bin, home] = [join(place.home, 'bin'), join(place.home, 'user')];
    for (const folder of [bin, home]) mkdirSync(folder);
    for (const name of ['.config', '.pip'])
      if (existsSync(join(homedir(), name))) symlinkSync(join(homedir(), name), join(home, name));
    const settings = Object.entries({ ...place.env, ...own }).filter(([name]) =>
      /^NODROP_|^PORT$|^XDG_/.test(name),
    );
    const lines = [...settings, ['HOME', homedir()]].map(([name, value]) => `export ${name}='${value}'`);
    const path = [dirname(process.execPath), process.env.PATH].join(delimiter);
    writeFileSync(join(bin, 'npm'), `#!/bin/sh\nPATH='${path}'\n${lines.join('\n')}\nexec npm "$@"\n`, {
      mode: 0o755,
    });
    const routes = Object.entries(process.env).filter(([name]) => ROUTES.test(name));
    const env = { ...Object.fromEntries(routes), PATH: [bin, path].join(delimiter), HOME: home };
    const desk = new Desk(place, env, ports);
    const [start = ''] = desk.blocksOf(page);
    if (start !== 'npm start') throw new Error(`${page} does not begin with npm start: ${start}`);
    try {
      await desk.terminal(start, 'nodrop is ready in');
    } catch (error) {
      await desk.close();
      throw error;
    }
    return desk;
  }

  /**
   * Opens another terminal and starts a long-running command there. Waits until its output contains
   * `readyWords`.
   */
  async terminal(command: string, readyWords: string): Promise<ChildProcess> {
    const child = spawn('bash', ['--norc', '-c', command], { cwd: root, env: this.#env, detached: true });
    this.#terminals.push(child);
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (data) => {
        output += data;
      });
    }
    await eventually(() => {
      if (child.exitCode !== null) throw new Error(`${command} ended: ${output}`);
      return output.includes(readyWords);
    });
    return child;
  }

  /** Sends Ctrl-C to all processes in the terminal, and waits for their end. */
  async interrupt(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
    const closed = once(child, 'close');
    process.kill(-child.pid, 'SIGINT');
    await closed;
  }

  /** The command blocks of a page in their order. Port numbers are replaced by the ports of this test. */
  blocksOf(page: string, at: Readonly<Record<string, string>> = this.ports): string[] {
    const text = readFileSync(join(root, 'docs', page), 'utf8');
    return [...text.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block = '']) =>
      Object.entries(at).reduce(
        (typed, [there, here]) =>
          typed.replaceAll(new RegExp(`(127\\.0\\.0\\.1:|PORT=)${there}\\b`, 'g'), `$1${here}`),
        block.trimEnd(),
      ),
    );
  }

  async close(): Promise<void> {
    await this.shell.end();
    for (const child of this.#terminals.toReversed()) await this.interrupt(child);
    removePlace(this.#place);
  }
}
