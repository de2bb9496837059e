import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, inject, onTestFinished, test } from 'vitest';
import { identify, isAlive } from '../../src/stack/os-process.ts';
import { listens } from '../../src/stack/program-spec.ts';
import { tsxLoader } from '../../src/tsx.ts';
import { eventually, timeSkippingEnvironment } from './stack.ts';

// Tests the servers of the workflow tests. A test waits for its servers however slow the machine is, and the
// servers never outlive the test.

function launcherOf(script: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'nodrop-launcher-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'run');
  writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return path;
}

test("a server that starts more slowly than the SDK's limit becomes ready, skips time, and ends when its environment is closed", async () => {
  const testServer = inject('testServer');
  if ('missing' in testServer) throw new Error(testServer.missing);
  const env = await timeSkippingEnvironment(launcherOf(`sleep 6; exec '${testServer.path}' "$@"`));
  const before = await env.currentTimeMs();
  await env.sleep(3_600_000);
  expect((await env.currentTimeMs()) - before).toBeGreaterThanOrEqual(3_600_000);
  const port = Number(env.address?.split(':')[1]);
  expect(await listens(port)).toBe(true);
  await env.teardown();
  expect(await listens(port)).toBe(false);
});

test('if a server ends before it answers, the caller stops waiting', async () => {
  await expect(timeSkippingEnvironment(launcherOf('exit 3'))).rejects.toThrow('the server has ended');
});

test('a server ends with the process that started it, even if that process is killed or a launcher started the server', async () => {
  const module = fileURLToPath(new URL('./own-server.ts', import.meta.url));
  const script = `
    const { startTied } = await import(${JSON.stringify(module)});
    await startTied(['sh', '-c', 'sleep 100000 & echo $!; wait']);`;
  const child = spawn(process.execPath, ['--import', tsxLoader(), '--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const [pid] = await once(createInterface({ input: child.stdout }), 'line');
  const server = identify(Number(pid));
  if (server === undefined) throw new Error('the server does not run');
  child.kill('SIGKILL');
  await eventually(() => !isAlive(server));
});
