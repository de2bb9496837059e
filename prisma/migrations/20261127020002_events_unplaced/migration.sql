-- Those that have no place yet, in the order in which they get one.
CREATE INDEX CONCURRENTLY "events_unplaced_idx" ON "events" ("merchant_id", "created_at", "payment_id", "version") WHERE "seq" IS NULL;
