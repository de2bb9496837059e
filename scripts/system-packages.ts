import { spawnSync } from 'node:child_process';
import { runVisibly } from '../src/stack/progress.ts';

/** A Debian package. */
export interface SystemPackage {
  readonly name: string;
  /** The purpose of the package, as a message names it, for example "for the browser tests". */
  readonly purpose: string;
  readonly options: readonly string[];
}

export const CHROMIUM: SystemPackage = { name: 'chromium', purpose: 'for the browser tests', options: [] };
export const MAVEN: SystemPackage = {
  name: 'maven',
  purpose: 'for the time-skipping test server',
  options: ['--no-install-recommends'],
};
/** The package is installed without its recommended packages, because they would include the whole Docker engine. */
export const COMPOSE: SystemPackage = {
  name: 'docker-compose',
  purpose: 'to check docker-compose.yml',
  options: ['--no-install-recommends'],
};

/**
 * True if this program may use apt-get without asking. It must run as root, and NODROP_INSTALL must be unset, empty or
 * "yes".
 */
function mayUseAptGet(): boolean {
  // A NODROP_INSTALL that is set to any value other than "yes" forbids the installation.
  const isRefused = !['', 'yes'].includes(process.env.NODROP_INSTALL ?? '');
  if (isRefused || process.getuid?.() !== 0) return false;
  return spawnSync('apt-get', ['--version'], { stdio: 'ignore' }).status === 0;
}

async function aptGet(what: string, args: readonly string[]): Promise<boolean> {
  // If this process ends early, it stops apt-get with SIGINT, as Ctrl-C would. SIGKILL would leave packages half
  // installed.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const { ok, output } = await runVisibly(what, 'apt-get', args, { env, endBy: 'SIGINT' });
  if (!ok) console.error(`  apt-get failed: ${output.trim().split('\n').at(-1)}`);
  return ok;
}

/**
 * Updates apt-get's package lists, if this program may use apt-get without asking.
 * @returns true if the update succeeded.
 */
export const readPackageLists = async (): Promise<boolean> =>
  mayUseAptGet() && (await aptGet('Reading the package lists', ['update', '-q']));

/**
 * As root, announces and installs packages with apt-get. As another user, or with NODROP_INSTALL=no, does nothing. The
 * caller must check afterwards whether the program exists.
 */
export async function installSystemPackages(packages: readonly SystemPackage[]): Promise<void> {
  if (packages.length === 0 || !mayUseAptGet()) return;
  const list = packages.map(({ name, purpose }) => `${name} (${purpose})`).join(' and ');
  console.error(
    `Installing into this system, as root, with apt-get: ${list}. To prevent it, set NODROP_INSTALL=no.`,
  );
  await readPackageLists();
  for (const { name, options } of packages) {
    await aptGet(`Installing ${name}`, ['install', '-q', '-y', ...options, name]);
  }
}
