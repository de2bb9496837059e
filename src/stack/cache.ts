import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { reason, StackError } from './errors.ts';
import { identify } from './os-process.ts';

/** Draft folders that this process is filling now. */
const filling = new Set<string>();

/**
 * Creates a cache entry in a draft folder and renames it into place. So an entry is either complete or absent, even if
 * two processes create it at the same time. The function also removes draft folders of interrupted processes.
 * @param make fills the given draft folder. It returns the path inside that folder that becomes the entry, or undefined
 * if it failed.
 * @returns the entry's path, or undefined if `make` failed.
 */
export async function makeCached(
  cacheDir: string,
  name: string,
  make: (folder: string) => Promise<string | undefined>,
): Promise<string | undefined> {
  const entry = join(cacheDir, name);
  const folder = join(cacheDir, `making-${process.pid}-${name}`);
  try {
    mkdirSync(cacheDir, { recursive: true });
    for (const left of readdirSync(cacheDir)) {
      const pid = /^making-(\d+)-/.exec(left)?.[1];
      if (pid === undefined || filling.has(join(cacheDir, left))) continue;
      if (Number(pid) === process.pid || identify(Number(pid)) === undefined) {
        rmSync(join(cacheDir, left), { recursive: true, force: true });
      }
    }
    mkdirSync(folder);
    filling.add(folder);
  } catch (error) {
    throw new StackError(
      `The cache folder ${cacheDir} cannot be written (${reason(error)}): make it writable, or set XDG_CACHE_HOME to another folder.`,
    );
  }
  try {
    const made = await make(folder);
    if (made === undefined) return undefined;
    try {
      renameSync(made, entry);
    } catch (error) {
      // Another process has created the same entry first, so use that entry.
      if (!existsSync(entry)) throw error;
    }
    return entry;
  } finally {
    filling.delete(folder);
    rmSync(folder, { recursive: true, force: true });
  }
}
