import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { NODES } from '../scripts/nodes.ts';

/** Tests that package.json, README, the tests and the image agree on the supported versions of Node. */

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (name: string) => readFileSync(join(root, name), 'utf8');
const { engines } = JSON.parse(read('package.json'));

/**
 * Calls scripts/run.mjs with a program that does not exist, in a process that reports this version of Node.
 * @returns the stderr of scripts/run.mjs
 */
function answer(version: string) {
  const pretend = `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } })`;
  const args = ['--import', `data:text/javascript,${encodeURIComponent(pretend)}`];
  const script = [join(root, 'scripts', 'run.mjs'), 'nothing.ts'];
  return spawnSync(process.execPath, [...args, ...script], { encoding: 'utf8' }).stderr;
}

test('the image has one of the Node versions that the tests run on', () => {
  const images = [...read('Dockerfile').matchAll(/^FROM node:([\d.]+)/gm)].map(([, version]) => version);
  expect(images).toHaveLength(1);
  expect(NODES).toContain(images[0]);
});

test('README names the Node versions that package.json allows, and the Node versions that are tested', () => {
  const ranges = [...engines.node.matchAll(/(\^|>=)(\d+)\.(\d+)\.0/g)].map(([, kind, major, minor]) =>
    kind === '^'
      ? `${major} (${major}.${minor} or newer)`
      : `or ${minor === '0' ? major : `${major}.${minor}`} and newer`,
  );
  expect(ranges.length).toBeGreaterThan(0);
  expect(read('README.md')).toContain(`You need Node ${ranges.join(', ')}`);
  for (const version of NODES) expect(read('README.md')).toContain(`Node ${version}`);
  expect(JSON.parse(read('package-lock.json')).packages[''].engines).toEqual(engines);
});

test('the Prisma client and the migrations use the engine versions that are used at run time', () => {
  const { packages } = JSON.parse(read('package-lock.json'));
  const version = (name: string) => packages[`node_modules/${name}`].version;
  expect(version('prisma')).toBe(version('@prisma/client'));
  expect(version('@prisma/schema-engine-wasm')).toBe(version('@prisma/engines-version'));
});

test.each(['20.19.0', process.versions.node, ...NODES, '26.0.0'])('Node %s is allowed', (version) => {
  expect(answer(version)).toMatch(/nothing\.ts does not exist/);
});

test.each(['18.20.8', '20.18.3', '21.7.3', '22.11.0', '23.11.1'])('Node %s is refused', (version) => {
  expect(answer(version)).toBe(
    `nodrop needs Node ${engines.node} and this is ${version}: install one of those.\n`,
  );
});
