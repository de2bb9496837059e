CREATE INDEX CONCURRENTLY "callbacks_payment_refunds_idx" ON "callbacks" (payment_id) WHERE kind = 'refund' AND payment_id IS NOT NULL;
