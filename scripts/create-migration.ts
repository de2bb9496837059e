// node scripts/run.mjs scripts/create-migration.ts NAME
//
// Writes the migration from the present migrations to prisma/schema.prisma. Needs a running database (npm run stack)
// for a scratch database. Add what Prisma does not model (checks, partial indexes, triggers) by hand.
import { loadConfig } from '../src/config.ts';
import { exitWith, StackError } from '../src/stack/errors.ts';
import { createMigration } from '../src/stack/schema-drift.ts';

try {
  const name = process.argv[2];
  if (name === undefined || !/^[a-z0-9_]+$/.test(name)) {
    throw new StackError('A name for the migration is missing: give one of a-z, 0-9 and _.');
  }
  const file = await createMigration(loadConfig().databaseUrl, name);
  console.log(file ?? 'Nothing to migrate: the migrations already make what prisma/schema.prisma says.');
} catch (error) {
  exitWith(error);
}
