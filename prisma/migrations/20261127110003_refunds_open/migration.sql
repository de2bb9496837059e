CREATE INDEX CONCURRENTLY "refunds_open_idx" ON "refunds" (created_at) WHERE status IN ('created', 'processing', 'needs_person') AND reason NOT IN ('external', 'dispute');
