-- Waiters are notified after the commit (src/ledger/notify.ts), and never in a transaction that touches money.
DROP TRIGGER "payments_changed" ON "payments";
DROP TRIGGER "payments_attempt_made" ON "payments";
DROP TRIGGER "payments_attempt_changed" ON "payments";
DROP FUNCTION nodrop_payment_changed();
DROP FUNCTION nodrop_attempt_changed();
