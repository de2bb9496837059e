CREATE INDEX CONCURRENTLY "callbacks_reference_idx" ON "callbacks" (channel_account_id, reference) WHERE payment_id IS NULL AND reference IS NOT NULL;
