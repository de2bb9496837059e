import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hasMaven } from '../src/stack/build.ts';
import { makeCached } from '../src/stack/cache.ts';
import { StackError } from '../src/stack/errors.ts';
import { type CommandOptions, runVisibly } from '../src/stack/progress.ts';

/** Client generators in fixed versions. The tests generate clients with them, to check docs/openapi.json. */

export const GENERATORS = ['typescript', 'python', 'java'] as const;
export type Generator = (typeof GENERATORS)[number];

const TYPESCRIPT_GENERATOR = '7.13.0';
const PYTHON_GENERATOR = '0.29.1';
const JAVA_GENERATOR = '7.25.0';

interface Recipe {
  /** The name of the generator's entry in the cache. */
  readonly entry: string;
  /**
   * The programs that the machine must have, for example "Python 3.10 or newer with pip". If they are missing, the
   * generator is skipped.
   */
  readonly needs: string;
  readonly isPossible: () => boolean;
  /**
   * Installs the generator into the folder.
   * @returns the path that becomes the cache entry, or undefined on failure.
   */
  readonly make: (folder: string) => Promise<string | undefined>;
}

const succeeds = (command: string, ...args: string[]) =>
  spawnSync(command, args, { stdio: 'ignore' }).status === 0;

async function run(what: string, command: string, args: readonly string[], options: CommandOptions) {
  const { ok, output } = await runVisibly(what, command, args, options);
  if (!ok) console.error(`  ${command} failed: ${output.trim().split('\n').slice(-3).join(' ')}`);
  return ok;
}

const RECIPES: Readonly<Record<Generator, Recipe>> = {
  typescript: {
    entry: `generator-openapi-typescript-${TYPESCRIPT_GENERATOR}`,
    needs: 'npm',
    isPossible: () => succeeds('npm', '--version'),
    async make(folder) {
      // This file makes npm treat the folder as the project, instead of the folder in which npm was started.
      writeFileSync(join(folder, 'package.json'), '{}');
      const options = ['--no-save', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund'];
      const what = `Fetching openapi-typescript ${TYPESCRIPT_GENERATOR} from the npm registry`;
      // openapi-typescript needs a TypeScript version with the compiler API, which the project's version does not have.
      const packages = [
        `openapi-typescript@${TYPESCRIPT_GENERATOR}`,
        'openapi-fetch@0.17.0',
        'typescript@5.9.3',
      ];
      const args = ['install', '--prefix', folder, ...options, ...packages];
      const ok = await run(what, 'npm', args, { cwd: folder, note: '30 MB, once' });
      if (!ok) return undefined;
      const made = join(folder, 'made');
      mkdirSync(made);
      renameSync(join(folder, 'node_modules'), join(made, 'node_modules'));
      return made;
    },
  },
  python: {
    entry: `generator-openapi-python-client-${PYTHON_GENERATOR}`,
    needs: 'Python 3.11 or newer with pip',
    isPossible: () =>
      succeeds('python3', '-c', 'import sys; sys.exit(sys.version_info < (3, 11))') &&
      succeeds('python3', '-m', 'pip', '--version'),
    async make(folder) {
      const made = join(folder, 'made');
      const what = `Fetching openapi-python-client ${PYTHON_GENERATOR} from the Python registry`;
      // The generator is installed into a plain folder, because a virtual environment cannot be moved.
      const args = [
        '-m',
        'pip',
        'install',
        '--quiet',
        '--target',
        made,
        `openapi-python-client==${PYTHON_GENERATOR}`,
      ];
      return (await run(what, 'python3', args, { cwd: folder, note: '25 MB, once' })) ? made : undefined;
    },
  },
  java: {
    entry: `generator-openapi-generator-${JAVA_GENERATOR}`,
    needs: 'a JDK 11 or newer and Maven',
    isPossible: () => succeeds('javac', '--version') && hasMaven(),
    async make(folder) {
      const made = join(folder, 'made');
      writeFileSync(join(folder, 'pom.xml'), POM);
      const what = `Fetching openapi-generator ${JAVA_GENERATOR} from the Maven registry`;
      const options = ['--batch-mode', '--no-transfer-progress', `-DoutputDirectory=${made}`];
      const args = ['dependency:copy-dependencies', ...options];
      return (await run(what, 'mvn', args, { cwd: folder, note: '35 MB, once' })) ? made : undefined;
    },
  },
};

/**
 * A Maven project with the generator and the dependencies of generated clients. It leaves out the dependencies of the
 * generator, because the generator's jar already contains them.
 */
const POM = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>nodrop</groupId>
  <artifactId>generator</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.openapitools</groupId>
      <artifactId>openapi-generator-cli</artifactId>
      <version>${JAVA_GENERATOR}</version>
      <exclusions>
        <exclusion>
          <groupId>*</groupId>
          <artifactId>*</artifactId>
        </exclusion>
      </exclusions>
    </dependency>
${[
  ['com.fasterxml.jackson.core', 'jackson-databind', '2.21.5'],
  ['com.fasterxml.jackson.datatype', 'jackson-datatype-jsr310', '2.21.5'],
  ['org.openapitools', 'jackson-databind-nullable', '0.2.11'],
  ['com.google.code.findbugs', 'jsr305', '3.0.2'],
  ['jakarta.annotation', 'jakarta.annotation-api', '1.3.5'],
]
  .map(
    ([group, artifact, version]) =>
      `    <dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version></dependency>`,
  )
  .join('\n')}
  </dependencies>
</project>
`;

/** The folder of a generator in the cache; undefined when it is not installed there. */
export function lookUpGenerator(generator: Generator, cacheDir: string): string | undefined {
  const path = join(cacheDir, RECIPES[generator].entry);
  return existsSync(path) ? path : undefined;
}

/**
 * Installs a generator into the cache. If the machine lacks a program that the generator needs, prints which program,
 * and the generator's test is skipped.
 * @throws StackError when the generator's registry does not have it or cannot be reached.
 */
export async function obtainGenerator(generator: Generator, cacheDir: string): Promise<void> {
  if (lookUpGenerator(generator, cacheDir) !== undefined) return;
  const { entry, needs, isPossible, make } = RECIPES[generator];
  if (!isPossible()) {
    console.error(`The test of a generated client (${generator}) is skipped: it needs ${needs}.`);
    return;
  }
  if ((await makeCached(cacheDir, entry, make)) !== undefined) return;
  throw new StackError(
    `The client generator for ${generator} could not be installed: check that its registry can be reached, and run the command again.`,
  );
}
