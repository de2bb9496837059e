-- Callbacks that named a trade before its reference was stored are due with it, however long they have waited.
CREATE FUNCTION hurry_callbacks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE callbacks SET next_sweep_at = NULL
  WHERE channel_account_id = NEW.channel_account_id AND reference = NEW.reference AND payment_id IS NULL;
  RETURN NULL;
END $$;

CREATE TRIGGER payments_reference_stored AFTER UPDATE OF reference ON payments
  FOR EACH ROW WHEN (NEW.reference IS NOT NULL AND OLD.reference IS DISTINCT FROM NEW.reference)
  EXECUTE FUNCTION hurry_callbacks();
