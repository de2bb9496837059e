ALTER TABLE "payments" VALIDATE CONSTRAINT "payments_adopted_check";
