import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

/**
 * Tests that NOTICE names every production package whose licence requires this: packages with a notice under the Apache
 * License 2.0, and packages under CC BY.
 */

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (...names: string[]) => readFileSync(join(root, ...names), 'utf8');
const notice = read('NOTICE');

interface Locked {
  readonly dev?: boolean;
  readonly devOptional?: boolean;
  readonly license?: string;
}
const { packages } = JSON.parse(read('package-lock.json')) as { packages: Record<string, Locked> };
/**
 * The production packages that are installed on this machine, without the TypeScript compiler. The image does not have
 * this compiler (deploy/prune-modules.mjs).
 */
const inProduction = Object.entries(packages).filter(
  ([path, { dev, devOptional }]) =>
    path !== '' && !dev && !devOptional && !path.includes('/@typescript/') && existsSync(join(root, path)),
);
const nameOf = (path: string) => path.split('node_modules/').at(-1) ?? path;

const noticeOf = (path: string) => readdirSync(join(root, path)).find((name) => /^notice/i.test(name));
const withNotice = inProduction.filter(([path]) => noticeOf(path) !== undefined);
const attributed = inProduction.filter(([, { license = '' }]) => /\bCC-BY/.test(license));

test('NOTICE contains the notice of every package that has one', () => {
  expect(withNotice.map(([path]) => nameOf(path))).toContain('swagger-ui-dist');
  for (const [path] of withNotice) {
    expect(notice).toContain(nameOf(path));
    const lines = read(path, noticeOf(path) ?? '').split('\n');
    for (const line of lines.map((text) => text.trim()).filter((text) => text !== '')) {
      expect(notice).toContain(line);
    }
  }
});

test('NOTICE names every package whose licence requires attribution', () => {
  expect(attributed.map(([path]) => nameOf(path))).toContain('caniuse-lite');
  for (const [path] of attributed) expect(notice).toContain(nameOf(path));
});

test('no production package has a licence with further requirements', () => {
  const known =
    /^(MIT|MIT\/X11|ISC|0BSD|BSD-[23]-Clause|Apache-2\.0|Apache-2\.0 AND MIT|Unlicense|BlueOak-1\.0\.0|CC-BY-4\.0|\(MIT OR CC0-1\.0\)|MIT,Apache2)$/;
  const licenses = inProduction.map(([path, { license }]) => [nameOf(path), license ?? readLicense(path)]);
  expect(licenses.filter(([, license]) => !known.test(license ?? ''))).toEqual([]);
});

/**
 * Reads the licence of a package whose licence is not in the lock file. Such a package states its licence in an old
 * form of package.json or only in its LICENSE file.
 */
function readLicense(path: string): string | undefined {
  const { license, licenses } = JSON.parse(read(path, 'package.json'));
  const text = existsSync(join(root, path, 'LICENSE')) ? read(path, 'LICENSE') : '';
  return (
    license ?? licenses?.[0]?.type ?? (/released into the public domain/.test(text) ? 'Unlicense' : undefined)
  );
}
