import { type Config, loadConfig } from '../../src/config.ts';

/** The paths of the tools. They come from the environment, which the tests read as every program reads it. */
export function toolSettings(): Config['stack'] {
  // No connection is opened to this database URL. It is set so that no data folder of an embedded stack is
  // needed.
  const other = { DATABASE_URL: 'postgresql://none', NODROP_SECRET: 'none'.repeat(8) };
  return loadConfig({ ...process.env, ...other }).stack;
}
