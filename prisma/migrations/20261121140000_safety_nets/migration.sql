-- A notification id that comes again with another trade, or with other news of the same one, is another callback.
-- AlterTable
ALTER TABLE "callbacks" ADD COLUMN     "content_hash" TEXT NOT NULL DEFAULT '';

-- DropIndex
DROP INDEX "callbacks_channel_account_id_notification_id_key";

-- CreateIndex
CREATE UNIQUE INDEX "callbacks_notification_key" ON "callbacks"("channel_account_id", "notification_id", "out_trade_no", "content_hash");

-- What the sweep looks for: its cost follows the anomalies.
DROP INDEX "callbacks_undelivered_idx";
CREATE INDEX "callbacks_undelivered_idx" ON "callbacks" (received_at) WHERE delivered_at IS NULL AND payment_id IS NOT NULL;
CREATE INDEX "orders_cancelling_idx" ON "orders" (cancel_requested_at) WHERE status IN ('unpaid', 'paying') AND cancel_requested_at IS NOT NULL;
