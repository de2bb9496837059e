-- A trade that the merchant's own code has made: it is watched, and nodrop's own to end or give back only when it says so.
ALTER TABLE "payments"
  ADD COLUMN "adopted" TEXT,
  ADD CONSTRAINT "payments_adopted_check" CHECK (adopted IS NULL OR (adopted IN ('watched', 'own') AND reference IS NOT NULL AND status <> 'created' AND next_action IS NULL)) NOT VALID;
