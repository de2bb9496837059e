/**
 * A placeholder for the database client until it is generated: type errors then name the command that generates it.
 * TypeScript ignores this declaration once the generated client exists.
 */
declare module '*/generated/prisma/client.ts' {
  type Missing = 'The database client is not generated: npm run setup generates it.';
  // An object type and not `Missing`, because the type error of `new` then shows the text in full.
  export const PrismaClient: { 'The database client is not generated: npm run setup generates it.': never };
  export type PrismaClient = Missing;
  export const Prisma: Missing;
}
