import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { makeCached } from '../src/stack/cache.ts';
import { StackError } from '../src/stack/errors.ts';
import { runVisibly } from '../src/stack/progress.ts';

/** Other people's implementation of what an adapter signs and encrypts, of a fixed version: a double of a channel uses it. */

const WECHATPAYV3 = '2.0.4';
const ENTRY = `wechatpayv3-${WECHATPAYV3}`;

const succeeds = (...args: string[]) => spawnSync('python3', args, { stdio: 'ignore' }).status === 0;

/** The folder of the library in the cache; undefined when it is not there. */
export function lookUpWechatpayv3(cacheDir: string): string | undefined {
  const path = join(cacheDir, ENTRY);
  return existsSync(path) ? path : undefined;
}

/**
 * Fills the cache with it. Where the machine lacks what it runs on, it says so, and its tests are skipped.
 * @throws StackError when its registry does not have it, or is not reached.
 */
export async function obtainWechatpayv3(cacheDir: string): Promise<void> {
  if (lookUpWechatpayv3(cacheDir) !== undefined) return;
  if (
    !succeeds('-c', 'import sys; sys.exit(sys.version_info < (3, 9))') ||
    !succeeds('-m', 'pip', '--version')
  ) {
    console.error(
      'The tests of WeChat Pay against its double are skipped: they need Python 3.9 or newer with pip.',
    );
    return;
  }
  const made = await makeCached(cacheDir, ENTRY, async (folder) => {
    const whole = join(folder, 'made');
    // Into a folder, as a virtual environment cannot be moved into place.
    const args = ['-m', 'pip', 'install', '--quiet', '--target', whole, `wechatpayv3==${WECHATPAYV3}`];
    const what = `Fetching wechatpayv3 ${WECHATPAYV3} from the Python registry`;
    const { ok, output } = await runVisibly(what, 'python3', args, { cwd: folder, note: '20 MB, once' });
    if (!ok) console.error(`  pip failed: ${output.trim().split('\n').slice(-3).join(' ')}`);
    return ok ? whole : undefined;
  });
  if (made !== undefined) return;
  throw new StackError(
    'wechatpayv3 could not be obtained for the tests of WeChat Pay: check that the Python registry is reached, and run the command again.',
  );
}
