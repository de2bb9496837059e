// node scripts/complete-lock.mjs
//
// Run this after an `npm install` that changed dependencies. Some company registries do not have binaries of other
// platforms. npm then leaves those optional packages out of package-lock.json, and `npm ci` rejects such a lock file on
// every machine. This script adds the missing entries. npm still installs a package only on the package's own platform.
import { readFileSync, writeFileSync } from 'node:fs';

const FILE = new URL('../package-lock.json', import.meta.url);
const SYSTEMS = {
  android: 'android',
  darwin: 'darwin',
  linux: 'linux',
  win32: 'win32',
  windows: 'win32',
  freebsd: 'freebsd',
  netbsd: 'netbsd',
  openbsd: 'openbsd',
  sunos: 'sunos',
  aix: 'aix',
  openharmony: 'openharmony',
};
const CPUS = ['arm64', 'x64', 'ia32', 'arm', 'ppc64', 's390x', 'riscv64', 'loong64', 'mips64el', 'wasm32'];

const lock = JSON.parse(readFileSync(FILE, 'utf8'));

/**
 * Looks up a package as Node does: first in the package's own node_modules, then in the node_modules of each parent
 * folder.
 */
function isLocked(name, from) {
  for (
    let at = from;
    ;
    at = at.includes('/node_modules/') ? at.slice(0, at.lastIndexOf('/node_modules/')) : ''
  ) {
    if (lock.packages[`${at === '' ? '' : `${at}/`}node_modules/${name}`] !== undefined) return true;
    if (at === '') return false;
  }
}

/** Creates an entry from a package name that contains the platform, for example `@esbuild/linux-arm64`. */
function entryFor(name, version, parent) {
  const words = name.toLowerCase().split(/[-/@_]/);
  const os = words.map((word) => SYSTEMS[word]).find((system) => system !== undefined);
  const cpu = words.includes('armhf') ? 'arm' : words.find((word) => CPUS.includes(word));
  return {
    version,
    ...(cpu && { cpu: [cpu] }),
    ...(parent.dev && { dev: true }),
    ...(words.includes('musl') && { libc: ['musl'] }),
    ...(words.includes('gnu') && { libc: ['glibc'] }),
    optional: true,
    ...(os && { os: [os] }),
  };
}

let added = 0;
for (const [path, parent] of Object.entries(lock.packages)) {
  for (const [name, range] of Object.entries(parent.optionalDependencies ?? {})) {
    const version = /^[~^]?(\d+\.\d+\.\d+\S*)$/.exec(range)?.[1];
    if (version === undefined || isLocked(name, path)) continue;
    lock.packages[`node_modules/${name}`] = entryFor(name, version, parent);
    added += 1;
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(FILE, `${JSON.stringify(lock, null, 2)}\n`);
console.log(`${added} packages for other platforms were added to package-lock.json.`);
