/**
 * A placeholder for the database client until it is generated: type errors then name the command that generates it.
 * TypeScript ignores this declaration once the generated client exists.
 */
declare module '*/generated/prisma/client.ts' {
  type Missing = 'The database client is not generated: npm run setup generates it.';
  // This is an object type and not `Missing`, because the type error of `new` shows the full text only for an
  // object type.
  export const PrismaClient: { 'The database client is not generated: npm run setup generates it.': never };
  export type PrismaClient = Missing;
  export const Prisma: Missing;
}
