CREATE UNIQUE INDEX CONCURRENTLY "channel_accounts_merchant_default_key" ON "channel_accounts"("merchant_id", "channel")
    WHERE is_merchant_default;
