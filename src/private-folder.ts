import { chmodSync, mkdirSync, statSync } from 'node:fs';

/**
 * Makes a folder that its owner alone may enter, with those above it that are missing; from one that exists the rights
 * of all others are taken.
 * @throws Error when it cannot be made, belongs to another user, or is one that all users write to (`/tmp`).
 */
export function privateFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const { mode } = statSync(path);
  if ((mode & 0o1002) === 0o1002) throw new Error('all users of this machine write there');
  if ((mode & 0o077) !== 0) chmodSync(path, mode & 0o700);
}
