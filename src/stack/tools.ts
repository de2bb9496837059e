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

/** The version of the Temporal SDK. The SDK's version determines which server version it downloads. */
const SDK_VERSION: string = createRequire(import.meta.url)('@temporalio/client/package.json').version;

/** The oldest server version with the task matcher that temporal-server.ts enables. */
const OLDEST_SERVER = [1, 28] as const;

const DOWNLOADED_CLI = `temporal-sdk-${SDK_VERSION}`;
const BUILT_CLI = `temporal-${CLI_VERSION}`;
const DOWNLOADED_TEST_SERVER = `temporal-test-server-sdk-${SDK_VERSION}`;
const BUILT_TEST_SERVER = `temporal-test-server-${TEST_SERVER_VERSION}`;

/**
 * Looks for a `temporal` program on this machine. First looks at the configured program, then on PATH, then in the
 * project's cache.
 * @returns the path of the program, or undefined when there is none.
 * @throws StackError when the configured program does not run.
 */
export function lookUpTemporalCli({ temporalCli, cacheDir }: ToolSettings): string | undefined {
  if (temporalCli !== undefined) {
    if (serverVersion(temporalCli) !== undefined) return temporalCli;
    throw new StackError(
      `NODROP_TEMPORAL_CLI is ${temporalCli}, which does not run as the temporal program: correct or unset it.`,
    );
  }
  if (isRecent(serverVersion('temporal'))) return 'temporal';
  return [BUILT_CLI, DOWNLOADED_CLI]
    .map((name) => join(cacheDir, name))
    .find((path) => existsSync(path) && isRecent(serverVersion(path)));
}

/**
 * Like `lookUpTemporalCli`, but if there is no program, downloads it with the SDK, or builds it from the Go registry.
 * The download and the build print their progress and store the result in the cache. @throws StackError when both fail.
 */
export async function findTemporalCli(settings: ToolSettings): Promise<string> {
  const found = lookUpTemporalCli(settings);
  if (found !== undefined) return found;
  const { cacheDir } = settings;
  console.error(
    'The Temporal server is not on this machine yet. It is downloaded or built once, and kept for every clone.',
  );
  return (
    (await makeCached(cacheDir, DOWNLOADED_CLI, async (folder) => {
      const path = await downloadBySdk('cli', 'the Temporal server', folder);
      return path !== undefined && isRecent(serverVersion(path)) ? path : undefined;
    })) ??
    (await makeCached(cacheDir, BUILT_CLI, buildCli)) ??
    missing('Temporal server', 'Go 1.25 or newer', 'NODROP_TEMPORAL_CLI')
  );
}

/**
 * Looks for a launcher of Temporal's time-skipping test server, which takes the port as its argument. First
 * looks at the configured launcher, then in the project's cache.
 * @returns the path of the launcher, or undefined when there is none.
 * @throws StackError when the configured launcher does not exist.
 */
export function lookUpTestServer({ testServer, cacheDir }: ToolSettings): string | undefined {
  if (testServer !== undefined) {
    if (existsSync(testServer)) return testServer;
    throw new StackError(`NODROP_TEST_SERVER is ${testServer}, which does not exist: correct or unset it.`);
  }
  return [join(cacheDir, DOWNLOADED_TEST_SERVER), join(cacheDir, BUILT_TEST_SERVER, 'run')].find((path) =>
    existsSync(path),
  );
}

/**
 * Like `lookUpTestServer`, but if there is no launcher, downloads the server with the SDK, or assembles it from the
 * Maven registry.
 * @throws StackError when both the download and the assembly fail.
 */
export async function findTestServer(settings: ToolSettings): Promise<string> {
  const found = lookUpTestServer(settings);
  if (found !== undefined) return found;
  const { cacheDir } = settings;
  console.error(
    'The time-skipping test server is not on this machine yet. It is downloaded or built once, and kept for every clone.',
  );
  const download = await makeCached(cacheDir, DOWNLOADED_TEST_SERVER, (folder) =>
    downloadBySdk('test-server', 'the test server', folder),
  );
  if (download !== undefined) return download;
  const build = await makeCached(cacheDir, BUILT_TEST_SERVER, buildTestServer);
  if (build !== undefined) return join(build, 'run');
  return missing('time-skipping test server', 'a JDK and Maven', 'NODROP_TEST_SERVER');
}

/** The version of the server inside a `temporal` program, or undefined when the program does not run. */
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
