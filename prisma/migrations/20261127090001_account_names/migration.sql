-- Several accounts of a merchant at a channel. Those that are there are named "main", are their merchant's only one, and are
-- the simulator's.
ALTER TABLE "channel_accounts"
    ADD COLUMN "name" TEXT NOT NULL DEFAULT 'main',
    ADD COLUMN "is_merchant_default" BOOLEAN NOT NULL DEFAULT true,
    ADD COLUMN "mode" TEXT NOT NULL DEFAULT 'test',
    ADD COLUMN "disabled_at" TIMESTAMPTZ(3),
    ADD CONSTRAINT "channel_accounts_mode_check" CHECK (mode IN ('test', 'live')) NOT VALID,
    ADD CONSTRAINT "channel_accounts_name_check" CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,31}$') NOT VALID;
