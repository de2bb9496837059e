// npm run docs [-- --serve] [-- --base /nodrop/]
//
// Builds the docs site from the repository's Markdown files and docs/openapi.json into docs-site/site. Needs only
// installed packages. Exits with 1 if there is a dead link. --base is the path at which the site will be published, for
// example /nodrop/. --serve serves the built site at http://127.0.0.1:4173, at the same path.
import { dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildSite } from './docs-site/build.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const { values } = parseArgs({ options: { serve: { type: 'boolean' }, base: { type: 'string' } } });
const base = posix.join('/', values.base ?? '/', '/');
const PORT = 4173;
let site: string;
try {
  site = await buildSite(root, join(root, 'docs-site'), base);
  console.log(`The docs site is in ${site}. Any web server can serve it.`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}
if (values.serve) {
  const { default: express } = await import('express');
  const shown = express().use(base, express.static(site, { extensions: ['html'] }));
  // VitePress's own server is not used, because it listens on every address of the machine.
  shown.listen(PORT, '127.0.0.1', (error) => {
    if (error !== undefined) throw error;
    console.log(`It is served at http://127.0.0.1:${PORT}${base}. Ctrl-C stops it.`);
  });
}
