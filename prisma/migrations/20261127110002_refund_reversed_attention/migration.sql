-- A refund that failed after it had succeeded is shown.
ALTER TABLE "payments"
  DROP CONSTRAINT "payments_attention_check",
  ADD CONSTRAINT "payments_attention_check" CHECK (attention IN ('channel_unreachable', 'create_unknown', 'channel_misconfigured', 'channel_undecided', 'order_update_failing', 'order_unknown', 'delivery_failing', 'order_conflict', 'amount_mismatch', 'late_payment_review', 'refund_failing', 'refund_reversed', 'statement_mismatch', 'disputed', 'channel_reversed', 'workflow_stuck')) NOT VALID;
