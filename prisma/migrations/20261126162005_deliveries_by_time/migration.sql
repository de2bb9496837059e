-- A merchant's list: a page reads its rows alone, however many there are.
CREATE INDEX CONCURRENTLY "deliveries_merchant_id_created_at_id_idx" ON "deliveries"("merchant_id", "created_at" DESC, "id" DESC);
