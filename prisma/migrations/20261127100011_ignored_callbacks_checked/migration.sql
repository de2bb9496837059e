ALTER TABLE "ignored_callbacks" VALIDATE CONSTRAINT "ignored_callbacks_channel_account_id_fkey";
