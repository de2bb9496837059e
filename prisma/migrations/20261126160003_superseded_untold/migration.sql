-- Payments of an older ledger that wait for their order service though all of their money is back: the order service
-- is not told of them any more. Their refunds' events say that nothing pays the order.
UPDATE "deliveries" SET status = 'superseded', settled_at = now(), next_attempt_at = NULL, telling_until = NULL
  FROM "payments", "events"
  WHERE payments.id = deliveries.payment_id AND events.id = deliveries.event_id
    AND payments.order_update = 'pending' AND payments.refunded_amount >= payments.received_amount
    AND deliveries.status = 'pending' AND events.type = 'payment.succeeded';
UPDATE "payments" SET order_update = 'conflict', order_updated_at = now()
  WHERE order_update = 'pending' AND refunded_amount >= received_amount;
