CREATE INDEX CONCURRENTLY "refunds_to_look_again_idx" ON "refunds" (settled_at) WHERE status = 'succeeded' AND reason NOT IN ('external', 'dispute') AND looked_again_at IS NULL;
