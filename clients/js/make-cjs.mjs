// Run by `npm pack`. The folder cjs is what `require` loads; it is only in the package. tsc writes its code (see
// tsconfig.json), and this script copies its types. With --remove it deletes the folder.
import { copyFileSync, rmSync, writeFileSync } from 'node:fs';

const folder = new URL('cjs/', import.meta.url);

if (process.argv.includes('--remove')) rmSync(folder, { recursive: true, force: true });
else {
  for (const types of ['index.d.ts', 'server.d.ts', 'api.d.ts'])
    copyFileSync(new URL(types, import.meta.url), new URL(types, folder));
  // package.json makes Node read the folder's .js files as CommonJS.
  writeFileSync(new URL('package.json', folder), '{ "type": "commonjs" }\n');
}
