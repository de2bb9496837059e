import { spawnSync } from 'node:child_process';
import { obtainTools, SERVERS } from './tools.ts';

/** `npm run histories`: records workflow histories, see test/histories/record.ts. */
const missing = await obtainTools(SERVERS);
const env = { ...process.env, NODROP_RECORD_HISTORIES: '1' };
const args = ['node_modules/vitest/vitest.mjs', 'run'];
process.exitCode =
  missing.length > 0 ? 1 : (spawnSync(process.execPath, args, { stdio: 'inherit', env }).status ?? 1);
