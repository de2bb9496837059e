import { createLedgerClient } from '../../src/ledger/client.ts';

/** A process that runs transactions on the ledger until SIGTERM, and goes on when one fails. */

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
// More than there are connections, so that each is handed on at once.
await Promise.all(Array.from({ length: 80 }, work));

// The connections that were ended are replaced.
while (!(await transaction()));
// Nothing else may keep this process.
await db.$disconnect();
