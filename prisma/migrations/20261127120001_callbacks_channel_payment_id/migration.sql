-- A refund or a dispute that is made at the channel may name its trade by nothing else.
ALTER TABLE "callbacks" ADD COLUMN "channel_payment_id" TEXT;
