import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
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

/** The extension of this file, which the workflow files share: `ts` from source, `js` from the build. */
const ownExtension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
const pathOf = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** The path of the bundle that `npm run build` writes, and that the container image contains. */
export const PREBUILT_BUNDLE = pathOf('./workflow-bundle.js');

/**
 * The workflow code for a worker. A built worker uses the prebuilt bundle, and fails if it is missing, so that a
 * missing build step is noticed. A worker from source bundles at its start, in a few seconds. It uses a process of its
 * own, because the bundler takes 100 MB, which this process would keep.
 * @param extension the extension of the worker's code
 * @throws ConfigError when a built worker has no prebuilt bundle.
 */
export async function workflowBundle(extension = ownExtension): Promise<WorkflowBundleOption> {
  if (extension === 'js') {
    if (existsSync(PREBUILT_BUNDLE)) return { codePath: PREBUILT_BUNDLE };
    throw new ConfigError(
      `The workflow bundle ${PREBUILT_BUNDLE} is missing: run \`npm run build\`, which makes it.`,
    );
  }
  const folder = await mkdtemp(join(tmpdir(), 'nodrop-bundle-'));
  try {
    const file = join(folder, 'workflow-bundle.js');
    await promisify(execFile)(process.execPath, [
      ...['--import', tsxLoader()],
      pathOf('./bundle-main.ts'),
      file,
    ]);
    return { code: await readFile(file, 'utf8') };
  } finally {
    await rm(folder, { recursive: true });
  }
}

/**
 * Bundles the workflow code in this process; takes a few seconds.
 * @param interceptors paths of modules that tests add
 */
export async function bundleWorkflows(interceptors: readonly string[] = []): Promise<WorkflowBundle> {
  const { code } = await bundleWorkflowCode({
    workflowsPath: pathOf(`../workflows/index.${ownExtension}`),
    workflowInterceptorModules: [...interceptors],
    logger: new DefaultLogger('WARN'),
    // The SDK needs a source map inside the bundle for stack traces, and every worker thread holds a copy. Without
    // sources and columns the map is a fifteenth of its size, and still gives file and line.
    webpackConfigHook: (config) => ({ ...config, devtool: 'inline-nosources-cheap-module-source-map' }),
  });
  return { code };
}
