import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { emptyFolder } from '../src/demo/environment.ts';
import { privateFolder } from '../src/private-folder.ts';
import { makeEmbeddedSecrets } from '../src/stack/embedded-secrets.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nodrop-private-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8);

test('new folders, and the parents that are created with them, are accessible only to their owner', () => {
  const path = join(folder, 'a', 'b');
  privateFolder(path);
  expect([modeOf(path), modeOf(dirname(path))]).toEqual(['700', '700']);
});

test.each([
  [0o755, '700'],
  [0o777, '700'],
  [0o700, '700'],
  // Rights are only removed, never added.
  [0o550, '500'],
])('an existing folder with the mode %o gets the mode %s', (before, after) => {
  const path = join(folder, 'existing');
  mkdirSync(path);
  chmodSync(path, before);
  privateFolder(path);
  expect(modeOf(path)).toBe(after);
});

test('a folder that all users can write to, such as /tmp, is refused and keeps its mode', () => {
  chmodSync(folder, 0o1777);
  expect(() => privateFolder(folder)).toThrow('all users of this machine write there');
  expect(() => makeEmbeddedSecrets(folder)).toThrow(
    `NODROP_HOME is wrong: ${folder} cannot be used (all users of this machine write there).`,
  );
  expect(modeOf(folder)).toBe('777');
});

test('an existing data folder becomes private when secrets are created in it, and when its demo folder is emptied', () => {
  makeEmbeddedSecrets(folder);
  chmodSync(folder, 0o755);
  makeEmbeddedSecrets(folder);
  expect(modeOf(folder)).toBe('700');

  chmodSync(folder, 0o755);
  mkdirSync(join(folder, 'demo', 'logs'), { recursive: true });
  emptyFolder(join(folder, 'demo'));
  expect(modeOf(folder)).toBe('700');
});
