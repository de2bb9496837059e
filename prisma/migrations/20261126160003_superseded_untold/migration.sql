-- Payments of an older ledger that wait for their order service though all of their money is back: the order service
-- is not told of them any more. Their refunds' events say that nothing pays the order.
-- Each payment is a transaction of its own under its order's lock, as in the service: order, payment, delivery.
-- Idempotent: it changes what still waits, and can end and run again anywhere.
DO $$
DECLARE
  last text := '';
  untold record;
BEGIN
  LOOP
    SELECT id, merchant_id, order_id INTO untold FROM payments
      WHERE id > last AND order_update = 'pending' AND refunded_amount >= received_amount ORDER BY id LIMIT 1;
    EXIT WHEN NOT FOUND;
    last := untold.id;
    PERFORM FROM orders WHERE merchant_id = untold.merchant_id AND id = untold.order_id FOR UPDATE;
    UPDATE payments SET order_update = 'conflict', order_updated_at = now()
      WHERE id = untold.id AND order_update = 'pending' AND refunded_amount >= received_amount;
    IF FOUND THEN
      UPDATE deliveries SET status = 'superseded', settled_at = now(), next_attempt_at = NULL, telling_until = NULL
        FROM events
        WHERE deliveries.payment_id = untold.id AND events.id = deliveries.event_id
          AND deliveries.status = 'pending' AND events.type = 'payment.succeeded';
    END IF;
    COMMIT;
  END LOOP;
END $$;
