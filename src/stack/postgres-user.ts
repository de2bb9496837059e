import { spawnSync } from 'node:child_process';
import { chownSync, statSync } from 'node:fs';
import { StackError } from './errors.ts';

/** The user that runs PostgreSQL's programs. This is never root, because the programs refuse to run as root. */
export interface PostgresUser {
  /** Command words that are placed before the program and its arguments. */
  readonly prefix: readonly string[];
  /** Options for `spawn`. */
  readonly ids: { readonly uid?: number; readonly gid?: number };
  /** Makes PostgreSQL's user the owner of a file or folder. */
  own(path: string): void;
}

/**
 * Chooses the user that runs PostgreSQL: the current user, if that is not root. If the current user is root, chooses
 * the owner of the data folder, or else `postgres` or `nobody`. That user may lack permission to enter a parent folder,
 * for example /root. In that case, `setpriv` lets the program keep root's permission to enter folders.
 * @param dataDir the data folder, which may not exist yet.
 * @param paths the paths that PostgreSQL must reach.
 * @throws StackError when no user can run PostgreSQL.
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
  // `no_setuid_fixup` is needed because PostgreSQL calls access(2) on its own program. Without this option, access(2)
  // ignores the capability.
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
