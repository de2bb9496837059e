// npm run docs [-- --serve] [-- --base /nodrop/]
//
// Builds the docs site from the Markdown files of the repository and docs/openapi.json into docs-site/site, with
// nothing but installed packages. A dead link ends it with exit code 1. --serve then shows the site at
// http://localhost:4173; --base is the path under which a server will have it.
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildSite } from './docs-site/build.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const { values } = parseArgs({ options: { serve: { type: 'boolean' }, base: { type: 'string' } } });
try {
  const site = await buildSite(root, join(root, 'docs-site'), values.base);
  console.log(`The docs site is in ${site}: any web server can show it.`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}
if (values.serve) {
  const { serve } = await import('vitepress');
  await serve({ root: join(root, 'scripts/docs-site'), port: 4173 });
}
