import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { endConnections, useDatabase } from '../support/stack.ts';

const { databaseUrl } = useDatabase();

test('the process survives when PostgreSQL ends its connections at any moment', async () => {
  const program = fileURLToPath(new URL('transactions.ts', import.meta.url));
  const args = ['--import', import.meta.resolve('tsx'), program, databaseUrl];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let output = '';
  child.stderr.on('data', (data) => {
    output += data;
  });
  const exit = once(child, 'close');
  try {
    await endConnections(databaseUrl, 1_000, () => child.exitCode !== null);
    child.kill('SIGTERM');
    expect([...(await exit), output]).toEqual([0, null, '']);
  } finally {
    child.kill('SIGKILL');
    await exit;
  }
});
