CREATE INDEX CONCURRENTLY "payments_channel_payment_id_idx" ON "payments" (channel_account_id, channel_payment_id) WHERE channel_payment_id IS NOT NULL;
