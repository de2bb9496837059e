-- No other payment is created at its channel again.
UPDATE "payments" SET subject = orders.subject FROM "orders"
  WHERE payments.status IN ('created', 'paying')
    AND orders.merchant_id = payments.merchant_id AND orders.id = payments.order_id;
