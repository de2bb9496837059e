-- See 20261127010001_payments_notify_nobody.
DROP TRIGGER "orders_changed" ON "orders";
DROP TRIGGER "orders_decided" ON "orders";
DROP FUNCTION nodrop_order_changed();
DROP FUNCTION nodrop_order_decided();
