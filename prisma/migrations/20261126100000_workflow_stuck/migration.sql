-- A workflow that does not get on is shown to a person.
ALTER TABLE "payments" DROP CONSTRAINT "payments_attention_check";
ALTER TABLE "payments"
  ADD CONSTRAINT "payments_attention_check" CHECK (attention IN ('channel_unreachable', 'create_unknown', 'channel_undecided', 'order_update_failing', 'order_conflict', 'amount_mismatch', 'late_payment_review', 'refund_failing', 'statement_mismatch', 'disputed', 'channel_reversed', 'workflow_stuck'));

-- The event on which a payment waits is told by a workflow of its own when the payment's does not get on.
ALTER TABLE "deliveries" ADD COLUMN "handed_over_at" TIMESTAMPTZ(3);
