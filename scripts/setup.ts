import { obtainTools, SERVERS } from './tools.ts';

/**
 * `npm run setup`: what a fresh clone needs for an editor and for single tests. scripts/run.mjs has installed the
 * packages and generated the database client before this starts; the servers of the tests are obtained here.
 */
const missing = await obtainTools(SERVERS);
if (missing.length > 0) process.exitCode = 1;
else console.log('Ready: npm run dev runs nodrop, npx vitest run test/domain runs the fastest tests.');
