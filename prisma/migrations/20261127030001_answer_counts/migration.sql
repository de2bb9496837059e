-- A query that is answered as the one before is counted on the payment instead of noted on its timeline.
ALTER TABLE "payments" ADD COLUMN "channel_state_since" TIMESTAMPTZ(3), ADD COLUMN "channel_state_count" INTEGER NOT NULL DEFAULT 0;
