import { createLedgerClient } from '../../src/ledger/client.ts';

/** Runs transactions on the ledger until the process gets SIGTERM. Continues after a failed transaction. */

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
// The number of transactions is higher than the number of the pool's connections. So each connection is reused
// immediately.
await Promise.all(Array.from({ length: 80 }, work));

// Waits until new connections have replaced the connections that ended.
while (!(await transaction()));
// After this call, the process must exit without a second signal.
await db.$disconnect();
