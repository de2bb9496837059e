-- What Prisma cannot express.
CREATE INDEX CONCURRENTLY "deliveries_redelivery_asked_idx" ON "deliveries" (merchant_id) WHERE redelivery_asked_at IS NOT NULL;
