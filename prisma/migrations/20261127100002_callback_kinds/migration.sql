-- Callbacks of every kind, also those that name their trade by the channel's own id.
ALTER TABLE "callbacks"
  ADD COLUMN "kind" TEXT NOT NULL DEFAULT 'trade',
  ADD COLUMN "reference" TEXT,
  ADD CONSTRAINT "callbacks_kind_check" CHECK (kind IN ('trade', 'refund', 'dispute', 'notice')) NOT VALID;
