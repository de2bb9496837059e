-- The key that a refund is asked for under, and what is known of it; refunds that need a person, or failed after success.
ALTER TABLE "refunds"
  ADD COLUMN "attempt" INTEGER NOT NULL DEFAULT 1,
  ADD COLUMN "key_spent_at" TIMESTAMPTZ(3),
  ADD COLUMN "absent_at" TIMESTAMPTZ(3),
  ADD COLUMN "looked_again_at" TIMESTAMPTZ(3),
  DROP CONSTRAINT "refunds_status_check",
  ADD CONSTRAINT "refunds_status_check" CHECK (status IN ('created', 'processing', 'needs_person', 'succeeded', 'failed', 'reversed')) NOT VALID,
  ADD CONSTRAINT "refunds_attempt_check" CHECK (attempt BETWEEN 1 AND 9) NOT VALID;

-- As before, and: a reversed refund gives nothing back and stays so. What others have in process at the channel is a fact
-- as what they gave back is: it is recorded beside promises that it leaves too little for.
CREATE OR REPLACE FUNCTION nodrop_refund_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  received bigint;
  others bigint;
BEGIN
  SELECT received_amount INTO received FROM payments WHERE id = NEW.payment_id FOR NO KEY UPDATE;
  IF TG_OP = 'UPDATE' THEN
    IF OLD.status = 'reversed' AND NEW.status <> 'reversed' THEN
      RAISE EXCEPTION 'refund % is reversed for good', OLD.id USING ERRCODE = 'check_violation';
    END IF;
  END IF;
  IF NEW.status IN ('failed', 'reversed') OR (NEW.reason = 'external' AND NEW.status <> 'succeeded') THEN
    RETURN NEW;
  END IF;
  IF NEW.status <> 'succeeded' AND TG_OP = 'UPDATE' THEN
    IF OLD.status <> 'failed' AND NEW.amount <= OLD.amount THEN
      RETURN NEW;
    END IF;
  END IF;
  SELECT COALESCE(SUM(amount), 0) INTO others FROM refunds
    WHERE payment_id = NEW.payment_id AND id <> NEW.id
      AND (CASE WHEN NEW.status = 'succeeded' THEN status = 'succeeded' ELSE status NOT IN ('failed', 'reversed') END);
  IF others + NEW.amount > COALESCE(received, 0) THEN
    RAISE EXCEPTION 'refunds of payment % would exceed what it received', NEW.payment_id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'refunds_within_received_check';
  END IF;
  RETURN NEW;
END $$;
