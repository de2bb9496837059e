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

/** The extension of this file: `ts` from source, `js` from the build. The workflow files have the same extension. */
const ownExtension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
const pathOf = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** The path of the bundle. `npm run build` writes it, and the container image contains it. */
export const PREBUILT_BUNDLE = pathOf('./workflow-bundle.js');

/**
 * The folder in which workers that run from source keep their bundle. If the dependencies are removed, this folder is
 * removed with them.
 */
const KEPT = pathOf('../../node_modules/.cache/nodrop');
const PREFIX = 'workflow-bundle-';

/**
 * Returns the workflow code for a worker. A built worker uses the prebuilt bundle. If that bundle is missing, the
 * worker fails, so that a missing build step is noticed. A worker that runs from source uses the bundle that an earlier
 * worker made from the same code. If that bundle does not exist, the worker makes it, which takes a few seconds. The
 * bundle is made in a separate process, because the bundler takes 100 MB of memory, which this process would keep.
 * @param extension the extension of the worker's code
 * @param kept the folder in which workers that run from source keep their bundles
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
    // If the bundle cannot be written to the folder, the next worker bundles the code again.
    await keep(kept, name, code).catch(() => undefined);
    return { code };
  } finally {
    await rm(folder, { recursive: true });
  }
}

/**
 * Writes the bundle to a draft file and then renames the file, because several workers may start at the same time. Also
 * removes the bundles of other versions of the code.
 */
async function keep(folder: string, name: string, code: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const draft = join(folder, `making-${process.pid}-${name}`);
  await writeFile(draft, code);
  await rename(draft, join(folder, name));
  const others = (await readdir(folder)).filter((other) => other.startsWith(PREFIX) && other !== name);
  await Promise.all(others.map((other) => rm(join(folder, other), { force: true })));
}

/** The folders with the sources of the bundle. Workflow code imports no other code of nodrop. */
const FOLDERS = ['../workflows', '../domain'].map(pathOf);
/** The files whose code makes the bundle, and the file that lists the versions of the dependencies. */
const FILES = ['./bundle.ts', './bundle-main.ts', '../../package-lock.json'].map(pathOf);

/** A hash over all sources of the bundle. It changes if a source file is added, renamed, removed or changed. */
export async function sourcesHash(folders = FOLDERS, files = FILES): Promise<string> {
  const hash = createHash('sha256');
  for (const folder of folders) {
    for (const name of (await readdir(folder, { recursive: true })).sort()) {
      if (name.endsWith('.ts')) hash.update(`${name}\n`).update(await readFile(join(folder, name)));
    }
  }
  for (const path of files) hash.update(await readFile(path));
  return hash.digest('hex').slice(0, 16);
}

/**
 * Bundles the workflow code in this process, which takes a few seconds.
 * @param interceptors paths of modules that tests add
 */
export async function bundleWorkflows(interceptors: readonly string[] = []): Promise<WorkflowBundle> {
  const { code } = await bundleWorkflowCode({
    workflowsPath: pathOf(`../workflows/index.${ownExtension}`),
    workflowInterceptorModules: [...interceptors],
    logger: new DefaultLogger('WARN'),
    // The SDK needs a source map inside the bundle for stack traces, and every worker thread holds a copy of the map. A
    // map without sources and columns is 15 times smaller, and still gives the file and the line.
    webpackConfigHook: (config) => ({ ...config, devtool: 'inline-nosources-cheap-module-source-map' }),
  });
  return { code };
}
