// node scripts/run.mjs scripts/create-migration.ts NAME
//
// Writes the migrations from the present ones to prisma/schema.prisma, and says where they break the rules for tables in
// use. Needs a running database (npm run stack) for a scratch database. Add what Prisma does not model (checks, partial
// indexes, triggers) by hand.
import { loadConfig } from '../src/config.ts';
import { exitWith, StackError } from '../src/stack/errors.ts';
import { createMigration } from '../src/stack/schema-drift.ts';

try {
  const name = process.argv[2];
  if (name === undefined || !/^[a-z0-9_]+$/.test(name)) {
    throw new StackError('A name for the migration is missing: give one of a-z, 0-9 and _.');
  }
  const { files, broken } = await createMigration(loadConfig().databaseUrl, name);
  console.log(
    files.join('\n') || 'Nothing to migrate: the migrations already make what prisma/schema.prisma says.',
  );
  if (broken.length > 0) {
    console.error(`Change these by hand (docs/ledger.md, Migrations):\n${broken.join('\n')}`);
  }
} catch (error) {
  exitWith(error);
}
