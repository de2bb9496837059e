import { spawn } from 'node:child_process';
import type { PaymentLibrary } from '../src/stack/payment-libraries.ts';

/** What tests need beside the npm packages. */
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

/** What every test file but the pure ones needs. */
export const SERVERS: readonly Tool[] = ['temporal', 'test-server'];

/**
 * Obtains the tools in a process of its own, which prints what it does.
 * @returns a sentence for each that is missing now.
 */
export function obtainTools(tools: readonly Tool[]): Promise<readonly string[]> {
  return new Promise((resolve, reject) => {
    const missing: string[] = [];
    // By the channel it tells what is missing, and notices when we are no more.
    spawn(process.execPath, ['--import', 'tsx', 'scripts/obtain-tools.ts', ...tools], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
      .on('message', (sentence) => missing.push(String(sentence)))
      .once('error', reject)
      .once('close', (code) => {
        const isSilent = code !== 0 && missing.length === 0;
        resolve(isSilent ? ['The tools could not be obtained: its lines above say why.'] : missing);
      });
  });
}
