import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { defineConfig } from 'vitepress';
import type { Group } from '../pages.ts';
import { languageOf } from './language.ts';

/** The work folder. build.ts writes the sources of the site to it, and VitePress writes the built site to it. */
const work = process.env.NODROP_DOCS_WORK ?? '';
const { groups, base } = JSON.parse(readFileSync(join(work, 'site.json'), 'utf8')) as {
  groups: readonly Group[];
  base: string;
};

/** Generates the same heading anchors as code hosts such as GitHub, so that a link works there and on this site. */
const slugify = (heading: string) =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replaceAll(' ', '-');

export default defineConfig({
  title: 'nodrop',
  description: 'A payment service in which no order is dropped.',
  base,
  srcDir: join(work, 'pages'),
  outDir: join(work, 'site'),
  cacheDir: join(work, 'cache'),
  lang: 'en',
  markdown: {
    anchor: { slugify },
    theme: { light: 'github-light-high-contrast', dark: 'github-dark-high-contrast' },
  },
  transformHtml: (html, id) => {
    // Adds the main landmark for screen readers, which the theme's home page does not have.
    const page = html.replace('<div class="VPContent is-home"', '<div role="main" class="VPContent is-home"');
    return page.replace('<html lang="en"', `<html lang="${languageOf(id)}"`);
  },
  themeConfig: {
    nav: [
      { text: 'Quickstarts', link: '/quickstarts/' },
      { text: 'API reference', link: '/api/' },
      { text: 'Operations', link: '/operations' },
    ],
    sidebar: groups.map(({ text, items }) => ({ text, items: [...items] })),
    outline: { level: [2, 3] },
    search: { provider: 'local', options: { detailedView: true } },
    docFooter: { prev: false, next: false },
  },
});
