-- Keys that are spent by a refusal which can end are not counted: with a low balance a refund uses up as many as it takes.
ALTER TABLE "refunds"
  ADD COLUMN "spent_keys" INTEGER NOT NULL DEFAULT 0,
  DROP CONSTRAINT "refunds_attempt_check",
  ADD CONSTRAINT "refunds_attempt_check" CHECK (attempt BETWEEN 1 AND 9999) NOT VALID,
  ADD CONSTRAINT "refunds_spent_keys_check" CHECK (spent_keys >= 0) NOT VALID;
