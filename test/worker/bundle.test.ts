import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { Worker } from '@temporalio/worker';
import { beforeAll, expect, test } from 'vitest';
import { bundleWorkflows, sourcesHash, workflowBundle } from '../../src/worker/bundle.ts';

/**
 * Tests the workflow bundle. Every thread of a worker holds the bundle, including the source map that the SDK
 * needs.
 */

let code: string;
beforeAll(async () => {
  ({ code } = await bundleWorkflows());
});

/**
 * Finds the source map in the bundle.
 * @returns the source map and its share of the bundle's size
 */
function sourceMapOf(bundle: string) {
  const at = bundle.lastIndexOf('//# sourceMappingURL=');
  const text = Buffer.from(
    bundle.slice(bundle.indexOf('base64,', at) + 'base64,'.length),
    'base64',
  ).toString();
  return { map: JSON.parse(text), part: (bundle.length - at) / bundle.length };
}

test("the bundle's source map names the source files, and does not contain their text", () => {
  const { map, part } = sourceMapOf(code);
  const own = map.sources.filter((source: string) => source.includes('src/workflows/'));
  expect(own).toContainEqual(expect.stringContaining('src/workflows/payment.ts'));
  expect(map.sourcesContent).toBeUndefined();
  expect(part).toBeLessThan(0.2);
});

test('a worker can run the bundle from a file, as in the container image', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'nodrop-bundle-'));
  try {
    const codePath = join(folder, 'workflow-bundle.js');
    writeFileSync(codePath, code);
    const histories = join(import.meta.dirname, '..', 'histories');
    const sweep = readdirSync(histories, { recursive: true })
      .map(String)
      .find((name) => /sweep.*\.json$/.test(name));
    const history = JSON.parse(readFileSync(join(histories, sweep ?? ''), 'utf8'));
    await Worker.runReplayHistory({ workflowBundle: { codePath } }, history);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a built worker without the prebuilt bundle does not start, and its error names the command that creates the bundle', async () => {
  await expect(workflowBundle('js')).rejects.toThrow(/workflow-bundle\.js is missing: run `npm run build`/);
});

test('a worker that runs from source creates the bundle in another process and keeps it, and the next worker uses the kept bundle', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'nodrop-bundle-'));
  try {
    const ofOtherCode = join(folder, 'workflow-bundle-0123456789abcdef.js');
    writeFileSync(ofOtherCode, 'of other code');
    expect(await workflowBundle('ts', folder)).toEqual({ code });

    const [kept = '', ...others] = readdirSync(folder);
    expect(others).toEqual([]);
    expect(kept).not.toBe(basename(ofOtherCode));
    writeFileSync(join(folder, kept), 'as it was left');
    expect(await workflowBundle('ts', folder)).toEqual({ code: 'as it was left' });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('the name of a kept bundle changes with every source file', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'nodrop-bundle-'));
  try {
    const source = join(folder, 'payment.ts');
    const hashes = new Set<string>();
    for (const content of ['one', 'two']) {
      writeFileSync(source, content);
      hashes.add(await sourcesHash([folder], []));
    }
    renameSync(source, join(folder, 'refund.ts'));
    hashes.add(await sourcesHash([folder], []));
    hashes.add(await sourcesHash([folder], [join(folder, 'refund.ts')]));
    expect(hashes.size).toBe(4);
    // This hash can be computed only if all source files of the real bundle exist.
    expect(await sourcesHash()).toMatch(/^[0-9a-f]{16}$/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
