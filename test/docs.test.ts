import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

// Tests that the links of all pages lead to existing files and headings.

const root = fileURLToPath(new URL('..', import.meta.url));
const pages = [
  ...readdirSync(root),
  ...['docs', 'examples', 'clients'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name)),
  ),
].filter((name) => name.endsWith('.md') && !name.includes('node_modules'));

/** The text of a page without its code. */
const textOf = (page: string) =>
  readFileSync(join(root, page), 'utf8').replaceAll(/^```[\s\S]*?^```|`[^`\n]*`/gm, '');

/** The anchors that GitHub generates for the headings of a page. */
const anchorsOf = (page: string) =>
  [...readFileSync(join(root, page), 'utf8').matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replaceAll(' ', '-'),
  );

test.each(pages)('the links in %s lead to existing pages and headings', (page) => {
  const links = [...textOf(page).matchAll(/\]\(<?([^)\s>]+)>?[^)]*\)/g)].map(([, target = '']) => target);
  const broken = links
    .filter((target) => !/^[a-z]+:/.test(target))
    .filter((target) => {
      const [path = '', anchor] = target.split('#');
      const file = path === '' ? page : join(dirname(page), path);
      if (!existsSync(join(root, file))) return true;
      return anchor !== undefined && file.endsWith('.md') && !anchorsOf(file).includes(anchor);
    });
  expect(broken).toEqual([]);
});
