-- When an event was last told, and when it is told again.
ALTER TABLE "deliveries" ADD COLUMN "last_attempt_at" TIMESTAMPTZ(3),
ADD COLUMN "retry_after" TIMESTAMPTZ(3),
ADD COLUMN "redelivery_asked_at" TIMESTAMPTZ(3);
