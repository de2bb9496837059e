-- What a channel wants to know of an account, encrypted under NODROP_SECRET.
CREATE TABLE "channel_credentials" (
    "id" TEXT NOT NULL,
    "account_id" TEXT NOT NULL,
    "ciphertext" BYTEA NOT NULL,
    "hint" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "expires_at" TIMESTAMPTZ(3),

    CONSTRAINT "channel_credentials_pkey" PRIMARY KEY ("id")
);

CREATE INDEX "channel_credentials_account_id_idx" ON "channel_credentials"("account_id");
ALTER TABLE "channel_credentials" ADD CONSTRAINT "channel_credentials_account_id_fkey" FOREIGN KEY ("account_id") REFERENCES "channel_accounts"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
