ALTER TABLE "payments" VALIDATE CONSTRAINT "payments_attention_check";
