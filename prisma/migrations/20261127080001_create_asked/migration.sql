-- When a trade was first asked to be created, that it gives no next action any more, when it can be closed; and a payment
-- whose channel does not take our credentials is shown as that.
ALTER TABLE "payments"
  ADD COLUMN "create_asked_at" TIMESTAMPTZ(3),
  ADD COLUMN "no_action_since" TIMESTAMPTZ(3),
  ADD COLUMN "close_not_before" TIMESTAMPTZ(3),
  DROP CONSTRAINT "payments_attention_check",
  ADD CONSTRAINT "payments_attention_check" CHECK (attention IN ('channel_unreachable', 'create_unknown', 'channel_misconfigured', 'channel_undecided', 'order_update_failing', 'order_unknown', 'delivery_failing', 'order_conflict', 'amount_mismatch', 'late_payment_review', 'refund_failing', 'statement_mismatch', 'disputed', 'channel_reversed', 'workflow_stuck')) NOT VALID;
