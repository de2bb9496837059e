ALTER TABLE "refunds" VALIDATE CONSTRAINT "refunds_replaced_by_fkey";
ALTER TABLE "refunds" VALIDATE CONSTRAINT "refunds_replaced_by_check";
