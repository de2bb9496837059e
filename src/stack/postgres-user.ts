import { spawnSync } from 'node:child_process';
import { chownSync, statSync } from 'node:fs';
import { StackError } from './errors.ts';

/** How to run PostgreSQL's programs, which refuse to run as root. */
export interface PostgresUser {
  /** Put before the program and its arguments. */
  readonly prefix: readonly string[];
  /** For `spawn`. */
  readonly ids: { readonly uid?: number; readonly gid?: number };
  /** Makes a file or folder PostgreSQL's own. */
  own(path: string): void;
}

/**
 * Ourselves, unless we are root: then the owner of the data folder, else `postgres` or `nobody`. Under folders that
 * such a user may not enter (a clone under /root, a private temporary folder) the program keeps root's right to
 * pass folders, by `setpriv`.
 * @param dataDir may be missing yet.
 * @param paths what PostgreSQL must reach.
 * @throws StackError when there is no way.
 */
export function postgresUser(dataDir: string, paths: readonly string[]): PostgresUser {
  if (process.getuid?.() !== 0) return { prefix: [], ids: {}, own: () => {} };
  const { uid, gid } = ownerOf(dataDir) ?? lookUp('postgres') ?? lookUp('nobody') ?? noUser();
  const own = (path: string) => chownSync(path, uid, gid);
  const canReach = (command: readonly string[], ids: PostgresUser['ids']) => {
    const [program = '', ...args] = [...command, 'ls', '-d', '--', ...paths];
    return spawnSync(program, args, { ...ids, cwd: '/', stdio: 'ignore' }).status === 0;
  };
  if (canReach([], { uid, gid })) return { prefix: [], ids: { uid, gid }, own };
  // no_setuid_fixup: without it access(2), which PostgreSQL uses on its own program, ignores the capability.
  const prefix = [
    'setpriv',
    `--reuid=${uid}`,
    `--regid=${gid}`,
    '--clear-groups',
    '--inh-caps=+dac_override',
    '--ambient-caps=+dac_override',
    '--securebits=+no_setuid_fixup',
    '--',
  ];
  if (canReach(prefix, {})) return { prefix, ids: {}, own };
  throw new StackError(
    `PostgreSQL does not run as root, and user ${uid} cannot reach ${paths.join(' and ')}: run as another user, or keep the work tree and NODROP_HOME in folders that every user may enter.`,
  );
}

function ownerOf(dataDir: string) {
  const stats = statSync(dataDir, { throwIfNoEntry: false });
  return stats === undefined || stats.uid === 0 ? undefined : { uid: stats.uid, gid: stats.gid };
}

function lookUp(user: string) {
  const id = (flag: string) => spawnSync('id', [flag, user], { encoding: 'utf8' });
  const [uid, gid] = [id('-u'), id('-g')];
  return uid.status === 0 && gid.status === 0
    ? { uid: Number(uid.stdout), gid: Number(gid.stdout) }
    : undefined;
}

function noUser(): never {
  throw new StackError(
    'PostgreSQL does not run as root and there is no user postgres or nobody to run it as: run as another user, or set DATABASE_URL to a PostgreSQL of your own.',
  );
}
