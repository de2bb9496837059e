-- No other payment is created at its channel again. It commits every thousand payments, so that callbacks wait for the
-- rows of one batch at most.
-- Idempotent: it fills what is empty, and can end and run again anywhere.
DO $$
DECLARE
  last text := '';
  batch text[];
BEGIN
  LOOP
    SELECT array_agg(id), max(id) INTO batch, last FROM (
      SELECT id FROM payments WHERE id > last AND status IN ('created', 'paying') AND subject IS NULL ORDER BY id LIMIT 1000
    ) AS next;
    EXIT WHEN batch IS NULL;
    UPDATE payments SET subject = orders.subject FROM orders
      WHERE payments.id = ANY (batch) AND payments.status IN ('created', 'paying') AND payments.subject IS NULL
        AND orders.merchant_id = payments.merchant_id AND orders.id = payments.order_id;
    COMMIT;
  END LOOP;
END $$;
