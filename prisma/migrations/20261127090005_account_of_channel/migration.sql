DROP INDEX CONCURRENTLY IF EXISTS "channel_accounts_merchant_id_channel_key";
