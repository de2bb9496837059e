-- See 20261127010001_payments_notify_nobody.
DROP TRIGGER "refunds_changed" ON "refunds";
DROP FUNCTION nodrop_refund_changed();
