import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { makeCached } from '../src/stack/cache.ts';

const ENTRY = 'caddy';

/** The system's Caddy, else the one that `obtainCaddy` keeps; undefined when there is none. */
export const findCaddy = (cacheDir: string): string | undefined =>
  ['/usr/bin/caddy', join(cacheDir, ENTRY, 'usr', 'bin', 'caddy')].find((path) => existsSync(path));

/**
 * Keeps the program of Debian's package in the cache, where there is no Caddy: installed, the package would start a
 * service on port 80. Without Debian, or without its package lists, it does nothing.
 */
export async function obtainCaddy(cacheDir: string): Promise<void> {
  if (findCaddy(cacheDir) !== undefined) return;
  await makeCached(cacheDir, ENTRY, async (folder) => {
    const run = (command: string, args: readonly string[]) =>
      spawnSync(command, args, { cwd: folder, stdio: 'ignore' }).status === 0;
    if (!run('apt-get', ['download', '-q', 'caddy'])) return undefined;
    const [file = ''] = readdirSync(folder);
    return run('dpkg-deb', ['--extract', file, 'unpacked']) ? join(folder, 'unpacked') : undefined;
  });
}
