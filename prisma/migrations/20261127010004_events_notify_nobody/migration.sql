-- See 20261127010001_payments_notify_nobody.
DROP TRIGGER "events_recorded" ON "events";
DROP FUNCTION nodrop_event_recorded();
