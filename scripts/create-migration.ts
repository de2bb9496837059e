// node scripts/run.mjs scripts/create-migration.ts NAME
//
// Compares the present migrations with prisma/schema.prisma, writes the migrations that are missing, and reports where
// they break the rules for tables in use. Needs a running database server (npm run stack) to create a scratch database.
// Add CHECK constraints, partial indexes and triggers by hand, because Prisma does not model them.
import { loadConfig } from '../src/config.ts';
import { exitWith, StackError } from '../src/stack/errors.ts';
import { createMigration } from '../src/stack/schema-drift.ts';

try {
  const name = process.argv[2];
  if (name === undefined || !/^[a-z0-9_]+$/.test(name)) {
    throw new StackError('The name of the migration is missing: give a name with a-z, 0-9 and _.');
  }
  const { files, broken } = await createMigration(loadConfig().databaseUrl, name);
  console.log(files.join('\n') || 'Nothing to migrate: the migrations already match prisma/schema.prisma.');
  if (broken.length > 0) {
    console.error(`Change these by hand (docs/ledger.md, Migrations):\n${broken.join('\n')}`);
  }
} catch (error) {
  exitWith(error);
}
