import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { makeCached } from '../src/stack/cache.ts';
import { StackError } from '../src/stack/errors.ts';
import { runVisibly } from '../src/stack/progress.ts';

/** Another implementation of Alipay's signatures, of a fixed version: the tests' double verifies and signs with it. */

const VERSION = '3.4.0';
const ENTRY = `python-alipay-sdk-${VERSION}`;

const succeeds = (command: string, ...args: string[]) =>
  spawnSync(command, args, { stdio: 'ignore' }).status === 0;

/** Its folder in the cache; undefined when it is not there. */
export function lookUpAlipayOracle(cacheDir: string): string | undefined {
  const path = join(cacheDir, ENTRY);
  return existsSync(path) ? path : undefined;
}

/**
 * Fills the cache with it. Where the machine lacks what it runs on, it says so, and the tests are skipped.
 * @throws StackError when its registry does not have it, or is not reached.
 */
export async function obtainAlipayOracle(cacheDir: string): Promise<void> {
  if (lookUpAlipayOracle(cacheDir) !== undefined) return;
  const isPossible =
    succeeds('python3', '-c', 'import sys; sys.exit(sys.version_info < (3, 10))') &&
    succeeds('python3', '-m', 'pip', '--version');
  if (!isPossible) {
    console.error(
      'The tests of the Alipay adapter against its double are skipped: they need Python 3.10 or newer with pip.',
    );
    return;
  }
  const made = await makeCached(cacheDir, ENTRY, async (folder) => {
    // Into a folder, as a virtual environment cannot be moved into place.
    const whole = join(folder, 'made');
    const args = ['-m', 'pip', 'install', '--quiet', '--target', whole, `python-alipay-sdk==${VERSION}`];
    const what = `Fetching python-alipay-sdk ${VERSION} from the Python registry`;
    const { ok, output } = await runVisibly(what, 'python3', args, { cwd: folder, note: '15 MB, once' });
    if (!ok) console.error(`  pip failed: ${output.trim().split('\n').slice(-3).join(' ')}`);
    return ok ? whole : undefined;
  });
  if (made !== undefined) return;
  throw new StackError(
    'python-alipay-sdk could not be obtained for the tests of Alipay: check that the Python registry is reached, and run the command again.',
  );
}
