import { obtainTools, SERVERS } from './tools.ts';

/**
 * `npm run setup`: prepares a fresh clone for an editor and for single tests. scripts/run.mjs first installs the
 * packages and generates the database client. Then this script installs the servers that tests need.
 */
const missing = await obtainTools(SERVERS);
if (missing.length > 0) process.exitCode = 1;
else console.log('Ready: npm run dev runs nodrop, npx vitest run test/domain runs the fastest tests.');
