ALTER TABLE "refunds" VALIDATE CONSTRAINT "refunds_attempt_check";
ALTER TABLE "refunds" VALIDATE CONSTRAINT "refunds_spent_keys_check";
