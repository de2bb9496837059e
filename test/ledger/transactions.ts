import { createLedgerClient } from '../../src/ledger/client.ts';

/** A process that runs transactions on the ledger until SIGTERM, and continues after a failed one. */

const db = createLedgerClient(process.argv[2] ?? '');
let stopping = false;
process.once('SIGTERM', () => {
  stopping = true;
});

const transaction = (): Promise<boolean> =>
  db
    .$transaction((tx) => tx.$queryRaw`SELECT 1`)
    .then(
      () => true,
      () => false,
    );

async function work(): Promise<void> {
  while (!stopping) await transaction();
}
// More than the pool has connections, so that each connection is reused immediately.
await Promise.all(Array.from({ length: 80 }, work));

// Waits until the ended connections are replaced.
while (!(await transaction()));
// After this, the process must exit without being told to.
await db.$disconnect();
