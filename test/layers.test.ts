import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

// Tests that Biome refuses or allows each import between two folders as the graph of the layers in docs/architecture.md
// says.

const root = fileURLToPath(new URL('..', import.meta.url));
const biome = join(root, 'node_modules/.bin/biome');
const TYPES_ONLY = '-. types .->';

const page = readFileSync(join(root, 'docs/architecture.md'), 'utf8');
const graph = /## Layers\n[\s\S]*?```mermaid\n([\s\S]*?)```/.exec(page)?.[1] ?? '';
const arrows = graph
  .replaceAll(/\[".*?"\]/g, '')
  .split('\n')
  .flatMap((line) => {
    const [, from, arrow, to] = /^ *([\w-]+) (-->|-\. types \.->) ([\w-]+)$/.exec(line) ?? [];
    return from === undefined || to === undefined ? [] : [{ from, arrow, to }];
  });
const layers = [...new Set(arrows.flatMap(({ from, to }) => [from, to]))];

/** The layers that a layer may import: all layers that its arrows reach, directly or through other layers. */
function below(layer: string): string[] {
  const next = arrows.filter(({ from, arrow }) => from === layer && arrow !== TYPES_ONLY).map(({ to }) => to);
  return [...new Set(next.flatMap((to) => [to, ...below(to)]))];
}

/** Folders whose code imports nodrop's code and is not part of nodrop. */
const OUTSIDE = ['bench', 'scripts', 'test'];

/** The folders in which a layer's files may be. */
function placesOf(layer: string): string[] {
  if (OUTSIDE.includes(layer)) return [layer];
  if (layer === 'settings') return ['src'];
  if (layer === 'clients') return ['clients/js'];
  if (layer === 'examples') return ['examples/shop'];
  if (layer === 'api' || layer === 'channels') return [`src/${layer}`, `src/${layer}/deeper`];
  return [`src/${layer}`];
}

interface Case {
  /** The path of the importing file, from the root. */
  readonly file: string;
  readonly text: string;
}

/** A file with one import of another layer. */
function caseOf(place: string, name: string, target: string, imports: (path: string) => string): Case {
  const path = relative(place, `${target}/${name}-module.ts`);
  return {
    file: `${place}/${name}.ts`,
    text: `${imports(path.startsWith('.') ? path : `./${path}`)}\n`,
  };
}

const pairs = layers.flatMap((from) =>
  [...layers, ...OUTSIDE]
    // Imports by generated code are not checked.
    .filter((to) => to !== from && from !== 'generated')
    .map((to) => {
      const [target = ''] = placesOf(to);
      const cases = placesOf(from).map((place) =>
        caseOf(place, `imports-${to}`, target, (path) => `import '${path}';`),
      );
      return { from, to, cases };
    }),
);
const allowed = pairs.filter(({ from, to }) => below(from).includes(to)).flatMap(({ cases }) => cases);
const refused = pairs.filter(({ from, to }) => !below(from).includes(to)).flatMap(({ cases }) => cases);

const typesOnly = arrows
  .filter(({ arrow }) => arrow === TYPES_ONLY)
  .flatMap(({ from, to }) => [
    caseOf(
      `src/${from}`,
      `types-of-${to}`,
      `src/${to}`,
      (path) => `export type { ChannelActivities } from '${path}';`,
    ),
  ]);
const valuesOfTypesOnly = arrows
  .filter(({ arrow }) => arrow === TYPES_ONLY)
  .flatMap(({ from, to }) =>
    ['{ channelActivities }', '* as everything'].map((what, index) =>
      caseOf(
        `src/${from}`,
        `values-of-${to}-${index}`,
        `src/${to}`,
        (path) => `export ${what} from '${path}';`,
      ),
    ),
  );
const cycle: Case[] = [
  { file: 'src/ledger/one.ts', text: "import type { Two } from './two.ts';\n\nexport type One = Two;\n" },
  { file: 'src/ledger/two.ts', text: "import type { One } from './one.ts';\n\nexport type Two = One;\n" },
];

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** Runs `biome ci` with the project's settings on a folder with only these files. */
function check(cases: readonly Case[]) {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'nodrop-layers-')));
  folders.push(folder);
  for (const name of ['biome.json', '.gitignore']) copyFileSync(join(root, name), join(folder, name));
  for (const { file, text } of cases) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), text);
  }
  const { status, stdout, stderr } = spawnSync(
    biome,
    ['ci', '--error-on-warnings', '--colors=off', '--reporter=github', '--max-diagnostics=none', '.'],
    { cwd: folder, encoding: 'utf8' },
  );
  const found = [...stdout.matchAll(/^::\w+ title=([\w/]+),file=(.+?),line=/gm)].map(
    ([, rule, file = '']) => ({
      rule,
      file: relative(folder, resolve(folder, file)),
    }),
  );
  return { status, found, output: stdout + stderr };
}

test('the graph of layers contains every folder of src', () => {
  const names = readdirSync(join(root, 'src'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && readdirSync(join(root, 'src', entry.name)).length > 0)
    .map(({ name }) => name);
  expect(names.filter((name) => !layers.includes(name))).toEqual([]);
});

test('no folder imports the folder of a program, such as api or worker', () => {
  for (const program of ['api', 'worker', 'cli', 'demo', 'simulator']) {
    expect(layers).toContain(program);
    expect(arrows.filter(({ to }) => to === program)).toEqual([]);
  }
});

test('Biome accepts every import that the graph of layers allows', () => {
  const { status, output } = check([...allowed, ...typesOnly]);
  expect(status, output).toBe(0);
});

describe('Biome refuses every import that the graph of layers does not allow', () => {
  let result: ReturnType<typeof check>;
  beforeAll(() => {
    result = check([...refused, ...valuesOfTypesOnly, ...cycle]);
  });

  const filesWith = (wanted: string) =>
    result.found.filter(({ rule }) => rule === wanted).map(({ file }) => file);
  /** The imports that Biome should have refused, but accepted. */
  const passed = (cases: readonly Case[]) => {
    const found = filesWith('lint/style/noRestrictedImports');
    return cases.filter(({ file }) => !found.includes(file));
  };

  test.each(layers.filter((layer) => layer !== 'generated'))('in a file of %s', (layer) => {
    const cases = refused.filter(({ file }) => placesOf(layer).includes(dirname(file)));
    expect(cases).not.toEqual([]);
    expect(passed(cases)).toEqual([]);
    expect(result.status).toBe(1);
  });

  test('of a value, if the graph allows only types of the imported layer', () => {
    expect(valuesOfTypesOnly).not.toEqual([]);
    expect(passed(valuesOfTypesOnly)).toEqual([]);
  });

  test('that closes a cycle, even if the import is only of types', () => {
    expect(filesWith('lint/suspicious/noImportCycles').sort()).toEqual(cycle.map(({ file }) => file));
  });
});
