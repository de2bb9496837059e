import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { collectSite, DeadLinks, type Site } from './pages.ts';

const here = dirname(fileURLToPath(import.meta.url));

/** Checks that the target file and anchor of each link in the built site exist. */
function checkLinks(site: string, base: string): void {
  const files = readdirSync(site, { recursive: true, encoding: 'utf8' }).map((name) =>
    name.replaceAll('\\', '/'),
  );
  const pages = new Map(
    files
      .filter((name) => name.endsWith('.html'))
      .map((name) => [name, readFileSync(join(site, name), 'utf8')] as const),
  );
  const places = new Map(
    [...pages].map(([name, html]) => [
      name,
      new Set([...html.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id)),
    ]),
  );
  const known = new Set(files);
  const dead = [...pages].flatMap(([name, html]) =>
    [...html.matchAll(/<(?:a|img) [^>]*?(?:href|src)="([^"]+)"/g)].flatMap(([, target = '']) => {
      if (/^[a-z]+:/.test(target)) return [];
      const { pathname, hash } = new URL(target, `http://site${base}${name}`);
      const path = decodeURIComponent(pathname.slice(base.length));
      const file = path === '' || path.endsWith('/') ? `${path}index.html` : path;
      if (!known.has(file)) return [`${name}: ${target}`];
      const isThere = hash === '' || places.get(file)?.has(decodeURIComponent(hash.slice(1)));
      return isThere ? [] : [`${name}: ${target}`];
    }),
  );
  if (dead.length > 0) throw new DeadLinks(dead);
}

/** Writes the sources of the site to the folder that VitePress reads. */
function writeSources(root: string, work: string, { pages, files, groups }: Site, base: string): void {
  rmSync(work, { recursive: true, force: true });
  for (const { file, markdown } of pages) {
    mkdirSync(dirname(join(work, 'pages', file)), { recursive: true });
    writeFileSync(join(work, 'pages', file), markdown);
  }
  for (const [from, to] of files) cpSync(join(root, from), join(work, 'pages', 'public', to));
  writeFileSync(join(work, 'site.json'), JSON.stringify({ groups, base }));
}

/**
 * Builds the docs site of the repository in `root` into `work`/site.
 * @param work a folder that is emptied first.
 * @param base the path at which the site will be served, with a slash at both ends: `/` or `/nodrop/`.
 * @returns the site's folder.
 * @throws {DeadLinks} when a link's target does not exist.
 */
export async function buildSite(root: string, work: string, base = '/'): Promise<string> {
  writeSources(root, work, collectSite(root), base);
  process.env.NODROP_DOCS_WORK = work;
  const { build } = await import('vitepress');
  await build(here);
  const site = join(work, 'site');
  checkLinks(site, base);
  return site;
}
