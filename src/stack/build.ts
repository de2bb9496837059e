import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { reason } from './errors.ts';
import { runVisibly } from './progress.ts';

/** The newest tag that `go install` accepts; later ones have a replace directive. */
export const CLI_VERSION = '1.5.1';
export const TEST_SERVER_VERSION = '1.38.0';
/** Fetched where a JDK is installed without it. */
const MAVEN = {
  version: '3.9.12',
  sha512:
    '0a1be79f02466533fc1a80abbef8796e4f737c46c6574ede5658b110899942a94db634477dfd3745501c80aef9aac0d4f841d38574373f7e2d24cce89d694f70',
} as const;
const FETCH_WITHIN_MS = 300_000;

/**
 * Builds the `temporal` program from the Go registry into the folder.
 * @returns its path, or undefined when that is not possible here.
 */
export async function buildCli(folder: string): Promise<string | undefined> {
  if (!runs('go', 'version')) {
    console.error('  Go is not installed, so the Temporal server cannot be built.');
    return undefined;
  }
  const { ok, output } = await runVisibly(
    `Building the Temporal server ${CLI_VERSION} from the Go registry`,
    'go',
    // -v: the package being compiled, for the progress lines.
    ['install', '-v', `github.com/temporalio/cli/cmd/temporal@v${CLI_VERSION}`],
    { env: { ...process.env, GOBIN: folder }, note: 'several minutes, once; Go keeps a build cache' },
  );
  const program = join(folder, process.platform === 'win32' ? 'temporal.exe' : 'temporal');
  if (ok && runs(program, '--version')) return program;
  console.error(`  The build of the Temporal server failed: ${lastLine(output)}`);
  return undefined;
}

/**
 * Puts the test server together from the Maven registry: a folder with its jars and the launcher `run`.
 * @returns the path of that folder, or undefined when that is not possible here.
 */
export async function buildTestServer(folder: string): Promise<string | undefined> {
  if (!runs('java', '-version')) {
    console.error('  Java is not installed, so the test server cannot be put together.');
    return undefined;
  }
  const maven = runs('mvn', '--version') ? 'mvn' : await fetchMaven(folder);
  if (maven === undefined) return undefined;
  const made = join(folder, 'made');
  mkdirSync(made);
  writeFileSync(join(folder, 'pom.xml'), POM);
  const { ok, output } = await runVisibly(
    `Fetching the test server ${TEST_SERVER_VERSION} from the Maven registry`,
    maven,
    [
      '--batch-mode',
      '--no-transfer-progress',
      'dependency:copy-dependencies',
      `-DoutputDirectory=${join(made, 'lib')}`,
    ],
    { cwd: folder, note: '40 MB, once' },
  );
  if (!ok) {
    console.error(`  Maven failed: ${lastLine(output)}`);
    return undefined;
  }
  writeFileSync(join(made, 'run'), LAUNCHER, { mode: 0o755 });
  return made;
}

/** Maven from its own registry, into the folder. @returns the path of its program, or undefined when it could not be had. */
async function fetchMaven(folder: string): Promise<string | undefined> {
  const { version, sha512 } = MAVEN;
  const name = `apache-maven-${version}`;
  const url = `https://maven.example/apache-maven/${version}/${name}-bin.tar.gz`;
  console.error(`Fetching Maven ${version} from the Maven registry (9 MB, once) ...`);
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(FETCH_WITHIN_MS) });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    const archive = new Uint8Array(await response.arrayBuffer());
    if (createHash('sha512').update(archive).digest('hex') !== sha512) throw new Error('another checksum');
    const file = join(folder, `${name}.tar.gz`);
    writeFileSync(file, archive);
    if (spawnSync('tar', ['-xzf', file, '-C', folder]).status !== 0) throw new Error('tar failed');
    return join(folder, name, 'bin', 'mvn');
  } catch (error) {
    console.error(`  Maven is not installed, and could not be fetched: ${reason(error)}`);
    return undefined;
  }
}

/** slf4j-nop: without a logger the server warns at every start. */
const POM = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>nodrop</groupId>
  <artifactId>test-server</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>io.temporal</groupId>
      <artifactId>temporal-test-server</artifactId>
      <version>${TEST_SERVER_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-nop</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
`;

/** The flags halve the start, which the SDK gives five seconds. */
const LAUNCHER = `#!/bin/sh
exec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$(dirname "$0")/lib/*" io.temporal.testserver.TestServer "$@"
`;

function runs(program: string, argument: string): boolean {
  return spawnSync(program, [argument], { stdio: 'ignore' }).status === 0;
}

function lastLine(output: string): string {
  return output.trim().split('\n').at(-1) ?? '';
}
