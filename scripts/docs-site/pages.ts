// Collects the pages of the docs site: the repository's Markdown files, with links rewritten to the site's addresses.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, extname, join, posix } from 'node:path';
import { type OpenApi, referencePages } from './api-reference.ts';

export interface Page {
  /** Path in the site's source folder, for example `channels/stripe.md`. */
  readonly file: string;
  readonly title: string;
  readonly markdown: string;
}

export interface Item {
  readonly text: string;
  readonly link: string;
}

export interface Group {
  readonly text: string;
  readonly items: readonly Item[];
}

export interface Site {
  readonly pages: readonly Page[];
  /** Files that are served unchanged. Each entry has the path in the repository and the path in the site. */
  readonly files: ReadonlyMap<string, string>;
  readonly groups: readonly Group[];
}

/** Thrown when links have targets that do not exist. */
export class DeadLinks extends Error {
  constructor(links: readonly string[]) {
    super(`The targets of these links do not exist:\n${links.map((link) => `  ${link}`).join('\n')}`);
    this.name = 'DeadLinks';
  }
}

/** Pages that are not in docs, with their paths in the site. */
const OTHER_PAGES: Readonly<Record<string, string>> = {
  'README.md': 'about.md',
  'CONTRIBUTING.md': 'contributing/start.md',
  'SECURITY.md': 'contributing/security.md',
  'CHANGELOG.md': 'changelog.md',
  'clients/js/README.md': 'clients/js.md',
  'examples/receiver/README.md': 'examples/receiver.md',
  'examples/shop/README.md': 'examples/shop.md',
};

/** The groups of the sidebar in their order. A name that ends with a slash adds all pages of that folder. */
const GROUPS: readonly (readonly [string, readonly string[]])[] = [
  ['Start', ['docs/quickstarts/', 'docs/first-integration.md', 'docs/sandbox.md', 'README.md']],
  [
    'Integrate',
    [
      'docs/three-things-your-shop-must-do.md',
      'docs/order-service.md',
      'docs/events',
      'docs/adopt.md',
      'docs/cashier.md',
      'clients/js/README.md',
      'docs/generated-clients.md',
      'examples/shop/README.md',
      'examples/receiver/README.md',
    ],
  ],
  ['Channels', ['docs/channels/']],
  ['API reference', ['docs/openapi.json']],
  ['Operate', ['docs/operations.md', 'docs/configuration.md', 'docs/performance.md']],
  ['Understand', ['docs/architecture.md', 'docs/ledger.md', 'docs/decisions/']],
  ['Contribute', ['CONTRIBUTING.md', 'docs/contributing/', 'SECURITY.md', 'CHANGELOG.md']],
];
/** The group to which all other pages in docs are added. */
const REST = 'Integrate';
/** Folders with too many pages for the sidebar: only their index page is listed. */
const INDEX_ONLY = ['docs/decisions/'];

/**
 * The banner of the site's first page. It is shown above the text of docs/README.md. It is not in the front matter of
 * that file, because code hosts such as GitHub show front matter.
 */
const HOME = {
  layout: 'home',
  hero: {
    name: 'nodrop',
    text: 'Payments that never go missing',
    tagline:
      'When the payer has paid, the order becomes paid or the money is given back, whatever callback, process, database or network fails on the way.',
    actions: [
      { theme: 'brand', text: 'Quickstarts', link: '/quickstarts/' },
      { theme: 'alt', text: 'API reference', link: '/api/' },
      { theme: 'alt', text: 'About nodrop', link: '/about' },
    ],
  },
};

