-- Whether a merchant's order service answers, and when the events that wait for it are told before their time.
ALTER TABLE "merchants" ADD COLUMN "order_service_failing_since" TIMESTAMPTZ(3),
ADD COLUMN "order_service_answers_since" TIMESTAMPTZ(3),
ADD COLUMN "redelivery_due_at" TIMESTAMPTZ(3),
ADD COLUMN "redelivery_started_at" TIMESTAMPTZ(3);
