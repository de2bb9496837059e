ALTER TABLE "callback_counts" VALIDATE CONSTRAINT "callback_counts_channel_account_id_fkey";
