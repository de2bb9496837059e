CREATE INDEX CONCURRENTLY "payments_noticed_idx" ON "payments" (last_query_due_at) WHERE noticed_at IS NOT NULL;
