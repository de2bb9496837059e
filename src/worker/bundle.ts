import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import {
  bundleWorkflowCode,
  DefaultLogger,
  type WorkflowBundle,
  type WorkflowBundleOption,
} from '@temporalio/worker';
import { ConfigError } from '../config.ts';
import { tsxLoader } from '../tsx.ts';

/** This file has the extension that the workflows have: .ts from source, .js from the build. */
const ownExtension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
const pathOf = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** Where `npm run build` puts the bundle, and the image has it. */
export const PREBUILT_BUNDLE = pathOf('./workflow-bundle.js');

/** Where workers from source keep theirs: it goes with the dependencies. */
const KEPT = pathOf('../../node_modules/.cache/nodrop');
const PREFIX = 'workflow-bundle-';

/**
 * The workflow code as a worker runs it: the prebuilt bundle. A worker from source takes the bundle that one before it
 * has made of the same code; the first one bundles, in a few seconds and in a process of its own: the bundler takes
 * 100 MB, which Node would keep. A built one does not: it would take the time and the memory at every start, and nobody
 * would see that a step of the build is missing.
 * @param extension of the worker's code
 * @param kept the folder where bundles of workers from source are
 * @throws ConfigError when a built worker has no prebuilt bundle.
 */
export async function workflowBundle(extension = ownExtension, kept = KEPT): Promise<WorkflowBundleOption> {
  if (extension === 'js') {
    if (existsSync(PREBUILT_BUNDLE)) return { codePath: PREBUILT_BUNDLE };
    throw new ConfigError(
      `The workflow bundle ${PREBUILT_BUNDLE} is missing: run \`npm run build\`, which makes it.`,
    );
  }
  const name = `${PREFIX}${await sourcesHash()}.js`;
  const before = await readFile(join(kept, name), 'utf8').catch(() => undefined);
  if (before !== undefined) return { code: before };
  const folder = await mkdtemp(join(tmpdir(), 'nodrop-bundle-'));
  try {
    const file = join(folder, 'workflow-bundle.js');
    await promisify(execFile)(process.execPath, [
      ...['--import', tsxLoader()],
      pathOf('./bundle-main.ts'),
      file,
    ]);
    const code = await readFile(file, 'utf8');
    // Where it cannot be kept, the next worker bundles again.
    await keep(kept, name, code).catch(() => undefined);
    return { code };
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Written aside and renamed, as workers may start at once; those of code that is no more are removed. */
async function keep(folder: string, name: string, code: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const draft = join(folder, `making-${process.pid}-${name}`);
  await writeFile(draft, code);
  await rename(draft, join(folder, name));
  const others = (await readdir(folder)).filter((other) => other.startsWith(PREFIX) && other !== name);
  await Promise.all(others.map((other) => rm(join(folder, other), { force: true })));
}

/** Of everything that a bundle is made of: the workflows, what they import, the dependencies, and how it is bundled. */
async function sourcesHash(): Promise<string> {
  const hash = createHash('sha256');
  for (const folder of ['../workflows', '../domain'].map(pathOf)) {
    for (const name of (await readdir(folder, { recursive: true })).sort()) {
      if (name.endsWith('.ts')) hash.update(`${name}\n`).update(await readFile(join(folder, name)));
    }
  }
  for (const path of ['./bundle.ts', './bundle-main.ts', '../../package-lock.json'].map(pathOf)) {
    hash.update(await readFile(path));
  }
  return hash.digest('hex').slice(0, 16);
}

/** Bundles the workflow code in this process; takes a few seconds. @param interceptors paths of modules of the tests */
export async function bundleWorkflows(interceptors: readonly string[] = []): Promise<WorkflowBundle> {
  const { code } = await bundleWorkflowCode({
    workflowsPath: pathOf(`../workflows/index.${ownExtension}`),
    workflowInterceptorModules: [...interceptors],
    logger: new DefaultLogger('WARN'),
    // The SDK wants a source map inside the bundle, for stack traces, and every worker thread holds it. Without the
    // sources and the columns it is a fifteenth of its size, and still says file and line.
    webpackConfigHook: (config) => ({ ...config, devtool: 'inline-nosources-cheap-module-source-map' }),
  });
  return { code };
}
