-- AlterTable
ALTER TABLE "orders" ADD COLUMN     "recovered_at" TIMESTAMPTZ(3);

-- AlterTable
ALTER TABLE "payments" ADD COLUMN     "recovered_at" TIMESTAMPTZ(3);

-- What Prisma cannot express.
-- A payment whose row was lost and written again is never created at the channel, and gives its payer nothing to do.
ALTER TABLE "payments"
  ADD CONSTRAINT "payments_recovered_check" CHECK (recovered_at IS NULL OR (status <> 'created' AND next_action IS NULL));
