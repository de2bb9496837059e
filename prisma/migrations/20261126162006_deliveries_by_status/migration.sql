-- The same of one status.
CREATE INDEX CONCURRENTLY "deliveries_merchant_id_status_created_at_id_idx" ON "deliveries"("merchant_id", "status", "created_at" DESC, "id" DESC);
