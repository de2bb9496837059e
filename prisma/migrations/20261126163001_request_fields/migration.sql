-- A request under a key that stands for another one is told in which fields it differs.
ALTER TABLE "idempotency_keys" ADD COLUMN "request_fields" JSONB NOT NULL DEFAULT '{}';
