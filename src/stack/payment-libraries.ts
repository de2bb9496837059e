import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeCached } from './cache.ts';
import { StackError } from './errors.ts';
import { runVisibly } from './progress.ts';

/**
 * Other people's implementations of what adapters sign and encrypt: the doubles of channels use them. Their versions, and
 * the contents of everything they need, are fixed by the file `requirements.txt` of a double.
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

/** True where this machine has what the libraries run on. */
export const hasPython = (): boolean => succeeds('-c', 'import sys; sys.exit(sys.version_info < (3, 10))');

/** True where it also has what they are obtained by. */
export const hasPip = (): boolean => hasPython() && succeeds('-m', 'pip', '--version');

/** The folder of a library in the cache; undefined when it is not there. */
export function lookUpPaymentLibrary(library: PaymentLibrary, cacheDir: string): string | undefined {
  const path = join(cacheDir, entryOf(library));
  return existsSync(path) ? path : undefined;
}

/**
 * The folder of a library in the cache, which is filled with it when it is not there. Needs `hasPip()`.
 * @throws StackError when its registry does not have it, or is not reached.
 */
export async function obtainPaymentLibrary(library: PaymentLibrary, cacheDir: string): Promise<string> {
  const found = lookUpPaymentLibrary(library, cacheDir);
  if (found !== undefined) return found;
  const made = await makeCached(cacheDir, entryOf(library), async (folder) => {
    const whole = join(folder, 'made');
    const from = ['--require-hashes', '--requirement', requirementsOf(library)];
    // Into a folder, as a virtual environment cannot be moved into place.
    const args = ['-m', 'pip', 'install', '--quiet', '--target', whole, ...from];
    const what = `Fetching ${library} from the Python registry`;
    const { ok, output } = await runVisibly(what, 'python3', args, { cwd: folder, note: '20 MB, once' });
    if (!ok) console.error(`  pip failed: ${output.trim().split('\n').slice(-3).join(' ')}`);
    return ok ? whole : undefined;
  });
  if (made !== undefined) return made;
  throw new StackError(
    `${library} could not be obtained: check that the Python registry is reached, and run the command again.`,
  );
}
