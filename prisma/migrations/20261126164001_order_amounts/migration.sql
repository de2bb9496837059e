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

-- A paid order is paid by a payment of its own that was made for its amount and currency, unless an operator accepted
-- the difference. That what came in is what the payment was made for is `payments_exact_amount_check`. A composite
-- foreign key could not leave out what an operator accepted, and needs another index on every payment.
CREATE FUNCTION nodrop_order_paid_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (
    SELECT FROM payments
    WHERE id = NEW.paid_payment_id AND merchant_id = NEW.merchant_id AND order_id = NEW.id
      AND ((amount = NEW.amount AND currency = NEW.currency) OR settled_by = 'operator')
  ) THEN
    RAISE EXCEPTION 'payment % was not made for what order % costs', NEW.paid_payment_id, NEW.id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'orders_paid_amount_check';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER "orders_paid_guard"
  BEFORE INSERT OR UPDATE OF merchant_id, id, status, paid_payment_id, amount, currency ON "orders"
  FOR EACH ROW WHEN (NEW.paid_payment_id IS NOT NULL) EXECUTE FUNCTION nodrop_order_paid_guard();
