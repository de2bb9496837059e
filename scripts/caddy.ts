import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { makeCached } from '../src/stack/cache.ts';
import { readPackageLists } from './system-packages.ts';

const ENTRY = 'caddy';

/** Looks for a Caddy on the PATH, then in the cache. Undefined when there is none. */
export function findCaddy(cacheDir: string): string | undefined {
  if (spawnSync('caddy', ['version'], { stdio: 'ignore' }).status === 0) return 'caddy';
  const kept = join(cacheDir, ENTRY, 'usr', 'bin', 'caddy');
  return existsSync(kept) ? kept : undefined;
}

/**
 * If there is no Caddy, unpacks Debian's package into the cache. The package is only unpacked, because an installed
 * package would start a service on port 80.
 * @returns the error of the command that failed; undefined when there is a Caddy.
 */
export async function obtainCaddy(cacheDir: string): Promise<string | undefined> {
  if (findCaddy(cacheDir) !== undefined) return undefined;
  let failure: string | undefined;
  await makeCached(cacheDir, ENTRY, async (folder) => {
    const run = (command: string, args: readonly string[]) => {
      const { status, stderr, error } = spawnSync(command, args, { cwd: folder, encoding: 'utf8' });
      failure = status === 0 ? undefined : (error?.message ?? lastLine(stderr));
      return failure === undefined;
    };
    const download = () => run('apt-get', ['download', '-q', 'caddy']);
    // Update the package lists first. A new system may have no lists, or old lists that name a version that the mirror
    // no longer has.
    if (!download() && !((await readPackageLists()) && download())) return undefined;
    const [file = ''] = readdirSync(folder);
    return run('dpkg-deb', ['--extract', file, 'unpacked']) ? join(folder, 'unpacked') : undefined;
  });
  return failure;
}

const lastLine = (text: string) => text.trim().split('\n').at(-1) ?? '';
