import { type Config, loadConfig } from '../../src/config.ts';

/**
 * The paths of the tools, from the environment. The tests read the environment in the same way as nodrop's programs.
 */
export function toolSettings(): Config['stack'] {
  // No connection is opened to this database URL. It is set so that no data folder of an embedded stack is
  // needed.
  const other = { DATABASE_URL: 'postgresql://none', NODROP_SECRET: 'none'.repeat(8) };
  return loadConfig({ ...process.env, ...other }).stack;
}
