import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

/**
 * The value of Node's option `--import` that makes Node run TypeScript. It is a URL and not a package name, so that it
 * works in every working directory. It does not use `import.meta.resolve`, which does not exist in vitest's global
 * setup.
 */
export function tsxLoader(): string {
  return pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
}
