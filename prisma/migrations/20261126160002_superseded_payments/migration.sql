-- No payment waits for goods to go out for money that is back.
ALTER TABLE "payments" ADD CONSTRAINT "payments_pending_holds_money_check" CHECK (
  order_update IS DISTINCT FROM 'pending' OR refunded_amount < received_amount
) NOT VALID;
