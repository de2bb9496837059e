import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeCached } from '../../src/stack/cache.ts';
import { runVisibly } from '../../src/stack/progress.ts';
import { toolSettings } from '../support/tool-settings.ts';
import type { ReceiverStart } from './support.ts';

/**
 * A language of the quickstarts other than JavaScript, with the tools that its examples need and the commands to run
 * them.
 */
export interface Language {
  readonly name: 'python' | 'php' | 'java';
  readonly needs: string;
  isHere(): boolean;
  /** Installs the receiver's libraries once for all clones of the repository. */
  receiver(): Promise<ReceiverStart>;
}

const folderOf = (name: Language['name']) =>
  fileURLToPath(new URL(`../../examples/quickstart-${name}`, import.meta.url));
const succeeds = (command: string, ...args: string[]) =>
  spawnSync(command, args, { stdio: 'ignore' }).status === 0;

/**
 * Installs the quickstart's libraries into a cache folder. The folder's name
 * is a hash of the file that lists the libraries.
 * @throws Error if the registry cannot be reached. Otherwise a run without the libraries would look complete.
 */
async function libraries(
  name: Language['name'],
  list: string,
  command: string,
  argsFor: (target: string) => readonly string[],
): Promise<string> {
  const file = join(folderOf(name), list);
  const hash = createHash('sha256').update(readFileSync(file)).digest('hex').slice(0, 16);
  const { cacheDir } = toolSettings();
  const entry = `quickstart-${name}-${hash}`;
  if (existsSync(join(cacheDir, entry))) return join(cacheDir, entry);
  const made = await makeCached(cacheDir, entry, async (folder) => {
    copyFileSync(file, join(folder, list));
    const target = join(folder, 'made');
    const what = `Fetching the libraries of the ${name} quickstart`;
    const { ok, output } = await runVisibly(what, command, [...argsFor(target)], {
      cwd: folder,
      note: '10 MB, once',
    });
    if (!ok) throw new Error(`${command} failed: ${output.trim().split('\n').slice(-5).join('\n')}`);
    return target;
  });
  if (made === undefined) throw new Error(`The libraries of the ${name} quickstart are missing.`);
  return made;
}

export const LANGUAGES: readonly Language[] = [
  {
    name: 'python',
    needs: 'Python 3.10 or newer with pip and venv',
    isHere: () =>
      succeeds('python3', '-c', 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))') &&
      succeeds('python3', '-m', 'pip', '--version'),
    async receiver() {
      const args = (target: string) => [
        '-m',
        'pip',
        'install',
        '-q',
        '--target',
        target,
        '-r',
        'requirements.txt',
      ];
      const path = await libraries('python', 'requirements.txt', 'python3', args);
      return {
        entry: () => ['python3', join(folderOf('python'), 'receiver.py')],
        payer: ['python3', join(folderOf('python'), 'pay.py')],
        env: { PYTHONPATH: path, PYTHONDONTWRITEBYTECODE: '1' },
      };
    },
  },
  {
    name: 'php',
    needs: 'PHP 8.1 or newer with its extension pgsql',
    isHere: () =>
      succeeds('php', '-r', 'exit(PHP_VERSION_ID >= 80100 && extension_loaded("pgsql") ? 0 : 1);'),
    async receiver() {
      return {
        entry: (port, host) => ['php', '-S', `${host}:${port}`, join(folderOf('php'), 'receiver.php')],
        payer: ['php', join(folderOf('php'), 'pay.php')],
      };
    },
  },
  {
    name: 'java',
    needs: 'a JDK 17 or newer and Maven',
    isHere: () => succeeds('javac', '--release', '17', '--version') && succeeds('mvn', '--version'),
    async receiver() {
      const args = (target: string) => [
        '--batch-mode',
        '--no-transfer-progress',
        'dependency:copy-dependencies',
        `-DoutputDirectory=${target}`,
      ];
      const path = await libraries('java', 'pom.xml', 'mvn', args);
      const java = (file: string) => ['java', '-cp', join(path, '*'), join(folderOf('java'), file)] as const;
      return { entry: () => java('Receiver.java'), payer: java('Pay.java') };
    },
  },
];
