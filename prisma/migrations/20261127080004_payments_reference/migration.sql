-- No two payments of an account have the same trade.
CREATE UNIQUE INDEX CONCURRENTLY "payments_reference_key" ON "payments" ("channel_account_id", "reference") WHERE "reference" IS NOT NULL;
