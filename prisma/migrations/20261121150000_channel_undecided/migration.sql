-- A channel that does not decide is shown to a person.
ALTER TABLE "payments" DROP CONSTRAINT "payments_attention_check";
ALTER TABLE "payments"
  ADD CONSTRAINT "payments_attention_check" CHECK (attention IN ('channel_unreachable', 'create_unknown', 'channel_undecided', 'order_update_failing', 'order_conflict', 'amount_mismatch', 'late_payment_review', 'refund_failing', 'statement_mismatch', 'disputed', 'channel_reversed'));
