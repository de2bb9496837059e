-- A refund that the channel refused, and the one that is owed in its place.
ALTER TABLE "refunds" ADD COLUMN     "replaced_by" TEXT;

-- AddForeignKey
ALTER TABLE "refunds" ADD CONSTRAINT "refunds_replaced_by_fkey" FOREIGN KEY ("replaced_by") REFERENCES "refunds"("id") ON DELETE SET NULL ON UPDATE CASCADE NOT VALID;

-- What Prisma cannot express.
ALTER TABLE "refunds"
  -- Only what gives nothing back is replaced: else the money would go back twice.
  ADD CONSTRAINT "refunds_replaced_by_check" CHECK (replaced_by IS NULL OR (status = 'failed' AND replaced_by <> id)) NOT VALID;
