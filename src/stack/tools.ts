import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Config } from '../config.ts';
import { buildCli, buildTestServer, CLI_VERSION, TEST_SERVER_VERSION } from './build.ts';
import { makeCached } from './cache.ts';
import { downloadBySdk } from './download.ts';
import { StackError } from './errors.ts';

type ToolSettings = Pick<Config['stack'], 'temporalCli' | 'testServer' | 'cacheDir'>;

/** The SDK chooses what it downloads by its own version. */
const SDK_VERSION: string = createRequire(import.meta.url)('@temporalio/client/package.json').version;

/** The first server with the task matching that `temporal.ts` asks for. */
const OLDEST_SERVER = [1, 28] as const;

/**
 * The path of a `temporal` program: the configured one, else the one on PATH, the project's cache, the SDK's
 * download, a build from the Go registry. The last two take time, say so, and fill the cache.
 * @throws StackError when none of them is possible.
 */
export async function findTemporalCli({ temporalCli, cacheDir }: ToolSettings): Promise<string> {
  if (temporalCli !== undefined) {
    const version = serverVersion(temporalCli);
    if (version !== undefined) return temporalCli;
    throw new StackError(
      `NODROP_TEMPORAL_CLI is ${temporalCli}, which does not run as the temporal program: correct or unset it.`,
    );
  }
  if (isRecent(serverVersion('temporal'))) return 'temporal';
  const downloaded = `temporal-sdk-${SDK_VERSION}`;
  const built = `temporal-${CLI_VERSION}`;
  for (const name of [built, downloaded]) {
    const path = join(cacheDir, name);
    if (existsSync(path) && isRecent(serverVersion(path))) return path;
  }
  console.error(
    'The Temporal server is not on this machine yet; it is obtained once and kept for every clone.',
  );
  return (
    (await makeCached(cacheDir, downloaded, async (folder) => {
      const path = await downloadBySdk('cli', 'the Temporal server', folder);
      return path !== undefined && isRecent(serverVersion(path)) ? path : undefined;
    })) ??
    (await makeCached(cacheDir, built, buildCli)) ??
    missing('Temporal server', 'Go 1.25 or newer', 'NODROP_TEMPORAL_CLI')
  );
}

/**
 * The path of a launcher of Temporal's time-skipping test server, which takes the port as its argument: the
 * configured one, else the project's cache, the SDK's download, one put together from the Maven registry.
 * @throws StackError when none of them is possible.
 */
export async function findTestServer({ testServer, cacheDir }: ToolSettings): Promise<string> {
  if (testServer !== undefined) {
    if (existsSync(testServer)) return testServer;
    throw new StackError(`NODROP_TEST_SERVER is ${testServer}, which does not exist: correct or unset it.`);
  }
  const downloaded = `temporal-test-server-sdk-${SDK_VERSION}`;
  const built = `temporal-test-server-${TEST_SERVER_VERSION}`;
  if (existsSync(join(cacheDir, downloaded))) return join(cacheDir, downloaded);
  if (existsSync(join(cacheDir, built))) return join(cacheDir, built, 'run');
  console.error(
    'The time-skipping test server is not on this machine yet; it is obtained once for every clone.',
  );
  const download = await makeCached(cacheDir, downloaded, (folder) =>
    downloadBySdk('test-server', 'the test server', folder),
  );
  if (download !== undefined) return download;
  const build = await makeCached(cacheDir, built, buildTestServer);
  if (build !== undefined) return join(build, 'run');
  return missing('time-skipping test server', 'a JDK and Maven', 'NODROP_TEST_SERVER');
}

/** The version of the server inside a `temporal` program, or undefined when it does not run. */
function serverVersion(path: string): readonly [number, number] | undefined {
  const { status, stdout } = spawnSync(path, ['--version'], { encoding: 'utf8', timeout: 20_000 });
  const version = status === 0 ? /Server (\d+)\.(\d+)/.exec(stdout) : null;
  return version === null ? undefined : [Number(version[1]), Number(version[2])];
}

function isRecent(version: readonly [number, number] | undefined): boolean {
  if (version === undefined) return false;
  const [major, minor] = version;
  return major > OLDEST_SERVER[0] || (major === OLDEST_SERVER[0] && minor >= OLDEST_SERVER[1]);
}

function missing(what: string, build: string, setting: string): never {
  throw new StackError(
    `The ${what} could be neither found, downloaded nor built: open the network to its download, install ${build} with a reachable registry, or set ${setting} to one of your own.`,
  );
}
