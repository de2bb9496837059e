import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { reason, StackError } from './errors.ts';
import { identify } from './os-process.ts';

/** The folders that this process is filling at the moment. */
const filling = new Set<string>();

/**
 * Makes a cache entry aside and renames it into place, so that an entry is whole or not there, and two processes that
 * make the same one at once both end with it. What interrupted processes left is removed.
 * @param make fills the folder it is given and returns what of it becomes the entry, or undefined when it could not.
 * @returns the entry's path, or undefined.
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
      // Another process was faster; its entry is as good.
      if (!existsSync(entry)) throw error;
    }
    return entry;
  } finally {
    filling.delete(folder);
    rmSync(folder, { recursive: true, force: true });
  }
}
