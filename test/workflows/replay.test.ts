import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from '@temporalio/worker';
import { beforeAll, describe, expect, test } from 'vitest';
import { workflowBundle } from '../../src/worker/bundle.ts';

/**
 * Payments run for days, deploys do not wait for them: workflow code must still replay the histories of what is
 * running. A failure here means `patched()` is missing around the change, not that the histories need replacing.
 */

const HISTORIES = join(import.meta.dirname, '..', 'histories');
const files = readdirSync(HISTORIES, { recursive: true })
  .map(String)
  .filter((name) => name.endsWith('.json'))
  .sort();

let bundle: Awaited<ReturnType<typeof workflowBundle>>;
beforeAll(async () => {
  bundle = await workflowBundle();
});

test('there are histories to replay', () => {
  expect(files.length).toBeGreaterThanOrEqual(10);
});

describe.each(files)('%s', (file) => {
  test('replays', async () => {
    const history = JSON.parse(readFileSync(join(HISTORIES, file), 'utf8'));
    await Worker.runReplayHistory({ workflowBundle: bundle }, history);
  });
});
