CREATE UNIQUE INDEX CONCURRENTLY "refunds_external_key" ON "refunds" (payment_id, channel_refund_id) WHERE reason = 'external';
