import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { makeCached } from '../src/stack/cache.ts';
import { StackError } from '../src/stack/errors.ts';
import { runVisibly } from '../src/stack/progress.ts';

/** Third-party servers that implement Stripe's API, in fixed versions. The tests run them as processes. */

export const STRIPE_SERVERS = ['localstripe', 'stripe-mock'] as const;
export type StripeServer = (typeof STRIPE_SERVERS)[number];

const LOCALSTRIPE = '1.15.10';
const STRIPE_MOCK = '0.203.0';

interface Recipe {
  readonly entry: string;
  /** The programs that the machine must have. If they are missing, the server's test is skipped. */
  readonly needs: string;
  readonly isPossible: () => boolean;
  /** Returns the command that installs the server into the folder. */
  readonly command: (folder: string) => {
    readonly from: string;
    readonly words: readonly [string, ...string[]];
    readonly env?: NodeJS.ProcessEnv;
  };
}

const succeeds = (command: string, ...args: string[]) =>
  spawnSync(command, args, { stdio: 'ignore' }).status === 0;

const RECIPES: Readonly<Record<StripeServer, Recipe>> = {
  localstripe: {
    entry: `localstripe-${LOCALSTRIPE}`,
    needs: 'Python 3.10 or newer with pip',
    isPossible: () =>
      succeeds('python3', '-c', 'import sys; sys.exit(sys.version_info < (3, 10))') &&
      succeeds('python3', '-m', 'pip', '--version'),
    command: (folder) => ({
      from: 'Python',
      // The server is installed into a plain folder, because a virtual environment cannot be moved.
      words: [
        'python3',
        '-m',
        'pip',
        'install',
        '--quiet',
        '--target',
        folder,
        `localstripe==${LOCALSTRIPE}`,
      ],
    }),
  },
  'stripe-mock': {
    entry: `stripe-mock-${STRIPE_MOCK}`,
    needs: 'Go 1.21 or newer',
    isPossible: () => succeeds('go', 'version'),
    command: (folder) => ({
      from: 'Go',
      words: ['go', 'install', `github.com/stripe/stripe-mock@v${STRIPE_MOCK}`],
      env: { ...process.env, GOBIN: folder },
    }),
  },
};

/** The folder of a server in the cache; undefined when it is not installed there. */
export function lookUpStripeServer(server: StripeServer, cacheDir: string): string | undefined {
  const path = join(cacheDir, RECIPES[server].entry);
  return existsSync(path) ? path : undefined;
}

/**
 * Installs a server into the cache. If the machine lacks a program that the server needs, prints which program, and the
 * server's test is skipped.
 * @throws StackError when the server's registry does not have it or cannot be reached.
 */
export async function obtainStripeServer(server: StripeServer, cacheDir: string): Promise<void> {
  if (lookUpStripeServer(server, cacheDir) !== undefined) return;
  const { entry, needs, isPossible, command } = RECIPES[server];
  if (!isPossible()) {
    console.error(`The test of the Stripe adapter against ${server} is skipped: it needs ${needs}.`);
    return;
  }
  const made = await makeCached(cacheDir, entry, async (folder) => {
    const whole = join(folder, 'made');
    const { from, words, env } = command(whole);
    const [program, ...args] = words;
    const what = `Fetching ${server} from the ${from} registry`;
    const { ok, output } = await runVisibly(what, program, args, {
      cwd: folder,
      note: '30 MB, once',
      ...(env === undefined ? {} : { env }),
    });
    if (!ok) console.error(`  ${program} failed: ${output.trim().split('\n').slice(-3).join(' ')}`);
    return ok ? whole : undefined;
  });
  if (made !== undefined) return;
  throw new StackError(
    `${server} could not be installed for the tests of Stripe: check that its registry can be reached, and run the command again.`,
  );
}
