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

/**
 * Installs packages with apt-get where that needs no question, as root, and says so before it does it. Elsewhere, and
 * with NODROP_INSTALL=no, it does nothing; the caller looks whether the program is there then.
 */
export async function installSystemPackages(packages: readonly SystemPackage[]): Promise<void> {
  // Another word than "yes" hardly asks for it.
  const isRefused = !['', 'yes'].includes(process.env.NODROP_INSTALL ?? '');
  if (packages.length === 0 || isRefused || process.getuid?.() !== 0) return;
  if (spawnSync('apt-get', ['--version'], { stdio: 'ignore' }).status !== 0) return;
  const list = packages.map(({ name, purpose }) => `${name} (${purpose})`).join(' and ');
  console.error(
    `Installing into this system, as root, with apt-get: ${list}. To prevent it, set NODROP_INSTALL=no.`,
  );
  // Ended by Ctrl-C as if it ran in the foreground: killed, it would leave packages half installed.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const steps = [
    ['Reading the package lists', ['update', '-q']] as const,
    ...packages.map(
      ({ name, options }) => [`Installing ${name}`, ['install', '-q', '-y', ...options, name]] as const,
    ),
  ];
  for (const [what, args] of steps) {
    const { ok, output } = await runVisibly(what, 'apt-get', args, { env, endBy: 'SIGINT' });
    if (!ok) console.error(`  apt-get failed: ${output.trim().split('\n').at(-1)}`);
  }
}
