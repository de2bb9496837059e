/**
 * What an editor shows in place of the database client until that is generated: its errors then name the command. Once
 * there is a client, TypeScript prefers it and does not look here.
 */
declare module '*/generated/prisma/client.ts' {
  type Missing = 'The database client is not generated: npm run setup generates it.';
  // Written out, because the error of `new` shows such a type in full.
  export const PrismaClient: { 'The database client is not generated: npm run setup generates it.': never };
  export type PrismaClient = Missing;
  export const Prisma: Missing;
}
