-- AlterTable
ALTER TABLE "refunds" ADD COLUMN     "asked_amount" BIGINT,
ADD COLUMN     "asked_at" TIMESTAMPTZ(3);

-- What Prisma cannot express.
ALTER TABLE "refunds" DROP CONSTRAINT "refunds_amount_check";
ALTER TABLE "refunds"
  -- Zero only when the channel names more than came in, and all of that is recorded by other refunds.
  ADD CONSTRAINT "refunds_amount_check" CHECK (
    amount BETWEEN 0 AND 9007199254740991 AND (amount > 0 OR asked_amount IS NOT NULL)
  ),
  ADD CONSTRAINT "refunds_asked_amount_check" CHECK (asked_amount BETWEEN 1 AND 9007199254740991);

-- Money is promised only within what no other refund has promised or given back. What has gone back is a fact, also
-- when it leaves too little for a promise: that one fails at the channel. The row lock makes two refunds at once see
-- each other.
CREATE OR REPLACE FUNCTION nodrop_refund_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  received bigint;
  others bigint;
BEGIN
  SELECT received_amount INTO received FROM payments WHERE id = NEW.payment_id FOR NO KEY UPDATE;
  IF NEW.status = 'failed' THEN
    RETURN NEW;
  END IF;
  IF NEW.status <> 'succeeded' AND TG_OP = 'UPDATE' THEN
    IF OLD.status <> 'failed' AND NEW.amount <= OLD.amount THEN
      RETURN NEW;
    END IF;
  END IF;
  SELECT COALESCE(SUM(amount), 0) INTO others FROM refunds
    WHERE payment_id = NEW.payment_id AND id <> NEW.id
      AND (CASE WHEN NEW.status = 'succeeded' THEN status = 'succeeded' ELSE status <> 'failed' END);
  IF others + NEW.amount > COALESCE(received, 0) THEN
    RAISE EXCEPTION 'refunds of payment % would exceed what it received', NEW.payment_id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'refunds_within_received_check';
  END IF;
  RETURN NEW;
END $$;
