-- Whether a merchant's order service answers, and when the events that wait for it are told before their time.
ALTER TABLE "merchants" ADD COLUMN "order_service_failing_since" TIMESTAMPTZ(3),
ADD COLUMN "order_service_answers_since" TIMESTAMPTZ(3),
ADD COLUMN "redelivery_due_at" TIMESTAMPTZ(3),
ADD COLUMN "redelivery_started_at" TIMESTAMPTZ(3);

ALTER TABLE "deliveries" ADD COLUMN "last_attempt_at" TIMESTAMPTZ(3),
ADD COLUMN "retry_after" TIMESTAMPTZ(3),
ADD COLUMN "redelivery_asked_at" TIMESTAMPTZ(3);

-- Events other than the one on which a payment waits are shown too when their order service does not answer.
ALTER TABLE "payments"
  DROP CONSTRAINT "payments_attention_check",
  ADD CONSTRAINT "payments_attention_check" CHECK (attention IN ('channel_unreachable', 'create_unknown', 'channel_undecided', 'order_update_failing', 'delivery_failing', 'order_conflict', 'amount_mismatch', 'late_payment_review', 'refund_failing', 'statement_mismatch', 'disputed', 'channel_reversed', 'workflow_stuck')) NOT VALID;

-- The sweep finds what nobody shows by the deliveries that wait, whatever they are of.
DROP INDEX "payments_pending_idx";
