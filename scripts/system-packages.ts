import { spawnSync } from 'node:child_process';
import { runVisibly } from '../src/stack/progress.ts';

/** A package of Debian's. */
export interface SystemPackage {
  readonly name: string;
  /** As in "for the browser tests". */
  readonly purpose: string;
  readonly options: readonly string[];
}

export const CHROMIUM: SystemPackage = { name: 'chromium', purpose: 'for the browser tests', options: [] };
export const MAVEN: SystemPackage = {
  name: 'maven',
  purpose: 'for the time-skipping test server',
  options: ['--no-install-recommends'],
};
/** Its recommendations are the whole engine. */
export const COMPOSE: SystemPackage = {
  name: 'docker-compose',
  purpose: 'to check docker-compose.yml',
  options: ['--no-install-recommends'],
};

/** Where apt-get needs no question: as root, and not with NODROP_INSTALL=no. */
function mayUseAptGet(): boolean {
  // Another word than "yes" hardly asks for it.
  const isRefused = !['', 'yes'].includes(process.env.NODROP_INSTALL ?? '');
  if (isRefused || process.getuid?.() !== 0) return false;
  return spawnSync('apt-get', ['--version'], { stdio: 'ignore' }).status === 0;
}

async function aptGet(what: string, args: readonly string[]): Promise<boolean> {
  // Ended by Ctrl-C as if it ran in the foreground: killed, it would leave packages half installed.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const { ok, output } = await runVisibly(what, 'apt-get', args, { env, endBy: 'SIGINT' });
  if (!ok) console.error(`  apt-get failed: ${output.trim().split('\n').at(-1)}`);
  return ok;
}

/**
 * Has apt-get read its lists of packages, under the conditions of `installSystemPackages`.
 * @returns whether it did.
 */
export const readPackageLists = async (): Promise<boolean> =>
  mayUseAptGet() && (await aptGet('Reading the package lists', ['update', '-q']));

/**
 * Installs packages with apt-get where that needs no question, as root, and says so before it does it. Elsewhere, and
 * with NODROP_INSTALL=no, it does nothing; the caller looks whether the program is there then.
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
