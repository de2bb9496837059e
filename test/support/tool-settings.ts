import { type Config, loadConfig } from '../../src/config.ts';

/** The paths of the tools, from the environment, read as every program reads them. */
export function toolSettings(): Config['stack'] {
  // A database URL that is never opened, so that no data folder of an embedded stack is needed.
  const other = { DATABASE_URL: 'postgresql://none', NODROP_SECRET: 'none'.repeat(8) };
  return loadConfig({ ...process.env, ...other }).stack;
}
