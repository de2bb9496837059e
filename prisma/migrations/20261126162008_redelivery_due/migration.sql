-- What Prisma cannot express.
CREATE INDEX CONCURRENTLY "merchants_redelivery_due_idx" ON "merchants" (redelivery_due_at) WHERE redelivery_due_at IS NOT NULL;
