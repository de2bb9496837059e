ALTER TABLE "refunds" VALIDATE CONSTRAINT "refunds_status_check";
ALTER TABLE "refunds" VALIDATE CONSTRAINT "refunds_attempt_check";
ALTER TABLE "payments" VALIDATE CONSTRAINT "payments_attention_check";
