import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { StackError } from '../stack/errors.ts';
import { tsxLoader } from '../tsx.ts';
import { request } from './client.ts';
import type { DoubledChannel } from './options.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** A process that runs a channel's double (test/doubles), with the channel's books, keys and clock. */
export class Double<Hello extends { readonly url: string } = { readonly url: string }> {
  readonly channel: DoubledChannel;
  /** The first line that the double printed. It contains the double's address and accounts. */
  readonly hello: Hello;
  readonly #child: ChildProcess;
  readonly #signal: AbortSignal;
  #isStopping = false;

  private constructor(channel: DoubledChannel, hello: Hello, child: ChildProcess, signal: AbortSignal) {
    this.channel = channel;
    this.hello = hello;
    this.#child = child;
    this.#signal = signal;
  }

  /**
   * Starts the process, and waits until it listens.
   * @param library folder of the Python library that the double verifies and signs with.
   * @param logs folder of its log.
   * @param onEnd called with a sentence when the process ends without `stop()`.
   * @param signal aborts pending control commands.
   * @throws StackError when the process does not start.
   */
  static async start<Hello extends { readonly url: string }>(
    channel: DoubledChannel,
    library: string,
    logs: string,
    onEnd: (sentence: string) => void,
    signal: AbortSignal,
  ): Promise<Double<Hello>> {
    const file = join(logs, `${channel}.log`);
    const log = openSync(file, 'a');
    const main = join(ROOT, 'test', 'doubles', channel, 'main.ts');
    // The double exits when its standard input closes. So it also exits when this process is killed.
    const child = spawn(process.execPath, ['--import', tsxLoader(), main, library], {
      cwd: ROOT,
      stdio: ['pipe', 'pipe', log],
      // The double runs in its own session. So Ctrl-C in the terminal does not end the double, and the demo stops it
      // later.
      detached: true,
      env: { ...process.env, PORT: '0', NODROP_WECHATPAYV3: library },
    });
    closeSync(log);
    const line = await new Promise<string>((resolve, reject) => {
      const fail = () => reject(new StackError(`The double of ${channel} did not start: see ${file}.`));
      child.once('error', fail).once('exit', fail);
      if (child.stdout !== null) createInterface(child.stdout).once('line', resolve);
    });
    const double = new Double(channel, JSON.parse(line) as Hello, child, signal);
    child.once('exit', () => {
      if (!double.#isStopping) onEnd(`The double of ${channel} has ended unexpectedly: see ${file}.`);
    });
    return double;
  }

  /** Sends a control command to the double. @returns its answer @throws Error when the double refuses the command */
  async control<T = unknown>(command: string, given: object = {}, signal = this.#signal): Promise<T> {
    const url = `${this.hello.url}/_control/${command}`;
    const { status, body } = await request(signal, 'POST', url, given);
    if (status !== 200) throw new Error(`The double of ${this.channel} answered ${status} to ${command}.`);
    return body as T;
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.stdin?.end();
    await ended;
  }
}
