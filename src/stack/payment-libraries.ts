import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeCached } from './cache.ts';
import { StackError } from './errors.ts';
import { runVisibly } from './progress.ts';

/**
 * Third-party libraries that implement the signatures and the encryption of the channels, independently of nodrop. The
 * doubles use these libraries. The file `requirements.txt` of a double pins the versions of these libraries, and the
 * hashes of all their dependencies.
 */

const DOUBLES = { 'python-alipay-sdk': 'alipay', wechatpayv3: 'wechatpay' } as const;
export type PaymentLibrary = keyof typeof DOUBLES;

const requirementsOf = (library: PaymentLibrary) =>
  fileURLToPath(new URL(`../../test/doubles/${DOUBLES[library]}/requirements.txt`, import.meta.url));

function entryOf(library: PaymentLibrary): string {
  const hash = createHash('sha256')
    .update(readFileSync(requirementsOf(library)))
    .digest('hex');
  return `${library}-${hash.slice(0, 16)}`;
}

const succeeds = (...args: string[]) => spawnSync('python3', args, { stdio: 'ignore' }).status === 0;

/** True if this machine has Python 3.10 or newer, which the libraries need. */
export const hasPython = (): boolean => succeeds('-c', 'import sys; sys.exit(sys.version_info < (3, 10))');

/** True if this machine also has pip, which installs the libraries. */
export const hasPip = (): boolean => hasPython() && succeeds('-m', 'pip', '--version');

/** The folder of a library in the cache; undefined when it is not installed there. */
export function lookUpPaymentLibrary(library: PaymentLibrary, cacheDir: string): string | undefined {
  const path = join(cacheDir, entryOf(library));
  return existsSync(path) ? path : undefined;
}

/**
 * Installs a library into the cache unless the cache already has it. Call it only if `hasPip()` is true.
 * @returns the library's folder
 * @throws StackError when the Python registry does not have the library or cannot be reached.
 */
export async function obtainPaymentLibrary(library: PaymentLibrary, cacheDir: string): Promise<string> {
  const found = lookUpPaymentLibrary(library, cacheDir);
  if (found !== undefined) return found;
  const made = await makeCached(cacheDir, entryOf(library), async (folder) => {
    const whole = join(folder, 'made');
    const from = ['--require-hashes', '--requirement', requirementsOf(library)];
    // The library is installed into a plain folder, because a virtual environment cannot be moved.
    const args = ['-m', 'pip', 'install', '--quiet', '--target', whole, ...from];
    const what = `Fetching ${library} from the Python registry`;
    const { ok, output } = await runVisibly(what, 'python3', args, { cwd: folder, note: '20 MB, once' });
    if (!ok) console.error(`  pip failed: ${output.trim().split('\n').slice(-3).join(' ')}`);
    return ok ? whole : undefined;
  });
  if (made !== undefined) return made;
  throw new StackError(
    `${library} could not be installed: check that the Python registry can be reached, and run the command again.`,
  );
}
