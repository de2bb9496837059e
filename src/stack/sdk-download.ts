// node sdk-download.ts cli|test-server FOLDER
//
// The Temporal SDK's own download, as a process of its own because it has no deadline and cannot be called off: it
// downloads into FOLDER, and starts the server once to see that it runs.
import { TestWorkflowEnvironment } from '@temporalio/testing';

const [kind, downloadDir = ''] = process.argv.slice(2);
const server = { executable: { type: 'cached-download', downloadDir } } as const;
const environment =
  kind === 'cli'
    ? await TestWorkflowEnvironment.createLocal({ server })
    : await TestWorkflowEnvironment.createTimeSkipping({ server });
await environment.teardown();
