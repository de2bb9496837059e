import { defineConfig } from 'vitest/config';
import { SlowestFirst } from './test/support/sequencer.ts';

export default defineConfig({
  test: {
    include: [
      process.env.NODROP_RECORD_HISTORIES === undefined ? 'test/**/*.test.ts' : 'test/histories/record.ts',
    ],
    // Temporal's native module does not survive worker threads.
    pool: 'forks',
    // Of three on two cores one mostly waits: for a sweep, an expiry, a process that starts again.
    maxWorkers: 3,
    sequence: { sequencer: SlowestFirst },
    globalSetup: ['test/support/global-setup.ts'],
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
