import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { endConnections, freshDatabase } from '../support/stack.ts';

test('no connection that PostgreSQL ends ends the process, whatever it was doing', async () => {
  const database = await freshDatabase();
  const program = fileURLToPath(new URL('transactions.ts', import.meta.url));
  const args = ['--import', import.meta.resolve('tsx'), program, database.url];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let output = '';
  child.stderr.on('data', (data) => {
    output += data;
  });
  const exit = once(child, 'close');
  try {
    await endConnections(database.url, 1_000, () => child.exitCode !== null);
    child.kill('SIGTERM');
    expect([...(await exit), output]).toEqual([0, null, '']);
  } finally {
    child.kill('SIGKILL');
    await exit;
    await database.drop();
  }
});
