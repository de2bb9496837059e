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
