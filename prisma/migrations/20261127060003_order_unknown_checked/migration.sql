ALTER TABLE "payments" VALIDATE CONSTRAINT "payments_attention_check";
ALTER TABLE "delivery_attempts" VALIDATE CONSTRAINT "delivery_attempts_outcome_check";
ALTER TABLE "delivery_attempts" VALIDATE CONSTRAINT "delivery_attempts_answer_check";
