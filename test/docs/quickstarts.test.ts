// Tests docs/quickstarts: types the commands of its pages unchanged into a shell, with a real npm start.
import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EVENT_TYPES } from '../../src/domain/event.ts';
import { LANGUAGES } from '../examples/languages.ts';
import { eventually } from '../support/stack.ts';
import { Desk } from './desk.ts';

const READY = { node: 'The receiver accepts events at', php: 'Development Server' } as Record<string, string>;
const PAGES = [{ name: 'node', isHere: () => true }, ...LANGUAGES];

let desk: Desk;

beforeAll(async () => {
  desk = await Desk.open('quickstarts/node.md');
});

afterAll(async () => {
  await desk?.close();
});

test('each quickstart page has a test', () => {
  const pages = readdirSync(new URL('../../docs/quickstarts', import.meta.url)).sort();
  expect(pages).toEqual(['README.md', ...PAGES.map(({ name }) => `${name}.md`)].sort());
});

test('the command in docs/quickstarts/php.md passes to php-fpm every setting that the receiver reads', () => {
  const text = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
  const names = (path: string, rule: RegExp) => [
    ...new Set([...text(path).matchAll(rule)].map(([, name]) => name)),
  ];
  const read = names('examples/quickstart-php/receiver.php', /setting\('(\w+)'\)/g);
  expect(read).not.toEqual([]);
  expect(names('docs/quickstarts/php.md', /^env\[(\w+)\] = \$\1$/gm).sort()).toEqual(read.sort());
});

for (const { name, isHere } of PAGES) {
  test.skipIf(!isHere())(
    `docs/quickstarts/${name}.md leads to an order that the receiver has marked as paid`,
    async () => {
      const typed = async (block: string | undefined) => {
        const { code, output } = await desk.shell.type(block ?? '');
        expect(code, `${block}\n${output}`).toBe(0);
        return output;
      };
      const [start, merchant, ...blocks] = desk.blocksOf(`quickstarts/${name}.md`);
      expect(start).toBe('npm start');
      const [testEvents, pay, payByWords, again] = blocks.splice(-4);
      const receiver = blocks.pop() ?? '';
      // The commands of this block can be run again without harm.
      for (const _ of [1, 2])
        expect(await typed(merchant)).toContain(`The database ${name}_shop has its tables.`);
      // The remaining blocks, if there are any, install the receiver's dependencies.
      for (const block of blocks) await typed(block);
      const terminal = await desk.terminal(receiver, READY[name] ?? READY.node ?? '');
      try {
        const table = await typed(testEvents);
        for (const type of EVENT_TYPES)
          expect(table).toMatch(new RegExp(`^${type.replace('.', '\\.')} +200 `, 'm'));
        expect(await typed(pay)).toMatch(
          /^Order order-1 is \w+: pay at http:\/\/127\.0\.0\.1:\d+\/checkout\/pay_\w+/m,
        );
        expect(await typed(payByWords)).toMatch(/^Order order-2 is /m);
        await eventually(async () => /^Order order-2 is paid by pay_\w+\.$/m.test(await typed(again)));
      } finally {
        await desk.interrupt(terminal);
      }
    },
  );
}
