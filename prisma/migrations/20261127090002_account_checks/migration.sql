ALTER TABLE "channel_accounts" VALIDATE CONSTRAINT "channel_accounts_mode_check";
ALTER TABLE "channel_accounts" VALIDATE CONSTRAINT "channel_accounts_name_check";
