import { defineConfig } from 'prisma/config';

/** For the `prisma` command line; our own programs apply the migrations by src/stack/migrate.ts. */
export default defineConfig({
  schema: 'prisma/schema.prisma',
  migrations: { path: 'prisma/migrations' },
  datasource: { url: process.env.DATABASE_URL ?? 'postgresql://nodrop:nodrop@127.0.0.1:54329/nodrop' },
});
