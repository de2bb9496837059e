import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from '@temporalio/worker';
import { beforeAll, describe, expect, test } from 'vitest';
import { workflowBundle } from '../../src/worker/bundle.ts';

/**
 * Tests that workflow code can replay the histories of running workflows. Payments run for days, and deploys do not
 * wait for them. If this test fails, add `patched()` to the change. Do not replace the histories.
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

test('there are committed histories to replay', () => {
  expect(files.length).toBeGreaterThanOrEqual(10);
});

describe.each(files)('%s', (file) => {
  test('a committed history replays with the current code', async () => {
    const history = JSON.parse(readFileSync(join(HISTORIES, file), 'utf8'));
    await Worker.runReplayHistory({ workflowBundle: bundle }, history);
  });
});
