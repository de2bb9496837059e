import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runVisibly } from './progress.ts';

/** A download that brings nothing for this long is given up: closed networks swallow packets without an answer. */
const PATIENCE_MS = 6000;

/**
 * Downloads a tool into an empty folder by the Temporal SDK.
 * @returns the downloaded program, or undefined when it could not be had.
 */
export async function downloadBySdk(
  kind: 'cli' | 'test-server',
  what: string,
  folder: string,
): Promise<string | undefined> {
  const gaveUp = new AbortController();
  let size = 0;
  let grewAt = Date.now();
  const watch = setInterval(() => {
    const now = folderSize(folder);
    if (now > size) grewAt = Date.now();
    size = now;
    if (Date.now() - grewAt > PATIENCE_MS) gaveUp.abort();
  }, 500);
  const script = fileURLToPath(new URL('./sdk-download.ts', import.meta.url));
  const args = ['--import', import.meta.resolve('tsx'), script, kind, folder];
  const { ok } = await runVisibly(`Downloading ${what}`, process.execPath, args, { signal: gaveUp.signal });
  clearInterval(watch);
  const [file] = readdirSync(folder).filter((name) => !name.endsWith('.downloading'));
  if (ok && file !== undefined) return join(folder, file);
  console.error('  The download is not possible here.');
  return undefined;
}

function folderSize(folder: string): number {
  return readdirSync(folder).reduce(
    (sum, name) => sum + (statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0),
    0,
  );
}
