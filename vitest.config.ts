import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: [
      process.env.NODROP_RECORD_HISTORIES === undefined ? 'test/**/*.test.ts' : 'test/histories/record.ts',
    ],
    // Temporal's native module does not survive worker threads.
    pool: 'forks',
    // Two cores: more at once only makes real servers starve each other.
    maxWorkers: 2,
    globalSetup: ['test/support/global-setup.ts'],
    testTimeout: 120_000,
    hookTimeout: 300_000,
    retry: 0,
    // A client of a server that the tests have stopped may be waiting to try again, and says so to nobody in particular.
    onUnhandledError: ({ message, stack }) =>
      !(message === 'Channel has been shut down' && stack?.includes('grpc-retry')),
  },
});
