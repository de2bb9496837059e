// Makes the folder cjs, which `require` loads. `npm pack` runs this script, so the folder exists only in the package.
// tsc writes the code of the folder (see tsconfig.json), and this script copies the types. With --remove it deletes the
// folder.
import { copyFileSync, rmSync, writeFileSync } from 'node:fs';

const folder = new URL('cjs/', import.meta.url);

if (process.argv.includes('--remove')) rmSync(folder, { recursive: true, force: true });
else {
  for (const types of ['index.d.ts', 'server.d.ts', 'api.d.ts'])
    copyFileSync(new URL(types, import.meta.url), new URL(types, folder));
  // This package.json makes Node read the .js files in its folder as CommonJS.
  writeFileSync(new URL('package.json', folder), '{ "type": "commonjs" }\n');
}
