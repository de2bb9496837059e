// node sdk-download.ts cli|test-server FOLDER
//
// Runs the Temporal SDK's download of a server into FOLDER, and starts the server once as a check. It is a separate
// process, because the SDK's download has no deadline and cannot be cancelled.
import { TestWorkflowEnvironment } from '@temporalio/testing';

const [kind, downloadDir = ''] = process.argv.slice(2);
const server = { executable: { type: 'cached-download', downloadDir } } as const;
const environment =
  kind === 'cli'
    ? await TestWorkflowEnvironment.createLocal({ server })
    : await TestWorkflowEnvironment.createTimeSkipping({ server });
await environment.teardown();
