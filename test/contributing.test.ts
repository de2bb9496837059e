import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';

/** Tests the pages for contributors, the rules for test files, and the files that configure development tools. */

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (name: string) => readFileSync(join(root, name), 'utf8');
const named = (page: string, pattern: RegExp) =>
  [...read(page).matchAll(pattern)].map(([, found = '']) => found);

const FOLDER = 'docs/contributing';
const pages = readdirSync(join(root, FOLDER)).filter((name) => name.endsWith('.md') && name !== 'README.md');

describe('docs/contributing', () => {
  test('README lists every page', () => {
    expect(named(`${FOLDER}/README.md`, /\]\(([\w-]+\.md)\)/g).sort()).toEqual(pages.sort());
  });

  /** Matches paths from the root. A text with a space or a placeholder is not a path. */
  const PATH = /`((?:src|test|docs|prisma|scripts|clients|deploy|bench|examples)\/[\w./-]+)`/g;

  test.each(pages)('every file that %s names exists', (page) => {
    const paths = named(`${FOLDER}/${page}`, PATH);
    expect(paths.length).toBeGreaterThan(2);
    // The first command in a clone creates src/generated.
    expect(paths.filter((path) => path !== 'src/generated' && !existsSync(join(root, path)))).toEqual([]);
  });

  test.each(['CONTRIBUTING.md', ...pages.map((page) => `${FOLDER}/${page}`)])(
    'every command of %s exists',
    (page) => {
      const { scripts } = JSON.parse(read('package.json'));
      expect(named(page, /npm run ([\w:]*\w)/g).filter((name) => scripts[name] === undefined)).toEqual([]);
    },
  );
});

test('code that docs/channels quotes is in the file that the page names', () => {
  const blocks = [...read('docs/channels/writing-one.md').matchAll(/^```ts\n\/\/ (\S+)\n([\s\S]+?)^```$/gm)];
  expect(blocks.length).toBeGreaterThan(3);
  // The comparison ignores white space, because the formatter breaks the lines of an excerpt differently.
  const lines = (text: string) => text.replace(/\s+|,(?=\s*[)\]}])/g, '');
  for (const [, file = '', code = ''] of blocks) expect(lines(read(file))).toContain(lines(code));
});

test('the index of decisions lists every decision with its number and title, in order', () => {
  const files = readdirSync(join(root, 'docs/decisions')).filter((name) => name !== 'README.md');
  const lines = files.sort().map((name) => {
    const [, number, title] = /^# (\d{4}): (.+)\n/.exec(read(`docs/decisions/${name}`)) ?? [];
    expect(name, 'number of the title').toMatch(new RegExp(`^${number}-`));
    return `- [${number}](${name}): ${title}`;
  });
  expect(read('docs/decisions/README.md').match(/^- .*$/gm)).toEqual(lines);
});

describe('test files', () => {
  const files = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
    .map((name) => `test/${name.replaceAll('\\', '/')}`)
    .filter((name) => name.endsWith('.test.ts'));

  test('are split by behaviour before they exceed 400 lines', () => {
    expect(files.length).toBeGreaterThan(100);
    expect(files.filter((name) => read(name).trimEnd().split('\n').length > 400)).toEqual([]);
  });

  /**
   * These files may create databases themselves, because they have a test that needs a second database, or that tests
   * the creation of databases.
   */
  const OWN_SET_UP = [
    'test/api/process.test.ts',
    'test/stack/support.test.ts',
    'test/stack/upgrade-ledger.test.ts',
    'test/system/rate.test.ts',
  ];

  test('set up databases and servers with `useDatabase` and `useHarness`', () => {
    const making = files.filter((name) => /\b(?:freshDatabase|startHarness)\(/.test(read(name)));
    expect(making.sort()).toEqual(OWN_SET_UP);
  });
});

test('a test file that needs no server starts no server', () => {
  const vitest = ['node_modules/vitest/vitest.mjs', 'run', 'test/domain/delivery.test.ts'];
  const { status, stdout } = spawnSync(process.execPath, vitest, { cwd: root, encoding: 'utf8' });
  expect(status, stdout).toBe(0);
  expect(stdout).not.toContain('Starting PostgreSQL');
});

test('if the database client has not been generated, its use fails with an error that names the command', () => {
  const folder = mkdtempSync(join(tmpdir(), 'nodrop-clone-'));
  try {
    mkdirSync(join(folder, 'src/ledger'), { recursive: true });
    copyFileSync(join(root, 'src/generated.d.ts'), join(folder, 'src/generated.d.ts'));
    const { compilerOptions } = JSON.parse(read('tsconfig.json'));
    const settings = { compilerOptions: { ...compilerOptions, types: [] }, include: ['src'] };
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(settings));
    writeFileSync(
      join(folder, 'src/ledger/client.ts'),
      "import { Prisma, PrismaClient } from '../generated/prisma/client.ts';\nexport const db = new PrismaClient();\nexport const sql = Prisma.sql;\n",
    );
    const { stdout } = spawnSync(join(root, 'node_modules/.bin/tsc'), ['-p', folder], { encoding: 'utf8' });
    expect(stdout.match(/npm run setup/g), stdout).toHaveLength(2);
    expect(stdout.match(/error TS/g), stdout).toHaveLength(2);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('.nvmrc names the Node version of the image', () => {
  expect(read('.nvmrc').trim()).toBe(/^FROM node:([\d.]+)/m.exec(read('Dockerfile'))?.[1]);
});

test('.editorconfig has the same settings as Biome', () => {
  const { formatter } = JSON.parse(read('biome.json'));
  const setting = (name: string) => new RegExp(`^${name} = (.+)$`, 'm').exec(read('.editorconfig'))?.[1];
  expect(setting('indent_style')).toBe(formatter.indentStyle);
  expect(setting('indent_size')).toBe(String(formatter.indentWidth));
  expect(setting('max_line_length')).toBe(String(formatter.lineWidth));
});

test.each(readdirSync(join(root, '.github/ISSUE_TEMPLATE')))('GitHub accepts the issue form %s', (name) => {
  const form = parse(read(`.github/ISSUE_TEMPLATE/${name}`));
  if (name === 'config.yml') return expect(Object.keys(form)).toEqual(['blank_issues_enabled']);
  expect(form).toMatchObject({ name: expect.any(String), description: expect.any(String) });
  for (const { type, id, attributes } of form.body) {
    expect(['markdown', 'textarea', 'input']).toContain(type);
    if (type === 'markdown') expect(attributes.value).toEqual(expect.any(String));
    else expect([typeof id, typeof attributes.label]).toEqual(['string', 'string']);
  }
});
