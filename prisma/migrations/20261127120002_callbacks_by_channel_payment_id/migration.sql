CREATE INDEX CONCURRENTLY "callbacks_channel_payment_id_idx" ON "callbacks" (channel_account_id, channel_payment_id) WHERE payment_id IS NULL AND channel_payment_id IS NOT NULL;
