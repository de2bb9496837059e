-- The channel's own id of a trade, and what its adapter keeps with it.
ALTER TABLE "payments" ADD COLUMN "reference" TEXT, ADD COLUMN "reference_data" JSONB;
