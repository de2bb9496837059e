import { runSlice } from './slice.ts';
import { obtainTools, SERVERS } from './tools.ts';
import { printSum } from './vitest.ts';

/** `npm run test:nodes`: runs only the part of `npm test` that runs on other versions of Node. */
const missing = await obtainTools([...SERVERS, 'nodes']);
printSum([{ passed: 0, failed: missing.length, skipped: new Map(), failures: missing }, ...runSlice()]);
