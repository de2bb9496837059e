-- What was there before `orders_paid_guard` keeps the same rule. In a migration of its own: reading all paid orders takes
-- long where there are many, and must not happen under the lock that makes a trigger.
DO $$
DECLARE
  unlike record;
BEGIN
  SELECT orders.merchant_id, orders.id INTO unlike FROM orders
    WHERE paid_payment_id IS NOT NULL AND NOT EXISTS (
      SELECT FROM payments
      WHERE payments.id = orders.paid_payment_id
        AND payments.merchant_id = orders.merchant_id AND payments.order_id = orders.id
        AND ((payments.amount = orders.amount AND payments.currency = orders.currency) OR settled_by = 'operator')
    ) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'order % of merchant % was paid by a payment that was not made for what it costs', unlike.id, unlike.merchant_id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'orders_paid_amount_check';
  END IF;
END $$;
