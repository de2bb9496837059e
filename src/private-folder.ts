import { chmodSync, mkdirSync, statSync } from 'node:fs';

/**
 * Creates a folder and its missing parents. Only the owner of the folder may enter it. If the folder exists, removes
 * the permissions of its group and of other users.
 * @throws Error if the folder cannot be created, belongs to another user, or is a shared folder in which all users can
 * write (`/tmp`).
 */
export function privateFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const { mode } = statSync(path);
  if ((mode & 0o1002) === 0o1002) throw new Error('all users of this machine write there');
  if ((mode & 0o077) !== 0) chmodSync(path, mode & 0o700);
}
