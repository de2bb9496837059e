import { defineConfig } from 'vitest/config';
import { SlowestFirst } from './test/support/sequencer.ts';

const isRecording = process.env.NODROP_RECORD_HISTORIES !== undefined;

/** Test files that need no server, and so start at once. */
const PURE = [
  'test/{ci,contributing,docs,layers,notice,readable-log,versions,wording}.test.ts',
  'test/{channels,demo,domain}/**/*.test.ts',
  'test/workflows/replay{,-command}.test.ts',
];

export default defineConfig({
  test: {
    // The set-up of a project runs only when one of its files does.
    projects: [
      { extends: true, test: { name: 'pure', include: isRecording ? [] : PURE } },
      {
        extends: true,
        test: {
          name: 'servers',
          include: [isRecording ? 'test/histories/record.ts' : 'test/**/*.test.ts'],
          exclude: PURE,
          globalSetup: ['test/support/global-setup.ts'],
        },
      },
    ],
    // Temporal's native module does not survive worker threads.
    pool: 'forks',
    // Of three on two cores one mostly waits: for a sweep, an expiry, a process that starts again.
    maxWorkers: 3,
    sequence: { sequencer: SlowestFirst },
    // A net for what hangs. Tests wait with `eventually` (test/support/progress.ts), which gives up by itself.
    testTimeout: 900_000,
    hookTimeout: 900_000,
    expect: { poll: { timeout: 300_000 } },
    retry: 0,
    // A client of a server that the tests have stopped may be waiting to try again, and says so to nobody in particular.
    onUnhandledError: ({ message, stack }) =>
      !(message === 'Channel has been shut down' && stack?.includes('grpc-retry')),
  },
});
