-- No other payment is created at its channel again. It commits every thousand payments, so that callbacks wait for the
-- rows of one batch at most. A batch passes over the rows that are locked: it waits for nobody while it holds others.
-- Those that stay locked are waited for one by one.
-- Idempotent: it fills what is empty, and can end and run again anywhere.
DO $$
DECLARE
  last text;
  batch text[];
BEGIN
  FOR round IN 1..5 LOOP
    last := '';
    LOOP
      SELECT array_agg(id), max(id) INTO batch, last FROM (
        SELECT id FROM payments WHERE id > last AND status IN ('created', 'paying') AND subject IS NULL
          ORDER BY id LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED
      ) AS next;
      EXIT WHEN batch IS NULL;
      UPDATE payments SET subject = orders.subject FROM orders
        WHERE payments.id = ANY (batch) AND orders.merchant_id = payments.merchant_id AND orders.id = payments.order_id;
      COMMIT;
    END LOOP;
    EXIT WHEN NOT EXISTS (SELECT FROM payments WHERE status IN ('created', 'paying') AND subject IS NULL);
    COMMIT;
    PERFORM pg_sleep(0.2);
  END LOOP;
  LOOP
    SELECT id INTO last FROM payments WHERE status IN ('created', 'paying') AND subject IS NULL ORDER BY id LIMIT 1;
    EXIT WHEN NOT FOUND;
    UPDATE payments SET subject = orders.subject FROM orders
      WHERE payments.id = last AND payments.status IN ('created', 'paying') AND payments.subject IS NULL
        AND orders.merchant_id = payments.merchant_id AND orders.id = payments.order_id;
    COMMIT;
  END LOOP;
END $$;
