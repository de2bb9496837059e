-- Callbacks that named what the payer paid before its id was stored are due with it, however long they have waited.
CREATE FUNCTION hurry_callbacks_of_channel_payment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE callbacks SET next_sweep_at = NULL
  WHERE channel_account_id = NEW.channel_account_id AND channel_payment_id = NEW.channel_payment_id
    AND payment_id IS NULL;
  RETURN NULL;
END $$;

CREATE TRIGGER payments_channel_payment_stored AFTER UPDATE OF channel_payment_id ON payments
  FOR EACH ROW WHEN (NEW.channel_payment_id IS NOT NULL AND OLD.channel_payment_id IS DISTINCT FROM NEW.channel_payment_id)
  EXECUTE FUNCTION hurry_callbacks_of_channel_payment();
