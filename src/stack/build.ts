import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runVisibly } from './progress.ts';

/**
 * The newest version of `temporal` that `go install` accepts. Later versions have a replace directive, which `go
 * install` rejects.
 */
export const CLI_VERSION = '1.5.1';
export const TEST_SERVER_VERSION = '1.38.0';

/**
 * Builds the `temporal` program from the Go registry into the folder.
 * @returns the path of the program, or undefined when Go is missing or the build fails.
 */
export async function buildCli(folder: string): Promise<string | undefined> {
  if (!runs('go', 'version')) {
    console.error('  Go is not installed, so the Temporal server cannot be built.');
    return undefined;
  }
  const { ok, output } = await runVisibly(
    `Building the Temporal server ${CLI_VERSION} from the Go registry`,
    'go',
    // With `-v`, Go prints the name of each package that it compiles. The progress lines show this output.
    ['install', '-v', `github.com/temporalio/cli/cmd/temporal@v${CLI_VERSION}`],
    { env: { ...process.env, GOBIN: folder }, note: 'several minutes, once; Go keeps a build cache' },
  );
  const program = join(folder, process.platform === 'win32' ? 'temporal.exe' : 'temporal');
  if (ok && runs(program, '--version')) return program;
  console.error(`  The build of the Temporal server failed: ${lastLine(output)}`);
  return undefined;
}

/**
 * Assembles the test server from the Maven registry: a folder with its jars and the launcher script `run`.
 * @returns the path of that folder, or undefined when Java or Maven is missing or Maven fails.
 */
export async function buildTestServer(folder: string): Promise<string | undefined> {
  if (!runs('java', '-version') || !hasMaven()) {
    console.error('  The test server needs Java and Maven, and at least one of them is not installed.');
    return undefined;
  }
  const made = join(folder, 'made');
  mkdirSync(made);
  writeFileSync(join(folder, 'pom.xml'), POM);
  const { ok, output } = await runVisibly(
    `Fetching the test server ${TEST_SERVER_VERSION} from the Maven registry`,
    'mvn',
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

/** The build includes slf4j-nop, because without a logger the test server prints a warning at every start. */
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

/**
 * These `java` flags halve the start time of the test server. This matters because the SDK waits at most 5 s for the
 * start.
 */
const LAUNCHER = `#!/bin/sh
exec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$(dirname "$0")/lib/*" io.temporal.testserver.TestServer "$@"
`;

/** True if `mvn` can be run on this machine. */
export const hasMaven = (): boolean => runs('mvn', '--version');

function runs(program: string, argument: string): boolean {
  return spawnSync(program, [argument], { stdio: 'ignore' }).status === 0;
}

function lastLine(output: string): string {
  return output.trim().split('\n').at(-1) ?? '';
}
