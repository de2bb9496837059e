ALTER TABLE "deliveries" VALIDATE CONSTRAINT "deliveries_status_check";
ALTER TABLE "payments" VALIDATE CONSTRAINT "payments_pending_holds_money_check";
