-- AlterTable
ALTER TABLE "payments" ADD COLUMN     "unverified_queries" INTEGER NOT NULL DEFAULT 0;

-- What Prisma cannot express.
ALTER TABLE "unverified_callbacks"
  ADD CONSTRAINT "unverified_callbacks_head_check" CHECK (octet_length(body_head) <= 4096);
