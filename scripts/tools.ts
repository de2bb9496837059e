import { spawn } from 'node:child_process';
import type { PaymentLibrary } from '../src/stack/payment-libraries.ts';

/** Tools that tests need in addition to the npm packages. */
export type Tool =
  | 'temporal'
  | 'test-server'
  | 'nodes'
  | 'generators'
  | 'chromium'
  | 'docker-compose'
  | 'caddy'
  | 'stripe-servers'
  | PaymentLibrary;

/** The servers that all test files need, except those with pure tests. */
export const SERVERS: readonly Tool[] = ['temporal', 'test-server'];

/**
 * Installs the tools in a separate process, which prints its progress.
 * @returns a sentence for each tool that is still missing.
 */
export function obtainTools(tools: readonly Tool[]): Promise<readonly string[]> {
  return new Promise((resolve, reject) => {
    const missing: string[] = [];
    // The child process reports missing tools on the IPC channel. When this process ends, the channel closes, and the
    // child process exits.
    spawn(process.execPath, ['--import', 'tsx', 'scripts/obtain-tools.ts', ...tools], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
      .on('message', (sentence) => missing.push(String(sentence)))
      .once('error', reject)
      .once('close', (code) => {
        const isSilent = code !== 0 && missing.length === 0;
        resolve(
          isSilent ? ['The tools could not be installed: the lines above contain the reason.'] : missing,
        );
      });
  });
}
