ALTER TABLE "payments" ADD COLUMN "account" TEXT;