const siteFileOf = (path: string): string =>
  OTHER_PAGES[path] ?? path.replace(/^docs\//, '').replace(/(^|\/)README\.md$/, '$1index.md');
const linkTo = (file: string) => `/${file}`;
const CODE = /(^[ \t]*```[\s\S]*?^[ \t]*```[ \t]*$|`[^`\n]*`)/m;
const titleOf = (markdown: string) => /^# (.+)$/m.exec(markdown)?.[1]?.replaceAll('`', '') ?? '';

/** Wraps code in a fence that is longer than any fence inside the code. */
function fenced(language: string, code: string): string {
  const longest = Math.max(2, ...[...code.matchAll(/`{3,}/g)].map(([ticks]) => ticks.length));
  const fence = '`'.repeat(longest + 1);
  return `${fence}${language}\n${code.trimEnd()}\n${fence}`;
}

const LANGUAGES: Readonly<Record<string, string>> = {
  '.ts': 'ts',
  '.js': 'js',
  '.mjs': 'js',
  '.json': 'json',
  '.sql': 'sql',
  '.css': 'css',
  '.py': 'python',
  '.php': 'php',
  '.java': 'java',
  '.xml': 'xml',
  '.yml': 'yaml',
};

/**
 * @param root the repository.
 * @throws {DeadLinks} when a page links to a file that does not exist.
 */
export function collectSite(root: string): Site {
  const read = (path: string) => readFileSync(join(root, path), 'utf8');
  const inFolder = (folder: string) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .map((name) => posix.join(folder, name.replaceAll('\\', '/')))
      .sort();
  const docs = inFolder('docs').filter((path) => path.endsWith('.md'));
  const written = [...docs, ...Object.keys(OTHER_PAGES).filter((path) => existsSync(join(root, path)))];
  const pages = new Map<string, Page>();
  const files = new Map<string, string>();
  const dead: string[] = [];

  /** @returns the site's address of a repository file. Adds a page for a source file or a folder that has no page. */
  function addressOf(path: string): string | undefined {
    if (written.includes(path)) return linkTo(siteFileOf(path));
    const target = join(root, path);
    if (!existsSync(target)) return undefined;
    if (statSync(target).isDirectory()) {
      const index = posix.join(path, 'README.md');
      return written.includes(index) ? linkTo(siteFileOf(index)) : linkTo(addListing(path));
    }
    if (path.startsWith('docs/images/') || path === 'docs/openapi.json') {
      const file = path.replace(/^docs\//, '');
      files.set(path, file);
      return linkTo(file);
    }
    return linkTo(addSource(path));
  }

  function addSource(path: string): string {
    const file = `source/${path}.md`;
    // Only examples get syntax highlighting, because highlighting all sources would take longer than the rest of the
    // build.
    const language = path.startsWith('examples/') ? LANGUAGES[extname(path)] : undefined;
    const code = fenced(language ?? 'text', read(path));
    pages.set(file, {
      file,
      title: path,
      markdown: `---\nsearch: false\noutline: false\n---\n\n# ${basename(path)}\n\n\`${path}\`\n\n${code}\n`,
    });
    return file;
  }

  /**
   * Adds a page for a folder. The page of a folder in docs has one section per file. The page of a source folder has
   * only the file names.
   */
  function addListing(path: string): string {
    const file = `${path.replace(/^docs\//, '')}/index.md`;
    const inside = inFolder(path).filter((name) => statSync(join(root, name)).isFile());
    if (!path.startsWith('docs/')) {
      const names = inside.map((name) => `- \`${name}\``).join('\n');
      pages.set(file, { file, title: path, markdown: `---\nsearch: false\n---\n\n# ${path}\n\n${names}\n` });
      return file;
    }
    const sections = inside.map((name) => {
      const extension = extname(name);
      return `## ${basename(name, extension)}\n\n${fenced(LANGUAGES[extension] ?? 'text', read(name))}`;
    });
    const title = path === 'docs/events' ? 'Sample events' : path;
    pages.set(file, { file, title, markdown: `# ${title}\n\n${sections.join('\n\n')}\n` });
    return file;
  }

  function rewritten(path: string): string {
    const lead = (target: string): string => {
      if (/^[a-z]+:/.test(target) || target.startsWith('#') || target.startsWith('/')) return target;
      const [name = '', place] = target.split('#');
      const address = addressOf(posix.normalize(posix.join(dirname(path), name)).replace(/\/$/, ''));
      if (address === undefined) dead.push(`${path}: ${target}`);
      return `${address}${place === undefined ? '' : `#${place}`}`;
    };
    return read(path)
      .split(CODE)
      .map((text, index) =>
        index % 2 === 1
          ? text.replace(/^```mermaid$/m, '```text')
          : text
              .replaceAll(
                /\]\(<?([^)\s>]+)>?((?:\s+"[^"]*")?)\)/g,
                (_, target: string, title: string) => `](${lead(target)}${title})`,
              )
              .replaceAll(
                /(<img [^>]*?src=")([^"]+)"/g,
                (_, start: string, target: string) => `${start}${lead(target)}"`,
              ),
      )
      .join('');
  }

  for (const path of written) {
    const text = rewritten(path);
    const isHome = siteFileOf(path) === 'index.md';
    // The page's title is left out, because the banner (`HOME`) shows the name.
    const markdown = isHome ? `---\n${JSON.stringify(HOME)}\n---\n${text.replace(/^# .+$/m, '')}` : text;
    pages.set(siteFileOf(path), { file: siteFileOf(path), title: titleOf(text), markdown });
  }
  if (existsSync(join(root, 'docs/openapi.json'))) files.set('docs/openapi.json', 'openapi.json');
  const reference = existsSync(join(root, 'docs/openapi.json'))
    ? referencePages(JSON.parse(read('docs/openapi.json')) as OpenApi).map(({ file, title, markdown }) => ({
        file: `api/${file}`,
        title,
        markdown: `${markdown}\n`,
      }))
    : [];
  for (const page of reference) pages.set(page.file, page);
  if (dead.length > 0) throw new DeadLinks(dead);

  const itemOf = ({ file, title }: Page): Item => ({
    text: title,
    link: linkTo(file.replace(/(^|\/)index\.md$/, '$1').replace(/\.md$/, '')),
  });
  const pageOf = (path: string) => pages.get(siteFileOf(path)) ?? pages.get(`${siteFileOf(path)}/index.md`);
  const isNamed = (path: string) =>
    path === 'docs/README.md' ||
    GROUPS.some(([, names]) =>
      names.some((name) => name === path || (name.endsWith('/') && path.startsWith(name))),
    );
  const groups = GROUPS.map(([text, names]) => {
    const named = names.flatMap((name): readonly Page[] => {
      if (name === 'docs/openapi.json') return reference;
      const index = pageOf(`${name}README.md`);
      if (INDEX_ONLY.includes(name) && index !== undefined) return [index];
      if (!name.endsWith('/')) return [pageOf(name)].flatMap((page) => page ?? []);
      const others = docs.filter((path) => path.startsWith(name) && path !== `${name}README.md`);
      return [index, ...others.map(pageOf)].flatMap((page) => page ?? []);
    });
    const rest = text === REST ? docs.filter((path) => !isNamed(path)).map(pageOf) : [];
    return { text, items: [...named, ...rest].flatMap((page) => (page === undefined ? [] : itemOf(page))) };
  });
  return { pages: [...pages.values()], files, groups: groups.filter(({ items }) => items.length > 0) };
}
