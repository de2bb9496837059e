// node dist/worker/bundle-main.js [FILE]
//
// Bundles the workflows: as a step of the build, so that workers need not do it at each start, and for a worker that runs
// from source.
import { writeFileSync } from 'node:fs';
import { bundleWorkflows, PREBUILT_BUNDLE } from './bundle.ts';

const [file = PREBUILT_BUNDLE] = process.argv.slice(2);
const { code } = await bundleWorkflows();
writeFileSync(file, code);
