-- An event that was not told yet, and is not told any more: what it says has ceased to be so.
ALTER TABLE "deliveries"
  DROP CONSTRAINT "deliveries_status_check",
  ADD CONSTRAINT "deliveries_status_check" CHECK (status IN ('pending', 'delivered', 'conflict', 'gone', 'superseded')) NOT VALID;

-- No payment waits for goods to go out for money that is back.
ALTER TABLE "payments" ADD CONSTRAINT "payments_pending_holds_money_check" CHECK (
  order_update IS DISTINCT FROM 'pending' OR refunded_amount < received_amount
) NOT VALID;
