-- The trade of a payment is always asked for with the same terms, whatever becomes of its order's subject.
-- AlterTable
ALTER TABLE "payments" ADD COLUMN     "subject" TEXT;

-- What Prisma cannot express.
-- What a payment was made for never changes, nor that an operator has accepted its money: so a paid order that is
-- checked once stays right.
CREATE FUNCTION nodrop_payment_terms_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (NEW.merchant_id, NEW.order_id, NEW.amount, NEW.currency)
       IS DISTINCT FROM (OLD.merchant_id, OLD.order_id, OLD.amount, OLD.currency) THEN
    RAISE EXCEPTION 'the order, amount and currency of payment % never change', OLD.id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'payments_terms_check';
  END IF;
  IF OLD.settled_by = 'operator' AND NEW.settled_by IS DISTINCT FROM 'operator' THEN
    RAISE EXCEPTION 'an operator has accepted the money of payment %', OLD.id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'payments_terms_check';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER "payments_terms_guard" BEFORE UPDATE OF merchant_id, order_id, amount, currency, settled_by ON "payments"
  FOR EACH ROW EXECUTE FUNCTION nodrop_payment_terms_guard();
