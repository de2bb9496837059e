import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/**
 * Signatures and encryption by an implementation other than the adapter's. The implementation is the Python library
 * wechatpayv3 in a separate process.
 */
export class Oracle {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: unknown) => void>();
  #count = 0;

  /** @param folder the folder of the library */
  constructor(folder: string) {
    const env = { ...process.env, PYTHONPATH: folder, PYTHONDONTWRITEBYTECODE: '1' };
    this.#child = spawn('python3', [join(import.meta.dirname, 'oracle.py')], {
      env,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child.once('exit', () => process.exit(1));
    if (this.#child.stdout === null) return;
    createInterface(this.#child.stdout).on('line', (line) => {
      const { id, answer } = JSON.parse(line) as { id: number; answer: unknown };
      this.#waiting.get(id)?.(answer);
      this.#waiting.delete(id);
    });
  }

  #ask(does: string, given: object): Promise<unknown> {
    this.#count += 1;
    const id = this.#count;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#child.stdin?.write(`${JSON.stringify({ id, does, given })}\n`);
    });
  }

  /** @param key the public key in PEM. */
  async verify(key: string, lines: readonly string[], signature: string): Promise<boolean> {
    return (await this.#ask('verify', { key, lines, signature })) === true;
  }

  /** @param key the private key in PEM. */
  async sign(key: string, lines: readonly string[]): Promise<string> {
    return (await this.#ask('sign', { key, lines })) as string;
  }

  async encrypt(key: string, nonce: string, associated_data: string, text: string): Promise<string> {
    return (await this.#ask('encrypt', { key, nonce, associated_data, text })) as string;
  }
}
