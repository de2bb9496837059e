import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { lookUpPaymentLibrary } from '../../../src/stack/payment-libraries.ts';
import { toolSettings } from '../../support/tool-settings.ts';
import type { Keys } from './oracle.ts';

/** The Alipay double as a separate process. */
export interface AlipayDouble {
  readonly url: string;
  readonly keys: Keys;
  /** Runs a command at the double. @throws Error if the command fails */
  tell<T = unknown>(command: string, given?: unknown): Promise<T>;
  stop(): Promise<void>;
}

/**
 * The folder of python-alipay-sdk, or undefined if `npm test` could not obtain the library. In that case, `npm test`
 * has reported the failure.
 */
export const oracleFolder = (): string | undefined =>
  lookUpPaymentLibrary('python-alipay-sdk', toolSettings().cacheDir);

export async function startAlipayDouble(): Promise<AlipayDouble> {
  const folder = oracleFolder();
  if (folder === undefined) throw new Error('python-alipay-sdk is missing');
  const child = spawn(process.execPath, ['--import', 'tsx', 'test/doubles/alipay/main.ts', folder], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const line = await new Promise<string>((resolve, reject) => {
    child.once('error', reject).once('exit', () => reject(new Error('the double ended')));
    createInterface(child.stdout).once('line', resolve);
  });
  const { url, keys } = JSON.parse(line) as Pick<AlipayDouble, 'url' | 'keys'>;
  return {
    url,
    keys,
    async tell<T>(command: string, given: unknown = {}) {
      const answer = await fetch(`${url}/_control/${command}`, {
        method: 'POST',
        body: JSON.stringify(given),
      });
      const said: unknown = await answer.json();
      if (!answer.ok) throw new Error(`${command}: ${JSON.stringify(said)}`);
      return said as T;
    },
    async stop() {
      if (child.exitCode !== null) return;
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.stdin.end();
      await ended;
    },
  };
}
