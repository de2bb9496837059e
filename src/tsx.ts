import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

/**
 * What Node needs to run TypeScript, for `--import`: an address instead of a name, so that the working directory does
 * not matter. Not `import.meta.resolve`, which does not exist in vitest's global set-up.
 */
export function tsxLoader(): string {
  return pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
}
