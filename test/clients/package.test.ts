import { execFile } from 'node:child_process';
import {
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { setUp } from '../api/support.ts';

// Tests the package as a shop uses it: packed, and installed in an empty folder with the commands of its README.

const { api, key } = await setUp();

const root = fileURLToPath(new URL('../../', import.meta.url));
const programs = fileURLToPath(new URL('installed/', import.meta.url));
const readme = readFileSync(join(root, 'clients/js/README.md'), 'utf8');

let folder: string;
beforeAll(async () => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'nodrop-package-')));
  const [, install = ''] = /## Install\n[\s\S]*?```sh\n([\s\S]*?)```/.exec(readme) ?? [];
  expect(install).toContain('npm pack');
  await run('bash', ['-euc', install.replaceAll('~/my-shop', folder)], root);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/**
 * Runs a command.
 * @returns its stdout
 * @throws Error with the whole output if the command fails
 */
async function run(command: string, args: readonly string[], cwd = folder): Promise<string> {
  const { stdout } = await promisify(execFile)(command, args, { cwd, maxBuffer: 1 << 26 }).catch((error) => {
    throw new Error(`${command} failed: ${error.stdout}${error.stderr}`);
  });
  return stdout;
}

/**
 * Turns off `require` of ECMAScript modules if this version of Node has it. Older versions of Node 20 do not have it.
 */
const WITHOUT_REQUIRE_OF_MODULES = process.allowedNodeEnvironmentFlags.has('--experimental-require-module')
  ? ['--no-experimental-require-module']
  : [];

test.each([
  ['import', 'pay.mjs', ''],
  ['require', 'pay.cjs', 'cjs/'],
])('a program that loads the package with %s creates and reads a payment', async (_, program, place) => {
  cpSync(join(programs, program), join(folder, program));
  const said = await run(process.execPath, [...WITHOUT_REQUIRE_OF_MODULES, program, api.url, key]);
  const installed = join(folder, 'node_modules/@nodrop/client', place);
  expect(JSON.parse(said)).toEqual({
    id: expect.stringMatching(/^pay_/),
    orderState: 'open',
    code: 'payment_not_found',
    loaded: [join(installed, 'index.js'), join(installed, 'server.js')],
  });
});

test('the package contains its code and types, and packing it leaves no files in the repository', () => {
  const all = readdirSync(join(folder, 'node_modules/@nodrop/client'), { recursive: true, encoding: 'utf8' });
  const own = ['api.d.ts', 'index.d.ts', 'index.js', 'package.json', 'server.d.ts', 'server.js'];
  const both = [...own, ...own.map((name) => `cjs/${name}`)];
  expect(all.toSorted()).toEqual([...both, 'README.md', 'cjs'].toSorted());
  expect(readdirSync(join(root, 'clients/js'))).not.toContain('cjs');
});

test("the package's types contain no internal names", () => {
  const installed = join(folder, 'node_modules/@nodrop/client');
  for (const place of ['', 'cjs'])
    for (const name of ['index.d.ts', 'server.d.ts', 'api.d.ts']) {
      const text = readFileSync(join(installed, place, name), 'utf8');
      expect(text, join(place, name)).not.toMatch(/@internal|internal\.d\.ts/);
    }
});

describe('types', () => {
  /**
   * Compiles these files in the folder where the package is installed.
   * @returns the compiler's errors
   */
  async function complaints(files: Readonly<Record<string, string>>): Promise<string> {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    const options = ['--strict', '--exactOptionalPropertyTypes', '--noUncheckedIndexedAccess', '--noEmit'];
    const modules = ['--module', 'nodenext', '--target', 'es2022', '--lib', 'es2023,dom,dom.asynciterable'];
    const types = [
      '--typeRoots',
      join(root, 'node_modules/@types'),
      '--types',
      'node',
      '--skipLibCheck',
      'false',
    ];
    const tsc = join(root, 'node_modules/.bin/tsc');
    return await run(tsc, ['--ignoreConfig', ...options, ...modules, ...types, ...Object.keys(files)]).then(
      () => '',
      (error: Error) => error.message,
    );
  }

  test('describe the package, whether a program uses import or require', async () => {
    const text = readFileSync(join(programs, 'types.ts'), 'utf8');
    const required = `import { createClient } from '@nodrop/client';
      import { createServerClient, verifyEvent } from '@nodrop/client/server';
      export const made = [createClient, createServerClient, verifyEvent];`;
    expect(await complaints({ 'types.mts': text, 'required.cts': required })).toBe('');
  });

  test.each(['connect', 'pauseAfter', 'type Connected'])(
    'do not export the internal name %s',
    async (name) => {
      const text = `import { ${name} } from '@nodrop/client';\nexport {};\n`;
      for (const file of ['internal.mts', 'internal.cts'])
        expect(await complaints({ [file]: text })).toMatch(/error TS2305: Module .* has no exported member/);
    },
  );

  /**
   * Every block of JavaScript or TypeScript in the README and docs, together with the declarations in its comment
   * `with:`. If a block begins with the name of a file of this repository, the block is an excerpt of that file, and
   * test/contributing.test.ts compares the two.
   */
  const snippets = [
    'README.md',
    'CHANGELOG.md',
    ...pagesOf('docs'),
    ...pagesOf('clients'),
    ...pagesOf('examples'),
  ].flatMap((page) => {
    const text = readFileSync(join(root, page), 'utf8');
    const blocks = text.matchAll(
      /(?:<!-- with: (.*?) -->\s*)?^```(?:js|ts|mjs|javascript|typescript)\n(.*?)^```/gms,
    );
    return [...blocks]
      .filter(([, , code = '']) => !/^\/\/ \S+\.ts\n/.test(code))
      .map(([, declared = '', code = ''], index) => ({
        name: `${page.replaceAll(/\W+/g, '-')}-${index}.mts`,
        code: `${declared}\n${code}\nexport {};\n`,
      }));
  });

  function pagesOf(under: string): string[] {
    return readdirSync(join(root, under), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.md') && !name.includes('node_modules'))
      .map((name) => join(under, name));
  }

  test('allow the code snippets of all documentation pages to compile', async () => {
    expect(snippets.length).toBeGreaterThanOrEqual(6);
    // Shops install this package together with the client.
    symlinkSync(join(root, 'node_modules/standardwebhooks'), join(folder, 'node_modules/standardwebhooks'));
    const files = Object.fromEntries(snippets.map(({ name, code }) => [name, code]));
    expect(await complaints(files)).toBe('');
  });

  test('detect an error in a snippet', async () => {
    const [first] = snippets.filter(({ code }) => code.includes('createPayment'));
    const wrong =
      first?.code.replace('checkoutUrl', 'chekoutUrl').replace('createPayment', 'createPaiment') ?? '';
    expect(await complaints({ 'wrong.mts': wrong })).toContain('createPaiment');
  });
});
