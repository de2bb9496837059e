import { type Config, loadConfig } from '../../src/config.ts';

/** Where the tools are, from the environment as every program reads it. */
export function toolSettings(): Config['stack'] {
  // A database of its own, which nobody opens: no data folder of an embedded stack is needed.
  const other = { DATABASE_URL: 'postgresql://none', NODROP_SECRET: 'none'.repeat(8) };
  return loadConfig({ ...process.env, ...other }).stack;
}
