// Of `npm pack`: makes cjs, what `require` loads, a folder that only the package has. tsc has written its code
// (tsconfig.json); here its types come beside it. With --remove it goes again.
import { copyFileSync, rmSync, writeFileSync } from 'node:fs';

const folder = new URL('cjs/', import.meta.url);

if (process.argv.includes('--remove')) rmSync(folder, { recursive: true, force: true });
else {
  for (const types of ['index.d.ts', 'server.d.ts', 'api.d.ts'])
    copyFileSync(new URL(types, import.meta.url), new URL(types, folder));
  // Files that end in .js are CommonJS in here.
  writeFileSync(new URL('package.json', folder), '{ "type": "commonjs" }\n');
}
