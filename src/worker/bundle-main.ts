// node dist/worker/bundle-main.js [FILE]
// Bundles the workflow code. The build runs this program, so that workers need not bundle at each start. A worker that
// runs from source runs this program when it starts.
import { writeFileSync } from 'node:fs';
import { bundleWorkflows, PREBUILT_BUNDLE } from './bundle.ts';

const [file = PREBUILT_BUNDLE] = process.argv.slice(2);
const { code } = await bundleWorkflows();
writeFileSync(file, code);
