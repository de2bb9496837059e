import { obtainTools, SERVERS } from './tools.ts';

/**
 * `npm run setup`: prepares a fresh clone for an editor and for single tests. Before this starts, scripts/run.mjs has
 * installed the packages and generated the database client. This installs the servers that tests need.
 */
const missing = await obtainTools(SERVERS);
if (missing.length > 0) process.exitCode = 1;
else console.log('Ready: npm run dev runs nodrop, npx vitest run test/domain runs the fastest tests.');
