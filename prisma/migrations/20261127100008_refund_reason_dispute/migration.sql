ALTER TABLE "refunds"
  DROP CONSTRAINT "refunds_reason_check",
  ADD CONSTRAINT "refunds_reason_check" CHECK (reason IN ('requested', 'duplicate_payment', 'late_payment', 'external', 'dispute')) NOT VALID;
