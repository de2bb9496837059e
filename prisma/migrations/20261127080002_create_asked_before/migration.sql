-- What an earlier release was creating may have reached the channel.
UPDATE "payments" SET "create_asked_at" = "created_at" WHERE "status" = 'created' AND "create_asked_at" IS NULL;
