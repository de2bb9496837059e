import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { makeCached } from '../src/stack/cache.ts';
import { StackError } from '../src/stack/errors.ts';
import { runVisibly } from '../src/stack/progress.ts';

/** Other people's implementations of what adapters sign and encrypt, of fixed versions: the doubles of channels use them. */

const VERSIONS = { 'python-alipay-sdk': '3.4.0', wechatpayv3: '2.0.4' } as const;
export type PaymentLibrary = keyof typeof VERSIONS;

const entryOf = (library: PaymentLibrary) => `${library}-${VERSIONS[library]}`;

const succeeds = (...args: string[]) => spawnSync('python3', args, { stdio: 'ignore' }).status === 0;

/** The folder of a library in the cache; undefined when it is not there. */
export function lookUpPaymentLibrary(library: PaymentLibrary, cacheDir: string): string | undefined {
  const path = join(cacheDir, entryOf(library));
  return existsSync(path) ? path : undefined;
}

/**
 * Fills the cache with a library. Where the machine lacks what it runs on, it says so, and its tests are skipped.
 * @throws StackError when its registry does not have it, or is not reached.
 */
export async function obtainPaymentLibrary(library: PaymentLibrary, cacheDir: string): Promise<void> {
  if (lookUpPaymentLibrary(library, cacheDir) !== undefined) return;
  const isPossible =
    succeeds('-c', 'import sys; sys.exit(sys.version_info < (3, 10))') && succeeds('-m', 'pip', '--version');
  if (!isPossible) {
    console.error(`The tests against ${library} are skipped: they need Python 3.10 or newer with pip.`);
    return;
  }
  const made = await makeCached(cacheDir, entryOf(library), async (folder) => {
    const whole = join(folder, 'made');
    const version = VERSIONS[library];
    // Into a folder, as a virtual environment cannot be moved into place.
    const args = ['-m', 'pip', 'install', '--quiet', '--target', whole, `${library}==${version}`];
    const what = `Fetching ${library} ${version} from the Python registry`;
    const { ok, output } = await runVisibly(what, 'python3', args, { cwd: folder, note: '20 MB, once' });
    if (!ok) console.error(`  pip failed: ${output.trim().split('\n').slice(-3).join(' ')}`);
    return ok ? whole : undefined;
  });
  if (made !== undefined) return;
  throw new StackError(
    `${library} could not be obtained for the tests: check that the Python registry is reached, and run the command again.`,
  );
}
