-- What an order service that fails says, and that it does not know the order.
ALTER TABLE "delivery_attempts" ADD COLUMN "answer" TEXT,
  DROP CONSTRAINT "delivery_attempts_outcome_check",
  ADD CONSTRAINT "delivery_attempts_outcome_check" CHECK (outcome IN ('agreed', 'conflict', 'gone', 'order_unknown', 'not_applied', 'unknown')) NOT VALID,
  ADD CONSTRAINT "delivery_attempts_answer_check" CHECK (char_length(answer) BETWEEN 1 AND 512) NOT VALID;
