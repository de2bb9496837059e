import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tsxLoader } from '../tsx.ts';
import { runVisibly } from './progress.ts';
import { whileTicking } from './timer.ts';

/** A download that makes no progress for this long is aborted. Some networks drop packets without an answer. */
const PATIENCE_MS = 6000;
const LOOK_EVERY_MS = 500;

/**
 * Downloads a tool into an empty folder with the Temporal SDK.
 * @returns the path of the downloaded program, or undefined when the download failed.
 */
export async function downloadBySdk(
  kind: 'cli' | 'test-server',
  what: string,
  folder: string,
): Promise<string | undefined> {
  const script = fileURLToPath(new URL('./sdk-download.ts', import.meta.url));
  const args = ['--import', tsxLoader(), script, kind, folder];
  const gaveUp = new AbortController();
  let size = 0;
  let grewAt = Date.now();
  const look = () => {
    const now = folderSize(folder);
    if (now > size) grewAt = Date.now();
    size = now;
    if (Date.now() - grewAt > PATIENCE_MS) gaveUp.abort();
  };
  const { ok } = await whileTicking(LOOK_EVERY_MS, look, () =>
    runVisibly(`Downloading ${what}`, process.execPath, args, { signal: gaveUp.signal }),
  );
  const [file] = filesIn(folder).filter((name) => !name.endsWith('.downloading'));
  if (ok && file !== undefined) return join(folder, file);
  console.error(`  The download of ${what} is not possible here.`);
  return undefined;
}

function folderSize(folder: string): number {
  return filesIn(folder).reduce(
    (sum, name) => sum + (statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0),
    0,
  );
}

/** Returns an empty list if the folder was removed. In that case the download itself fails, with its own message. */
function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
