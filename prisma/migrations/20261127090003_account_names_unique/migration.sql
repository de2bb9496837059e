CREATE UNIQUE INDEX CONCURRENTLY "channel_accounts_merchant_id_channel_name_key" ON "channel_accounts"("merchant_id", "channel", "name");
